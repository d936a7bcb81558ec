import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Cursor, readInteger, writeInteger } from '../../../src/http2/hpack/integer.ts';

const cursor = (hex: string): Cursor => {
  const buffer = Buffer.from(hex, 'hex');
  return { buffer, position: 0, end: buffer.length };
};

describe('RFC 7541 section 5.1, integers', () => {
  it.each([
    ['C.1.1', 10, 5, '0a'],
    ['C.1.2', 1337, 5, '1f9a0a'],
    ['C.1.3', 42, 8, '2a'],
  ])('%s: %i in a %i-bit prefix', (_section, value, prefixBits, hex) => {
    const out = Buffer.alloc(6);
    expect(out.toString('hex', 0, writeInteger(out, 0, 0, prefixBits, value))).toBe(hex);
    expect(readInteger(cursor(hex), prefixBits)).toBe(value);
  });

  it('reads back what it writes, and leaves the bits above the prefix alone', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: (1 << 28) - 1 }), fc.integer({ min: 4, max: 7 }), (value, prefixBits) => {
        const out = Buffer.alloc(8);
        const pattern = 1 << prefixBits;
        const end = writeInteger(out, 1, pattern, prefixBits, value);
        const at: Cursor = { buffer: out, position: 1, end };
        expect(readInteger(at, prefixBits)).toBe(value);
        expect(at.position).toBe(end);
        expect(out[1]! & pattern).toBe(pattern);
      }),
    );
  });

  it.each(['', '1f', '1f80', '1fffffffff', '1f8080808001', '1f8080808000'])('refuses 0x%s', (hex) => {
    expect(() => readInteger(cursor(hex), 5)).toThrow(expect.objectContaining({ code: 'ERR_HTTP2_COMPRESSION' }));
  });
});
