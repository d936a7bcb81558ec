import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DerReader, TAG_OCTET_STRING } from '../../src/identity/der-reader.ts';
import {
  derBitsOfBytes,
  derNamedBits,
  derOctetString,
  derOid,
  derSequence,
  derTime,
  derTrue,
  derUnsigned,
} from '../../src/identity/der-writer.ts';

const reader = (bytes: Uint8Array): DerReader => new DerReader(bytes, 'x');

describe('DER written, X.690', () => {
  it.each([
    ['BOOLEAN TRUE', derTrue(), '0101ff'],
    ['INTEGER 0', derUnsigned(Buffer.of(0)), '020100'],
    ['INTEGER 128 stays positive', derUnsigned(Buffer.of(128)), '02020080'],
    ['INTEGER in its shortest form', derUnsigned(Buffer.of(0, 0, 1)), '020101'],
    ['OID prime256v1', derOid('1.2.840.10045.3.1.7'), '06082a8648ce3d030107'],
    ['KeyUsage digitalSignature + keyEncipherment', derNamedBits(0b101), '030205a0'],
    ['KeyUsage keyCertSign + cRLSign', derNamedBits(0b1100000), '03020106'],
    ['no bits', derNamedBits(0), '030100'],
    ['the empty Name', derSequence(), '3000'],
    [
      'UTCTime up to 2049',
      derTime(Date.UTC(2049, 11, 31, 23, 59, 59, 999)),
      `170d${Buffer.from('491231235959Z').toString('hex')}`,
    ],
    [
      'GeneralizedTime after it',
      derTime(Date.UTC(2050, 0, 1)),
      `180f${Buffer.from('20500101000000Z').toString('hex')}`,
    ],
  ])('%s', (_, bytes, hex) => {
    expect(bytes.toString('hex')).toBe(hex);
  });

  it('reads back octets of any length', () => {
    for (const length of [0, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000]) {
      const cursor = reader(derOctetString(Buffer.alloc(length, 7)));
      expect(cursor.content(TAG_OCTET_STRING, 'a').length).toBe(length);
      cursor.finish();
    }
  });

  it('reads back object identifiers, named bits, magnitudes, bits and times', () => {
    const arcs = fc.array(fc.nat(2 ** 31 - 1), { maxLength: 8 });
    fc.assert(
      fc.property(fc.nat(2), fc.nat(39), arcs, (first, second, rest) => {
        const dotted = [first, second, ...rest].join('.');
        expect(reader(derOid(dotted)).oid('a')).toBe(dotted);
      }),
    );
    fc.assert(
      fc.property(fc.nat(0xffff), (bits) => {
        expect(reader(derNamedBits(bits)).namedBits('a')).toBe(bits);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 20 }), (bytes) => {
        const back = Buffer.from(reader(derUnsigned(bytes)).integer('a')).toString('hex');
        expect(BigInt(`0x${back}`)).toBe(BigInt(`0x${Buffer.from(bytes).toString('hex')}`));
        expect(Buffer.compare(reader(derBitsOfBytes(bytes)).bytesOfBits('a'), bytes)).toBe(0);
      }),
    );
    fc.assert(
      fc.property(fc.integer({ min: Date.UTC(1950, 0, 1), max: Date.UTC(9999, 11, 31) }), (ms) => {
        expect(reader(derTime(ms)).time('a')).toBe(Math.floor(ms / 1000) * 1000);
      }),
    );
  });

  it('carries the magnitude of a serial number as non-negative', () => {
    expect(derUnsigned(Buffer.from('ff'.repeat(16), 'hex')).toString('hex')).toBe(`021100${'ff'.repeat(16)}`);
  });
});
