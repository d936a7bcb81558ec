import { compressionError } from '../http2-error.ts';

/** A position in a header block. One object per decoder, moved along. */
export interface Cursor {
  buffer: Buffer;
  position: number;
  end: number;
}

// Nothing in a header block is larger than the block limit; 2^28 leaves room and keeps the shifts below 31 bits.
const MAX_SHIFT = 21;

/**
 * Reads an integer with an `prefixBits`-bit prefix (RFC 7541 section 5.1) and moves the cursor behind it. Throws
 * `ERR_HTTP2_COMPRESSION` for a truncated one and for more than 28 bits after the prefix.
 */
export function readInteger(cursor: Cursor, prefixBits: number): number {
  const { buffer, end } = cursor;
  if (cursor.position >= end) throw compressionError('header block ends inside an integer');
  const mask = (1 << prefixBits) - 1;
  let value = buffer[cursor.position++]! & mask;
  if (value < mask) return value;
  for (let shift = 0; shift <= MAX_SHIFT; shift += 7) {
    if (cursor.position >= end) throw compressionError('header block ends inside an integer');
    const byte = buffer[cursor.position++]!;
    value += (byte & 0x7f) << shift;
    if ((byte & 0x80) === 0) return value;
  }
  throw compressionError('integer in a header block is too large');
}

/** Writes `value` with an `prefixBits`-bit prefix below the bits of `pattern`; gives the offset behind it. At most 6 bytes. */
export function writeInteger(out: Buffer, offset: number, pattern: number, prefixBits: number, value: number): number {
  const mask = (1 << prefixBits) - 1;
  if (value < mask) {
    out[offset] = pattern | value;
    return offset + 1;
  }
  out[offset++] = pattern | mask;
  let rest = value - mask;
  while (rest >= 0x80) {
    out[offset++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  out[offset++] = rest;
  return offset;
}
