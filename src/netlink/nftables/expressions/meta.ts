import type { ExpressionCodec } from './codec.ts';

// enum nft_meta_attributes
export const NFTA_META_DREG = 1;
export const NFTA_META_KEY = 2;
export const NFTA_META_SREG = 3;

// enum nft_meta_keys, those that rules here read or write
export const NFT_META_MARK = 3;
export const NFT_META_IIF = 4;
export const NFT_META_OIF = 5;
export const NFT_META_IIFNAME = 6;
export const NFT_META_OIFNAME = 7;
export const NFT_META_SKUID = 10;
export const NFT_META_SKGID = 11;
export const NFT_META_NFTRACE = 12;
export const NFT_META_NFPROTO = 15;
export const NFT_META_L4PROTO = 16;

/** `meta mark` into a register, or `meta mark set` from one. */
export type Meta =
  | { readonly type: 'meta'; readonly key: number; readonly dreg: number }
  | { readonly type: 'meta'; readonly key: number; readonly sreg: number };

export const meta: ExpressionCodec<Meta> = {
  name: 'meta',
  encode(expression, writer) {
    writer.attrU32be(NFTA_META_KEY, expression.key);
    if ('sreg' in expression) writer.attrU32be(NFTA_META_SREG, expression.sreg);
    else writer.attrU32be(NFTA_META_DREG, expression.dreg);
  },
  decode(reader) {
    let key = 0;
    let dreg = 0;
    let sreg: number | undefined;
    while (reader.next()) {
      if (reader.type === NFTA_META_KEY) key = reader.u32be();
      else if (reader.type === NFTA_META_DREG) dreg = reader.u32be();
      else if (reader.type === NFTA_META_SREG) sreg = reader.u32be();
    }
    return sreg === undefined ? { type: 'meta', key, dreg } : { type: 'meta', key, sreg };
  },
};
