import type { ExpressionCodec } from './codec.ts';

// enum nft_lookup_attributes
export const NFTA_LOOKUP_SET = 1;
export const NFTA_LOOKUP_SREG = 2;
export const NFTA_LOOKUP_DREG = 3;
export const NFTA_LOOKUP_SET_ID = 4;
export const NFTA_LOOKUP_FLAGS = 5;

export const NFT_LOOKUP_F_INV = 1;

/** Goes on when the register's contents are in a set of the same table (`ip saddr @pods`), or are not (`ip saddr != @pods`). */
export interface Lookup {
  readonly type: 'lookup';
  readonly set: string;
  readonly sreg: number;
  readonly invert: boolean;
  /** The set's number within the transaction that adds it. nft always sends one; the kernel finds the set by name first, and never gives it back. */
  readonly setId?: number;
  /** Of a map: where its value goes, register 0 for a verdict (`vmap`). Left out for a set. */
  readonly dreg?: number;
}

export const lookup: ExpressionCodec<Lookup> = {
  name: 'lookup',
  encode(expression, writer) {
    writer.attrU32be(NFTA_LOOKUP_SREG, expression.sreg);
    if (expression.dreg !== undefined) writer.attrU32be(NFTA_LOOKUP_DREG, expression.dreg);
    writer.attrString(NFTA_LOOKUP_SET, expression.set);
    if (expression.setId !== undefined) writer.attrU32be(NFTA_LOOKUP_SET_ID, expression.setId);
    if (expression.invert) writer.attrU32be(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  },
  decode(reader) {
    let set = '';
    let sreg = 0;
    let flags = 0;
    let setId: number | undefined;
    let dreg: number | undefined;
    while (reader.next()) {
      if (reader.type === NFTA_LOOKUP_SET) set = reader.string();
      else if (reader.type === NFTA_LOOKUP_SREG) sreg = reader.u32be();
      else if (reader.type === NFTA_LOOKUP_DREG) dreg = reader.u32be();
      else if (reader.type === NFTA_LOOKUP_FLAGS) flags = reader.u32be();
      else if (reader.type === NFTA_LOOKUP_SET_ID) setId = reader.u32be();
    }
    return {
      type: 'lookup',
      set,
      sreg,
      invert: (flags & NFT_LOOKUP_F_INV) !== 0,
      ...(setId === undefined ? {} : { setId }),
      ...(dreg === undefined ? {} : { dreg }),
    };
  },
};
