import type { ExpressionCodec } from './codec.ts';

// enum nft_ct_attributes
export const NFTA_CT_DREG = 1;
export const NFTA_CT_KEY = 2;
export const NFTA_CT_DIRECTION = 3;
export const NFTA_CT_SREG = 4;

// enum nft_ct_keys, those that rules here read or write
export const NFT_CT_STATE = 0;
export const NFT_CT_DIRECTION = 1;
export const NFT_CT_STATUS = 2;
export const NFT_CT_MARK = 3;
export const NFT_CT_SRC = 8;
export const NFT_CT_DST = 9;
export const NFT_CT_ZONE = 17;
export const NFT_CT_SRC_IP = 19;
export const NFT_CT_SRC_IP6 = 21;

// enum ip_conntrack_dir
export const IP_CT_DIR_ORIGINAL = 0;
export const IP_CT_DIR_REPLY = 1;

/** `ct mark` into a register, `ct mark set` from one, or with a direction `ct original saddr`. */
export type Ct =
  | { readonly type: 'ct'; readonly key: number; readonly dreg: number; readonly direction?: number }
  | { readonly type: 'ct'; readonly key: number; readonly sreg: number };

export const ct: ExpressionCodec<Ct> = {
  name: 'ct',
  encode(expression, writer) {
    writer.attrU32be(NFTA_CT_KEY, expression.key);
    if ('sreg' in expression) {
      writer.attrU32be(NFTA_CT_SREG, expression.sreg);
      return;
    }
    writer.attrU32be(NFTA_CT_DREG, expression.dreg);
    if (expression.direction !== undefined) writer.attrU8(NFTA_CT_DIRECTION, expression.direction);
  },
  decode(reader) {
    let key = 0;
    let dreg = 0;
    let sreg: number | undefined;
    let direction: number | undefined;
    while (reader.next()) {
      if (reader.type === NFTA_CT_KEY) key = reader.u32be();
      else if (reader.type === NFTA_CT_DREG) dreg = reader.u32be();
      else if (reader.type === NFTA_CT_SREG) sreg = reader.u32be();
      else if (reader.type === NFTA_CT_DIRECTION) direction = reader.u8();
    }
    if (sreg !== undefined) return { type: 'ct', key, sreg };
    return direction === undefined ? { type: 'ct', key, dreg } : { type: 'ct', key, dreg, direction };
  },
};
