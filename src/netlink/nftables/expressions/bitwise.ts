import { readValue, writeValue } from '../data.ts';
import type { ExpressionCodec } from './codec.ts';

// enum nft_bitwise_attributes
export const NFTA_BITWISE_SREG = 1;
export const NFTA_BITWISE_DREG = 2;
export const NFTA_BITWISE_LEN = 3;
export const NFTA_BITWISE_MASK = 4;
export const NFTA_BITWISE_XOR = 5;
export const NFTA_BITWISE_OP = 6;
export const NFTA_BITWISE_DATA = 7;

// enum nft_bitwise_ops
export const NFT_BITWISE_MASK_XOR = 0;
export const NFT_BITWISE_LSHIFT = 1;
export const NFT_BITWISE_RSHIFT = 2;

/**
 * `dreg = (sreg & mask) ^ xor`. As the kernel's header has it: AND v is (v, 0), OR v is (~v, v), XOR v is (~0, v); so
 * `meta mark and 0xfffff000 or 0x400` is mask 0xfffff000 and xor 0x400.
 */
export interface Bitwise {
  readonly type: 'bitwise';
  readonly sreg: number;
  readonly dreg: number;
  /** Same length as `xor`, which is the number of bytes worked on. Empty where `op` says otherwise. */
  readonly mask: Uint8Array;
  readonly xor: Uint8Array;
  /** Another operation than mask and xor, as it was read: `NFT_BITWISE_…`. Not written. */
  readonly op?: number;
  /** Of a shift: by how many bits, and of how many bytes. */
  readonly shift?: { readonly bits: number; readonly bytes: number };
}

export const bitwise: ExpressionCodec<Bitwise> = {
  name: 'bitwise',
  encode(expression, writer) {
    writer.attrU32be(NFTA_BITWISE_SREG, expression.sreg);
    writer.attrU32be(NFTA_BITWISE_DREG, expression.dreg);
    writer.attrU32be(NFTA_BITWISE_OP, NFT_BITWISE_MASK_XOR);
    writer.attrU32be(NFTA_BITWISE_LEN, expression.mask.length);
    writeValue(writer, NFTA_BITWISE_MASK, expression.mask);
    writeValue(writer, NFTA_BITWISE_XOR, expression.xor);
  },
  decode(reader) {
    let sreg = 0;
    let dreg = 0;
    let mask: Buffer = Buffer.alloc(0);
    let xor: Buffer = Buffer.alloc(0);
    let op = NFT_BITWISE_MASK_XOR;
    let bytes = 0;
    let bits: number | undefined;
    while (reader.next()) {
      if (reader.type === NFTA_BITWISE_SREG) sreg = reader.u32be();
      else if (reader.type === NFTA_BITWISE_DREG) dreg = reader.u32be();
      else if (reader.type === NFTA_BITWISE_MASK) mask = readValue(reader);
      else if (reader.type === NFTA_BITWISE_XOR) xor = readValue(reader);
      else if (reader.type === NFTA_BITWISE_OP) op = reader.u32be();
      else if (reader.type === NFTA_BITWISE_LEN) bytes = reader.u32be();
      else if (reader.type === NFTA_BITWISE_DATA) bits = readValue(reader)[0];
    }
    if (op === NFT_BITWISE_MASK_XOR) return { type: 'bitwise', sreg, dreg, mask, xor };
    return { type: 'bitwise', sreg, dreg, mask, xor, op, ...(bits === undefined ? {} : { shift: { bits, bytes } }) };
  },
};
