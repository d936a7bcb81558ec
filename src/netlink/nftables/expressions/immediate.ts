import { NFT_REG_VERDICT, NFTA_DATA_VALUE, NFTA_DATA_VERDICT } from '../constants.ts';
import { writeValue } from '../data.ts';
import type { ExpressionCodec } from './codec.ts';
import { readVerdict, type Verdict, writeVerdict } from './verdict.ts';

// enum nft_immediate_attributes
export const NFTA_IMMEDIATE_DREG = 1;
export const NFTA_IMMEDIATE_DATA = 2;

/** A constant into a register, or a verdict: `accept`, `jump save`. */
export type Immediate =
  | { readonly type: 'immediate'; readonly dreg: number; readonly value: Uint8Array }
  | { readonly type: 'immediate'; readonly verdict: Verdict };

export const immediate: ExpressionCodec<Immediate> = {
  name: 'immediate',
  encode(expression, writer) {
    if ('value' in expression) {
      writer.attrU32be(NFTA_IMMEDIATE_DREG, expression.dreg);
      writeValue(writer, NFTA_IMMEDIATE_DATA, expression.value);
      return;
    }
    writer.attrU32be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    writer.nest(NFTA_IMMEDIATE_DATA, (data) => writeVerdict(data, expression.verdict));
  },
  decode(reader) {
    let dreg = 0;
    let value: Buffer = Buffer.alloc(0);
    let verdict: Verdict | undefined;
    while (reader.next()) {
      if (reader.type === NFTA_IMMEDIATE_DREG) dreg = reader.u32be();
      if (reader.type !== NFTA_IMMEDIATE_DATA) continue;
      const data = reader.nested();
      while (data.next()) {
        if (data.type === NFTA_DATA_VALUE) value = Buffer.from(data.bytes());
        else if (data.type === NFTA_DATA_VERDICT) verdict = readVerdict(data.nested());
      }
    }
    return verdict === undefined ? { type: 'immediate', dreg, value } : { type: 'immediate', verdict };
  },
};
