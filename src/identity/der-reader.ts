import { refuse } from './errors.ts';

// Tags of X.690 as they stand in the byte, class and constructed bit included.
export const TAG_BOOLEAN = 0x01;
export const TAG_INTEGER = 0x02;
export const TAG_BIT_STRING = 0x03;
export const TAG_OCTET_STRING = 0x04;
export const TAG_NULL = 0x05;
export const TAG_OID = 0x06;
export const TAG_UTF8_STRING = 0x0c;
export const TAG_UTC_TIME = 0x17;
export const TAG_GENERALIZED_TIME = 0x18;
export const TAG_SEQUENCE = 0x30;
export const TAG_SET = 0x31;

/**
 * A cursor over the elements of one DER value (X.690): definite, minimal lengths and one-byte tags only, since that is all
 * X.509 has. It copies nothing: what it gives are views into the bytes it was made of. Every fault throws
 * `ERR_IDENTITY_MALFORMED` with `path`, the name of the value being read, as `field`.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  readonly #path: string;
  #at: number;

  constructor(bytes: Uint8Array, path: string, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#path = path;
    this.#at = start;
    this.#end = end;
  }

  get done(): boolean {
    return this.#at === this.#end;
  }

  /** The tag of the next element, or -1 at the end. */
  get tag(): number {
    return this.#at < this.#end ? this.#bytes[this.#at]! : -1;
  }

  /** Reads the next element, which must carry `tag`, and gives a cursor over what is inside it. */
  enter(tag: number, name: string): DerReader {
    const start = this.#header(tag, name);
    return new DerReader(this.#bytes, `${this.#path}.${name}`, start, this.#at);
  }

  /** Reads the next element, which must carry `tag`, and gives its content. */
  content(tag: number, name: string): Uint8Array {
    const start = this.#header(tag, name);
    return this.#bytes.subarray(start, this.#at);
  }

  /** Reads the next element, which must carry `tag`, and gives all of it, tag and length included. */
  whole(tag: number, name: string): Uint8Array {
    const start = this.#at;
    this.#header(tag, name);
    return this.#bytes.subarray(start, this.#at);
  }

  /** Passes over the next element, whatever it is. */
  skip(name: string): void {
    this.#header(this.tag, name);
  }

  /** Throws unless everything was read. */
  finish(): void {
    if (!this.done) this.malformed(`${this.#end - this.#at} bytes too many`);
  }

  boolean(name: string): boolean {
    const value = this.content(TAG_BOOLEAN, name);
    if (value.length !== 1 || (value[0] !== 0 && value[0] !== 0xff)) this.malformed('not a DER boolean', name);
    return value[0] === 0xff;
  }

  /** A non-negative INTEGER of at most four bytes. */
  smallInteger(name: string): number {
    const value = this.integer(name);
    if (value[0]! >= 0x80 || value.length > 4) this.malformed('out of range', name);
    let number = 0;
    for (const byte of value) number = number * 256 + byte;
    return number;
  }

  /** The content of an INTEGER: big-endian two's complement, in its shortest form. */
  integer(name: string): Uint8Array {
    const value = this.content(TAG_INTEGER, name);
    const padded =
      value.length > 1 && ((value[0] === 0 && value[1]! < 0x80) || (value[0] === 0xff && value[1]! >= 0x80));
    if (value.length === 0 || padded) this.malformed('not a DER integer', name);
    return value;
  }

  /** An OBJECT IDENTIFIER in dotted form. */
  oid(name: string): string {
    const value = this.content(TAG_OID, name);
    if (value.length === 0 || value[value.length - 1]! >= 0x80) this.malformed('not an object identifier', name);
    let dotted = '';
    let arc = 0;
    for (let at = 0; at < value.length; at++) {
      const byte = value[at]!;
      if ((arc === 0 && byte === 0x80) || arc >= 2 ** 46) this.malformed('not an object identifier', name);
      arc = arc * 128 + (byte & 0x7f);
      if (byte >= 0x80) continue;
      if (dotted === '') dotted = arc < 80 ? `${Math.floor(arc / 40)}.${arc % 40}` : `2.${arc - 80}`;
      else dotted += `.${arc}`;
      arc = 0;
    }
    return dotted;
  }

  /** A BIT STRING of whole bytes, as keys and signatures are. */
  bytesOfBits(name: string): Uint8Array {
    const value = this.content(TAG_BIT_STRING, name);
    if (value[0] !== 0) this.malformed('not a whole number of bytes', name);
    return value.subarray(1);
  }

  /** A BIT STRING used as a set of at most 16 named bits: bit n of ASN.1 is `1 << n`. */
  namedBits(name: string): number {
    const value = this.content(TAG_BIT_STRING, name);
    const unused = value[0] ?? 8;
    if (unused > 7 || value.length > 3 || (value.length === 1 && unused > 0)) this.malformed('not named bits', name);
    let bits = 0;
    for (let bit = 0; bit < (value.length - 1) * 8 - unused; bit++)
      if (value[1 + (bit >> 3)]! & (0x80 >> (bit & 7))) bits |= 1 << bit;
    return bits;
  }

  /** A Time of RFC 5280 section 4.1.2.5, in milliseconds since 1970. */
  time(name: string): number {
    const short = this.tag === TAG_UTC_TIME;
    const text = Buffer.from(this.content(short ? TAG_UTC_TIME : TAG_GENERALIZED_TIME, name)).toString('latin1');
    const digits = (short ? /^\d{12}Z$/ : /^\d{14}Z$/).test(text) ? text : this.malformed('not a time', name);
    const full = short ? `${digits < '5' ? '20' : '19'}${digits}` : digits;
    const field = (at: number): number => Number(full.slice(at, at + 2));
    const ms = Date.UTC(Number(full.slice(0, 4)), field(4) - 1, field(6), field(8), field(10), field(12));
    // Date.UTC rolls the 31st of February over into March, and reads the years 0 to 99 as 1900 to 1999.
    const back = Number.isNaN(ms) ? '' : new Date(ms).toISOString().replace(/[-:T]|\.000/g, '');
    return back === full ? ms : this.malformed('not a time of the calendar', name);
  }

  malformed(what: string, name?: string): never {
    refuse({
      code: 'ERR_IDENTITY_MALFORMED',
      op: 'identity.readDer',
      field: name === undefined ? this.#path : `${this.#path}.${name}`,
      message: what,
    });
  }

  /** Reads tag and length, moves behind the element, and gives where its content starts. */
  #header(tag: number, name: string): number {
    const bytes = this.#bytes;
    if (this.#at + 2 > this.#end) this.malformed('cut short', name);
    if (bytes[this.#at] !== tag || (tag & 0x1f) === 0x1f)
      this.malformed(`tag 0x${bytes[this.#at]!.toString(16)} instead of 0x${tag.toString(16)}`, name);
    let length = bytes[this.#at + 1]!;
    let start = this.#at + 2;
    if (length >= 0x80) {
      const size = length - 0x80;
      if (size < 1 || size > 3 || start + size > this.#end) this.malformed('not a DER length', name);
      length = 0;
      for (let at = 0; at < size; at++) length = length * 256 + bytes[start + at]!;
      if (length < 0x80 || length < 256 ** (size - 1)) this.malformed('not the shortest DER length', name);
      start += size;
    }
    if (start + length > this.#end) this.malformed('cut short', name);
    this.#at = start + length;
    return start;
  }
}
