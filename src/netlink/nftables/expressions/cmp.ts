import { readValue, writeValue } from '../data.ts';
import type { ExpressionCodec } from './codec.ts';

// enum nft_cmp_attributes
export const NFTA_CMP_SREG = 1;
export const NFTA_CMP_OP = 2;
export const NFTA_CMP_DATA = 3;

// enum nft_cmp_ops
export const NFT_CMP_EQ = 0;
export const NFT_CMP_NEQ = 1;
export const NFT_CMP_LT = 2;
export const NFT_CMP_LTE = 3;
export const NFT_CMP_GT = 4;
export const NFT_CMP_GTE = 5;

/** Goes on to the next expression when the register compares so with `value`, else ends the rule: `tcp dport 80`, `ip saddr != 10.0.0.1`. */
export interface Cmp {
  readonly type: 'cmp';
  readonly sreg: number;
  readonly op: number;
  /** As it lies in the register: addresses and ports in network byte order, marks in host byte order, names filled with NULs to 16. */
  readonly value: Uint8Array;
}

export const cmp: ExpressionCodec<Cmp> = {
  name: 'cmp',
  encode(expression, writer) {
    writer.attrU32be(NFTA_CMP_SREG, expression.sreg);
    writer.attrU32be(NFTA_CMP_OP, expression.op);
    writeValue(writer, NFTA_CMP_DATA, expression.value);
  },
  decode(reader) {
    let sreg = 0;
    let op = 0;
    let value: Buffer = Buffer.alloc(0);
    while (reader.next()) {
      if (reader.type === NFTA_CMP_SREG) sreg = reader.u32be();
      else if (reader.type === NFTA_CMP_OP) op = reader.u32be();
      else if (reader.type === NFTA_CMP_DATA) value = readValue(reader);
    }
    return { type: 'cmp', sreg, op, value };
  },
};
