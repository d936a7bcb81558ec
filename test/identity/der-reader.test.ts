import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DerReader, TAG_INTEGER, TAG_OCTET_STRING, TAG_SEQUENCE } from '../../src/identity/der-reader.ts';
import { IdentityError } from '../../src/identity/errors.ts';
import { refusal } from './craft.ts';

const reader = (hex: string): DerReader => new DerReader(Buffer.from(hex, 'hex'), 'x');

describe('DerReader, X.690', () => {
  it('walks a nested value', () => {
    // SEQUENCE { INTEGER 5, SEQUENCE { BOOLEAN TRUE }, OID 2.5.29.17 }
    const top = reader('300d 020105 3003 0101ff 0603551d11'.replaceAll(' ', ''));
    const sequence = top.enter(TAG_SEQUENCE, 'a');
    top.finish();
    expect(sequence.tag).toBe(TAG_INTEGER);
    expect(sequence.smallInteger('b')).toBe(5);
    expect(sequence.enter(TAG_SEQUENCE, 'c').boolean('d')).toBe(true);
    expect(sequence.oid('e')).toBe('2.5.29.17');
    expect(sequence.done).toBe(true);
    expect(sequence.tag).toBe(-1);
  });

  it.each([
    ['8.1.3.4: the short form is for lengths below 128', `048180${'00'.repeat(128)}`, 128],
    ['8.1.3.5: the long form', `04820100${'00'.repeat(256)}`, 256],
  ])('%s', (_, hex, length) => {
    expect(reader(hex).content(TAG_OCTET_STRING, 'a').length).toBe(length);
  });

  it.each([
    ['10.1 a length that is not the shortest', '04810100'],
    ['10.1 a length with a leading zero', `0482007f${'00'.repeat(127)}`],
    ['8.1.3.6 an indefinite length', '04800000'],
    ['8.1.3.5 a length of four bytes', '048400000001ff'],
    ['a length beyond the end', '040200'],
    ['a length cut short', '0482ff'],
    ['a lone tag', '04'],
    ['nothing', ''],
    ['another tag', '020100'],
  ])('refuses %s', (_, hex) => {
    expect(refusal(() => reader(hex).content(TAG_OCTET_STRING, 'a'))).toBe('ERR_IDENTITY_MALFORMED x.a');
  });

  it('refuses what is left over', () => {
    expect(refusal(() => reader('0500').finish())).toBe('ERR_IDENTITY_MALFORMED x');
  });

  it.each(['02020001', '0202ff80', '0200', '020500ffffffff', '0201ff'])('refuses the integer %s', (hex) => {
    expect(refusal(() => reader(hex).smallInteger('a'))).toBe('ERR_IDENTITY_MALFORMED x.a');
  });

  it.each(['010101', '0100', '0102ffff'])('refuses the boolean %s', (hex) => {
    expect(refusal(() => reader(hex).boolean('a'))).toBe('ERR_IDENTITY_MALFORMED x.a');
  });

  it.each(['0600', '0602 5580', '0603 558001', '0609 55ffffffffffffff7f'])(
    'refuses the object identifier %s',
    (hex) => {
      expect(refusal(() => reader(hex.replace(' ', '')).oid('a'))).toBe('ERR_IDENTITY_MALFORMED x.a');
    },
  );

  it.each([
    ['06082a8648ce3d030107', '1.2.840.10045.3.1.7'],
    ['060100', '0.0'],
    ['06028837', '2.999'],
  ])('reads the object identifier %s', (hex, dotted) => {
    expect(reader(hex).oid('a')).toBe(dotted);
  });

  it('reads named bits, first bit highest', () => {
    expect(reader('030205a0').namedBits('a')).toBe(0b101); // digitalSignature, keyEncipherment
    expect(reader('03020106').namedBits('a')).toBe(0b1100000); // keyCertSign, cRLSign
    expect(reader('0303070080').namedBits('a')).toBe(1 << 8); // decipherOnly
    expect(reader('030100').namedBits('a')).toBe(0);
    for (const hex of ['0300', '03020800', '030101', '030400000000'])
      expect(refusal(() => reader(hex).namedBits('a'))).toBe('ERR_IDENTITY_MALFORMED x.a');
  });

  it('wants whole bytes where keys and signatures stand', () => {
    expect([...reader('0303001234').bytesOfBits('a')]).toEqual([0x12, 0x34]);
    expect(refusal(() => reader('0302 0480'.replace(' ', '')).bytesOfBits('a'))).toBe('ERR_IDENTITY_MALFORMED x.a');
    expect(refusal(() => reader('0300').bytesOfBits('a'))).toBe('ERR_IDENTITY_MALFORMED x.a');
  });

  it.each([
    ['RFC 5280 4.1.2.5.1: 49 is 2049', 0x17, '491231235959Z', '2049-12-31T23:59:59.000Z'],
    ['RFC 5280 4.1.2.5.1: 50 is 1950', 0x17, '500101000000Z', '1950-01-01T00:00:00.000Z'],
    ['RFC 5280 4.1.2.5: no end', 0x18, '99991231235959Z', '9999-12-31T23:59:59.000Z'],
    ['a leap day', 0x18, '20280229120000Z', '2028-02-29T12:00:00.000Z'],
  ])('reads %s', (_, tag, text, iso) => {
    const bytes = Buffer.concat([Buffer.of(tag, text.length), Buffer.from(text)]);
    expect(new Date(new DerReader(bytes, 'x').time('a')).toISOString()).toBe(iso);
  });

  it.each([
    [0x17, '4912312359Z'],
    [0x17, '491231235959+0100'],
    [0x17, '20491231235959Z'],
    [0x18, '20270229120000Z'],
    [0x18, '20271301000000Z'],
    [0x18, '20270101240000Z'],
    [0x18, '20270101000000.5Z'],
    [0x18, '00500101000000Z'],
    [0x04, '20270101000000Z'],
  ])('refuses the time %i %s', (tag, text) => {
    const bytes = Buffer.concat([Buffer.of(tag, text.length), Buffer.from(text)]);
    expect(refusal(() => new DerReader(bytes, 'x').time('a'))).toBe('ERR_IDENTITY_MALFORMED x.a');
  });

  it('never reads outside its bytes and throws nothing but IdentityError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(8), (bytes, which) => {
        const cursor = new DerReader(bytes, 'x');
        const reads = [
          'boolean',
          'smallInteger',
          'integer',
          'oid',
          'bytesOfBits',
          'namedBits',
          'time',
          'skip',
        ] as const;
        try {
          while (!cursor.done) cursor[reads[which % reads.length]!]('a');
        } catch (error) {
          expect(error).toBeInstanceOf(IdentityError);
        }
      }),
      { numRuns: 500 },
    );
  });
});
