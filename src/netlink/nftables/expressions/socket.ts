import type { ExpressionCodec } from './codec.ts';

// enum nft_socket_attributes
export const NFTA_SOCKET_KEY = 1;
export const NFTA_SOCKET_DREG = 2;
export const NFTA_SOCKET_LEVEL = 3;

// enum nft_socket_keys
export const NFT_SOCKET_TRANSPARENT = 0;
export const NFT_SOCKET_MARK = 1;
export const NFT_SOCKET_WILDCARD = 2;

/** A property of the socket that the packet belongs to, into a register: `socket transparent 1` is TRANSPARENT, compared with 1. */
export interface Socket {
  readonly type: 'socket';
  readonly key: number;
  readonly dreg: number;
}

export const socket: ExpressionCodec<Socket> = {
  name: 'socket',
  encode(expression, writer) {
    writer.attrU32be(NFTA_SOCKET_KEY, expression.key);
    writer.attrU32be(NFTA_SOCKET_DREG, expression.dreg);
    // Only cgroup matches have levels; nft writes the zero, and so do we.
    writer.attrU32be(NFTA_SOCKET_LEVEL, 0);
  },
  decode(reader) {
    let key = 0;
    let dreg = 0;
    while (reader.next()) {
      if (reader.type === NFTA_SOCKET_KEY) key = reader.u32be();
      else if (reader.type === NFTA_SOCKET_DREG) dreg = reader.u32be();
    }
    return { type: 'socket', key, dreg };
  },
};
