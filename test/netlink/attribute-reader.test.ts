import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AttributeReader } from '../../src/netlink/index.ts';
import { hex } from './golden.ts';

const malformed = expect.objectContaining({ code: 'ERR_NETLINK_MALFORMED', op: 'netlink.decode' });

function checkError(reader: AttributeReader): unknown {
  try {
    reader.check();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('AttributeReader', () => {
  it('strips NLA_F_NESTED and NLA_F_NET_BYTEORDER from the type', () => {
    const reader = new AttributeReader(hex('0400 0280 0400 0340'));
    expect(reader.next()).toBe(true);
    expect([reader.type, reader.isNested]).toEqual([2, true]);
    expect(reader.next()).toBe(true);
    expect([reader.type, reader.isNested]).toEqual([3, false]);
    expect(reader.next()).toBe(false);
    reader.check();
  });

  it('does without the padding after the last attribute', () => {
    const reader = new AttributeReader(hex('0500 0100 07'));
    expect(reader.next()).toBe(true);
    expect(reader.u8()).toBe(7);
    expect(reader.next()).toBe(false);
    reader.check();
  });

  it('reads a text up to its NUL, or all of it where there is none', () => {
    const reader = new AttributeReader(hex('0800 0300 6c6f 0078 0600 0300 6c6f 0000'));
    reader.next();
    expect(reader.string()).toBe('lo');
    reader.next();
    expect(reader.string()).toBe('lo');
  });

  it('reads addresses of both families, and after a header', () => {
    const reader = new AttributeReader(
      hex('0800 0100 0a010001 1400 0100 fd000000000000000000000000000001 0a00 0100 0200 0a010002'),
    );
    reader.next();
    expect(reader.ip()).toBe('10.1.0.1');
    reader.next();
    expect(reader.ip()).toBe('fd00::1');
    reader.next();
    expect(reader.ip(2)).toBe('10.1.0.2');
    reader.check();
  });

  it.each([
    ['a header cut short', '0800 01'],
    ['a length below its own header', '0300 0100'],
    ['a length beyond the message', '0900 0100 00000000'],
  ])('ends at %s', (_, bytes) => {
    const reader = new AttributeReader(hex(bytes));
    expect(reader.next()).toBe(false);
    expect(reader.next()).toBe(false);
    expect(checkError(reader)).toEqual(malformed);
  });

  it('ends at a message shorter than its fixed header', () => {
    const reader = new AttributeReader(Buffer.alloc(8), 16);
    expect(reader.next()).toBe(false);
    expect(checkError(reader)).toEqual(malformed);
  });

  it('gives zero for a value that is too short, and the fault once, with its path, at the outermost reader', () => {
    // attribute 18 holds attribute 2, which holds attribute 5 with one byte; then attribute 4 with a good number.
    const outer = new AttributeReader(hex('1000 1280 0c00 0280 0500 0500 01000000 0800 0400 78050000'));
    outer.next();
    const middle = outer.nested();
    middle.next();
    const inner = middle.nested();
    inner.next();
    expect(inner.u32()).toBe(0);
    expect(outer.next()).toBe(false);
    expect(outer.u32()).toBe(0);
    expect(checkError(outer)).toEqual(malformed);
    expect(String(checkError(outer))).toContain('attribute 18.2.5: 1 bytes where a value of 4 was expected');
  });

  it('refuses an address of another length', () => {
    const reader = new AttributeReader(hex('0900 0100 0a01000100 000000'));
    reader.next();
    expect(reader.ip()).toBe('');
    expect(checkError(reader)).toEqual(malformed);
  });

  it('takes any bytes at all: it ends, stays inside, and throws nothing but ERR_NETLINK_MALFORMED', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat({ max: 220 }), (bytes, start) => {
        const reader = new AttributeReader(Buffer.from(bytes), start);
        let seen = 0;
        const walk = (level: AttributeReader, depth: number) => {
          while (level.next()) {
            seen += level.length + 4;
            level.u8();
            level.string();
            level.bytes();
            if (depth < 3) walk(level.nested(), depth + 1);
          }
        };
        walk(reader, 0);
        expect(seen).toBeLessThanOrEqual(bytes.length * 5);
        const error = checkError(reader);
        if (error !== undefined) expect(error).toEqual(malformed);
      }),
    );
  });
});
