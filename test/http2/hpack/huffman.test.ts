import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { huffmanBytes, huffmanDecode, huffmanEncode } from '../../../src/http2/hpack/huffman.ts';

const encode = (text: string): Buffer => {
  const out = Buffer.alloc(huffmanBytes(text));
  expect(huffmanEncode(text, out, 0)).toBe(out.length);
  return out;
};
const decode = (hex: string): string | undefined => {
  const buffer = Buffer.from(hex, 'hex');
  return huffmanDecode(buffer, 0, buffer.length);
};

describe('RFC 7541 section 5.2, Huffman code', () => {
  // Appendix B, one of each kind: the shortest, a short, a long, the longest.
  it.each([
    ['0', '07'], // 00000 and three ones
    ['a', '1f'], // 00011
    ['~', 'ffef'], // 1111111111101 (13 bits): ff ef
    ['\u0000', 'ffc7'], // 1111111111000 (13 bits)
    ['\n', 'fffffff3'], // 30 bits, 3ffffffc: ff ff ff f3
    ['\u00ff', 'fffffbbf'], // 26 bits, 3ffffee: ff ff fb bf
  ])('codes %j', (text, hex) => {
    expect(encode(text).toString('hex')).toBe(hex);
    expect(decode(hex)).toBe(text);
  });

  it('is a complete prefix code of 257 symbols: every byte value comes back alone and among others', () => {
    const all = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)).join('');
    expect(decode(encode(all).toString('hex'))).toBe(all);
    for (const character of all) expect(decode(encode(character).toString('hex'))).toBe(character);
  });

  it('reads back what it writes', () => {
    const latin1 = fc.uint8Array({ maxLength: 6000 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
    fc.assert(fc.property(latin1, (text) => decode(encode(text).toString('hex')) === text));
  });

  it.each([
    ['more than seven bits of padding', '1fff'],
    ['a padding byte on its own', 'ff'],
    ['padding that is not ones', '18'],
    ['EOS', 'ffffffff'],
    ['an unfinished long code', 'fffffe'],
  ])('refuses %s', (_what, hex) => {
    expect(decode(hex)).toBeUndefined();
  });

  it('decodes nothing to nothing', () => {
    expect(decode('')).toBe('');
  });
});
