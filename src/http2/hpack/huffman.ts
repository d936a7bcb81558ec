/**
 * Code length of every byte value, and of EOS at 256 (RFC 7541 appendix B). The code is canonical (shorter codes first,
 * equal lengths in the order of the symbols), so the lengths are all of it.
 */
const CODE_BITS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26, 30,
];
const EOS = 256;
const LONGEST_CODE = 30;

const CODES = new Uint32Array(EOS + 1);
{
  let code = 0;
  for (let bits = 1; bits <= LONGEST_CODE; bits++) {
    for (let symbol = 0; symbol <= EOS; symbol++) if (CODE_BITS[symbol] === bits) CODES[symbol] = code++;
    code <<= 1;
  }
}
const BITS = Uint8Array.from(CODE_BITS);

// The decoder is an automaton over half bytes. Its states are the inner nodes of the code tree; no code is shorter than
// five bits, so a half byte gives one symbol at most. A transition: next state | SYMBOL | symbol << 8, or FAIL for EOS.
const SYMBOL = 1 << 16;
const FAIL = 1 << 17;
const TRANSITIONS = new Int32Array(256 * 16);
/** 1 where a string may end: after at most seven one-bits of an unfinished code (RFC 7541 section 5.2). */
const MAY_END = new Uint8Array(256);
{
  // children[2 * node + bit]: an inner node (>= 0), a leaf (-1 - symbol).
  const children: number[] = [0, 0];
  for (let symbol = 0; symbol <= EOS; symbol++) {
    let node = 0;
    for (let bit = BITS[symbol]! - 1; bit >= 0; bit--) {
      const slot = 2 * node + ((CODES[symbol]! >>> bit) & 1);
      if (bit === 0) children[slot] = -1 - symbol;
      else if (children[slot] === 0) {
        children[slot] = children.length / 2;
        children.push(0, 0);
        node = children[slot]!;
      } else node = children[slot]!;
    }
  }
  for (let state = 0; state < 256; state++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      let node = state;
      let out = 0;
      for (let bit = 3; bit >= 0 && out !== FAIL; bit--) {
        const child = children[2 * node + ((nibble >> bit) & 1)]!;
        if (child >= 0) node = child;
        else {
          out = -1 - child === EOS ? FAIL : SYMBOL | ((-1 - child) << 8);
          node = 0;
        }
      }
      TRANSITIONS[state * 16 + nibble] = out | node;
    }
  }
  let node = 0;
  for (let ones = 0; ones <= 7; ones++) {
    MAY_END[node] = 1;
    node = children[2 * node + 1]!;
  }
}

/** Bytes that `text` takes in Huffman code, padding included. */
export function huffmanBytes(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += BITS[text.charCodeAt(i)]!;
  return (bits + 7) >>> 3;
}

/** Writes `text` (latin1) at `offset`, padded with ones; gives the offset behind it. `out` must have {@link huffmanBytes} of room. */
export function huffmanEncode(text: string, out: Buffer, offset: number): number {
  let held = 0;
  let heldBits = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i);
    let left = BITS[symbol]!;
    const code = CODES[symbol]!;
    // Codes reach 30 bits: taken in pieces, so that held never needs more than 32.
    while (left > 0) {
      const take = Math.min(left, 16);
      left -= take;
      held = (held << take) | ((code >>> left) & ((1 << take) - 1));
      heldBits += take;
      while (heldBits >= 8) {
        heldBits -= 8;
        out[offset++] = held >>> heldBits;
      }
      held &= (1 << heldBits) - 1;
    }
  }
  if (heldBits > 0) out[offset++] = (held << (8 - heldBits)) | (0xff >>> heldBits);
  return offset;
}

// One string at a time is decoded, synchronously, so that all decoders of a thread share this.
const SCRATCH_BYTES = 4096;
const scratch = Buffer.allocUnsafe(SCRATCH_BYTES);

/** The latin1 text of `buffer[start, end)`, or undefined where it is no valid code (EOS inside, bad or long padding). */
export function huffmanDecode(buffer: Buffer, start: number, end: number): string | undefined {
  const most = Math.floor(((end - start) * 8) / 5);
  const out = most <= SCRATCH_BYTES ? scratch : Buffer.allocUnsafe(most);
  let length = 0;
  let state = 0;
  for (let i = start; i < end; i++) {
    const byte = buffer[i]!;
    let step = TRANSITIONS[state * 16 + (byte >>> 4)]!;
    if ((step & SYMBOL) !== 0) out[length++] = step >>> 8;
    if ((step & FAIL) !== 0) return undefined;
    step = TRANSITIONS[(step & 0xff) * 16 + (byte & 0xf)]!;
    if ((step & SYMBOL) !== 0) out[length++] = step >>> 8;
    if ((step & FAIL) !== 0) return undefined;
    state = step & 0xff;
  }
  return MAY_END[state] === 1 ? out.toString('latin1', 0, length) : undefined;
}
