import {
  TAG_BIT_STRING,
  TAG_BOOLEAN,
  TAG_GENERALIZED_TIME,
  TAG_INTEGER,
  TAG_OCTET_STRING,
  TAG_OID,
  TAG_SEQUENCE,
  TAG_SET,
  TAG_UTC_TIME,
  TAG_UTF8_STRING,
} from './der-reader.ts';

/** One DER element (X.690): tag, definite length in its shortest form, and `parts` in a row. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const header =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : length < 0x1_0000
          ? [tag, 0x82, length >> 8, length & 0xff]
          : [tag, 0x83, length >> 16, (length >> 8) & 0xff, length & 0xff];
  if (length >= 0x100_0000) throw new RangeError(`a DER element of ${length} bytes`);
  return Buffer.concat([Buffer.from(header), ...parts]);
}

export const derSequence = (...parts: readonly Uint8Array[]): Buffer => der(TAG_SEQUENCE, ...parts);
export const derSetOfOne = (part: Uint8Array): Buffer => der(TAG_SET, part);
export const derOctetString = (bytes: Uint8Array): Buffer => der(TAG_OCTET_STRING, bytes);
export const derUtf8String = (text: string): Buffer => der(TAG_UTF8_STRING, Buffer.from(text, 'utf8'));
export const derTrue = (): Buffer => der(TAG_BOOLEAN, Buffer.of(0xff));
/** A BIT STRING of whole bytes. */
export const derBitsOfBytes = (bytes: Uint8Array): Buffer => der(TAG_BIT_STRING, Buffer.of(0), bytes);

/** The INTEGER whose magnitude is `bytes`, big-endian: never negative, shortest form. */
export function derUnsigned(bytes: Uint8Array): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const magnitude = bytes.subarray(start);
  return (magnitude[0] ?? 0) >= 0x80 ? der(TAG_INTEGER, Buffer.of(0), magnitude) : der(TAG_INTEGER, magnitude);
}

/** A BIT STRING of named bits, `1 << n` for bit n of ASN.1, trailing zeros dropped as DER wants it. */
export function derNamedBits(bits: number): Buffer {
  const used = 32 - Math.clz32(bits);
  const bytes = Buffer.alloc(Math.ceil(used / 8));
  for (let bit = 0; bit < used; bit++) if (bits & (1 << bit)) bytes[bit >> 3]! |= 0x80 >> (bit & 7);
  return der(TAG_BIT_STRING, Buffer.of((8 - (used % 8)) % 8), bytes);
}

/** An OBJECT IDENTIFIER from its dotted form. */
export function derOid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const digits = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128))
      digits.unshift((left & 0x7f) | 0x80);
    bytes.push(...digits);
  }
  return der(TAG_OID, Buffer.from(bytes));
}

/** A Time: UTCTime up to 2049, GeneralizedTime after it (RFC 5280 section 4.1.2.5); milliseconds since 1970, cut to seconds. */
export function derTime(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '');
  return digits < '2050'
    ? der(TAG_UTC_TIME, Buffer.from(digits.slice(2), 'latin1'))
    : der(TAG_GENERALIZED_TIME, Buffer.from(digits, 'latin1'));
}
