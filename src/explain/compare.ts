import * as n from './kernel-numbers.ts';
import { type Bytes, isKnown, UNKNOWN } from './registers.ts';

/** Yes, no, or that it hangs on an unknown byte. */
export type Answer = boolean | 'unknown';

/** `(bytes & mask) ^ xor`. */
export function masked(bytes: Bytes, mask: Uint8Array, xor: Uint8Array): number[] {
  return bytes.map((byte, i) => {
    const bits = mask[i]!;
    // A byte of which nothing is kept is known, whatever it was.
    if (byte === UNKNOWN && bits !== 0) return UNKNOWN;
    return ((byte & bits) ^ (xor[i] ?? 0)) & 0xff;
  });
}

/** As memcmp, which is what nf_tables does with values that nft has put into network byte order. */
export function compare(bytes: Bytes, op: number, value: Uint8Array): Answer {
  if (op === n.NFT_CMP_EQ || op === n.NFT_CMP_NEQ) {
    const differs = bytes.some((byte, i) => byte !== UNKNOWN && byte !== value[i]);
    if (differs) return op === n.NFT_CMP_NEQ;
    return isKnown(bytes) ? op === n.NFT_CMP_EQ : 'unknown';
  }
  if (!isKnown(bytes)) {
    // `meta skuid >= 0` asks nothing.
    return op === n.NFT_CMP_GTE && value.every((byte) => byte === 0) ? true : 'unknown';
  }
  const order = Buffer.compare(Buffer.from(bytes), value);
  if (op === n.NFT_CMP_LT) return order < 0;
  if (op === n.NFT_CMP_LTE) return order <= 0;
  if (op === n.NFT_CMP_GT) return order > 0;
  if (op === n.NFT_CMP_GTE) return order >= 0;
  return 'unknown';
}
