import type { ExpressionCodec } from './codec.ts';

// enum nft_payload_attributes, the loading half
export const NFTA_PAYLOAD_DREG = 1;
export const NFTA_PAYLOAD_BASE = 2;
export const NFTA_PAYLOAD_OFFSET = 3;
export const NFTA_PAYLOAD_LEN = 4;

// enum nft_payload_bases
export const NFT_PAYLOAD_LL_HEADER = 0;
export const NFT_PAYLOAD_NETWORK_HEADER = 1;
export const NFT_PAYLOAD_TRANSPORT_HEADER = 2;

/** Packet bytes into a register: `ip saddr` is 4 bytes at 12 of the network header, `tcp dport` 2 bytes at 2 of the transport header. */
export interface Payload {
  readonly type: 'payload';
  readonly dreg: number;
  readonly base: number;
  readonly offset: number;
  /** In bytes. */
  readonly length: number;
}

export const payload: ExpressionCodec<Payload> = {
  name: 'payload',
  encode(expression, writer) {
    writer.attrU32be(NFTA_PAYLOAD_DREG, expression.dreg);
    writer.attrU32be(NFTA_PAYLOAD_BASE, expression.base);
    writer.attrU32be(NFTA_PAYLOAD_OFFSET, expression.offset);
    writer.attrU32be(NFTA_PAYLOAD_LEN, expression.length);
  },
  decode(reader) {
    let dreg = 0;
    let base = 0;
    let offset = 0;
    let length = 0;
    while (reader.next()) {
      if (reader.type === NFTA_PAYLOAD_DREG) dreg = reader.u32be();
      else if (reader.type === NFTA_PAYLOAD_BASE) base = reader.u32be();
      else if (reader.type === NFTA_PAYLOAD_OFFSET) offset = reader.u32be();
      else if (reader.type === NFTA_PAYLOAD_LEN) length = reader.u32be();
    }
    return { type: 'payload', dreg, base, offset, length };
  },
};
