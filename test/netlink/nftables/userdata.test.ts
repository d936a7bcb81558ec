import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeComment, encodeComment } from '../../../src/netlink/nftables/userdata.ts';

describe('comments as libnftnl keeps them', () => {
  it('"save-1" is type 0, length 7 with its NUL', () => {
    expect(encodeComment(0, 'save-1', 'comment').toString('hex')).toBe('0007736176652d3100');
  });

  it('come back, behind records of other types too', () => {
    const text = fc.string({ maxLength: 30 }).filter((comment) => !/[\0\n"]/.test(comment));
    fc.assert(
      fc.property(text, fc.uint8Array({ maxLength: 40 }), (comment, other) => {
        const record = encodeComment(0, comment, 'comment');
        expect(decodeComment(0, Buffer.concat([Uint8Array.of(7, other.length), other, record]))).toBe(comment);
      }),
    );
  });

  it('are nothing in bytes that are no records, and never an exception', () => {
    expect(decodeComment(0, Uint8Array.of(0, 200, 65))).toBeUndefined();
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => void decodeComment(0, bytes)));
  });

  it.each([
    ['128 bytes', 'x'.repeat(128)],
    ['64 times a letter of two bytes', 'é'.repeat(64)],
    ['a NUL', 'a\0b'],
    ['a quote', 'say "no"'],
  ])('refuse %s', (_what, comment) => {
    expect(() => encodeComment(0, comment, 'rule.comment')).toThrow(
      expect.objectContaining({ code: 'ERR_NFTABLES_INVALID', field: 'rule.comment' }),
    );
  });
});
