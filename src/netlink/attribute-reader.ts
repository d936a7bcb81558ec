import { formatIp, ipFromBytes } from '../ip/index.ts';
import { NLA_F_NESTED, NLA_HDRLEN, NLA_TYPE_MASK } from './constants.ts';
import { NetlinkError } from './netlink-error.ts';

/**
 * Walks the attributes in a range of bytes: `while (reader.next()) switch (reader.type) …`, then {@link check} once.
 *
 * Values are in host byte order (little-endian) unless the method's name ends in `be`. Bytes that make no sense, or a value shorter
 * than what is asked for, end the walk: reads give zero values from then on, and {@link check} throws. A reader made by
 * {@link nested} shares that memory, so one check at the outermost reader covers all of them.
 */
export class AttributeReader {
  /** The attribute's type without the flags in its two highest bits. */
  type = 0;
  readonly #buffer: Buffer;
  readonly #end: number;
  readonly #parent: AttributeReader | undefined;
  readonly #root: AttributeReader;
  #next: number;
  #flags = 0;
  #valueStart = 0;
  #valueEnd = 0;
  #fault: string | undefined;

  constructor(buffer: Buffer, start = 0, end = buffer.length, parent?: AttributeReader) {
    this.#buffer = buffer;
    this.#next = start;
    this.#end = end;
    this.#parent = parent;
    this.#root = parent === undefined ? this : parent.#root;
    if (start < 0 || end > buffer.length || start > end) this.#fail('the message is shorter than its fixed header');
  }

  /** Moves to the next attribute; false at the end, and after a fault. */
  next(): boolean {
    if (this.#root.#fault !== undefined || this.#next >= this.#end) return false;
    const at = this.#next;
    const left = this.#end - at;
    if (left < NLA_HDRLEN) return this.#fail(`${left} bytes are left over`);
    const length = this.#buffer.readUInt16LE(at);
    const typeAndFlags = this.#buffer.readUInt16LE(at + 2);
    this.type = typeAndFlags & NLA_TYPE_MASK;
    this.#flags = typeAndFlags & ~NLA_TYPE_MASK;
    if (length < NLA_HDRLEN || length > left) return this.#fail(`length ${length} where ${left} bytes are left`);
    this.#valueStart = at + NLA_HDRLEN;
    this.#valueEnd = at + length;
    this.#next = at + ((length + 3) & ~3);
    return true;
  }

  /** Bytes of the value. */
  get length(): number {
    return this.#valueEnd - this.#valueStart;
  }

  /** Whether NLA_F_NESTED is set. The kernel leaves it out of some attributes that are nested all the same. */
  get isNested(): boolean {
    return (this.#flags & NLA_F_NESTED) !== 0;
  }

  u8(): number {
    return this.#has(1) ? this.#buffer.readUInt8(this.#valueStart) : 0;
  }

  u16(): number {
    return this.#has(2) ? this.#buffer.readUInt16LE(this.#valueStart) : 0;
  }

  u32(): number {
    return this.#has(4) ? this.#buffer.readUInt32LE(this.#valueStart) : 0;
  }

  s32(): number {
    return this.#has(4) ? this.#buffer.readInt32LE(this.#valueStart) : 0;
  }

  u64(): bigint {
    return this.#has(8) ? this.#buffer.readBigUInt64LE(this.#valueStart) : 0n;
  }

  u16be(): number {
    return this.#has(2) ? this.#buffer.readUInt16BE(this.#valueStart) : 0;
  }

  u32be(): number {
    return this.#has(4) ? this.#buffer.readUInt32BE(this.#valueStart) : 0;
  }

  s32be(): number {
    return this.#has(4) ? this.#buffer.readInt32BE(this.#valueStart) : 0;
  }

  u64be(): bigint {
    return this.#has(8) ? this.#buffer.readBigUInt64BE(this.#valueStart) : 0n;
  }

  /** {@link u64be} without a BigInt, for counters: exact below 2^53, rounded above. */
  u64beNumber(): number {
    if (!this.#has(8)) return 0;
    return (
      this.#buffer.readUInt32BE(this.#valueStart) * 0x1_0000_0000 + this.#buffer.readUInt32BE(this.#valueStart + 4)
    );
  }

  /** UTF-8 up to the first NUL or the end. */
  string(): string {
    const nul = this.#buffer.indexOf(0, this.#valueStart);
    const end = nul < 0 || nul > this.#valueEnd ? this.#valueEnd : nul;
    return this.#buffer.toString('utf8', this.#valueStart, end);
  }

  /** Canonical text of an IP address of 4 or 16 bytes in network byte order, the last ones of the value after `headerBytes`. */
  ip(headerBytes = 0): string {
    const length = this.length - headerBytes;
    if (this.#root.#fault !== undefined) return '';
    if (length === 4 || length === 16) return formatIp(ipFromBytes(this.bytes().subarray(headerBytes)));
    this.#fail(`${length} bytes where an IP address was expected`);
    return '';
  }

  /** The value as a view of the message's own memory. */
  bytes(): Buffer {
    return this.#buffer.subarray(this.#valueStart, this.#valueEnd);
  }

  /** The attributes inside this one, after `headerBytes` of a fixed header. */
  nested(headerBytes = 0): AttributeReader {
    return new AttributeReader(this.#buffer, this.#valueStart + headerBytes, this.#valueEnd, this);
  }

  /** @throws {NetlinkError} `ERR_NETLINK_MALFORMED`, naming the first attribute that made no sense */
  check(): void {
    const fault = this.#root.#fault;
    if (fault === undefined) return;
    throw new NetlinkError({ op: 'netlink.decode', code: 'ERR_NETLINK_MALFORMED', message: fault });
  }

  #has(length: number): boolean {
    if (this.#root.#fault !== undefined) return false;
    if (this.#valueEnd - this.#valueStart >= length) return true;
    return this.#fail(`${this.length} bytes where a value of ${length} was expected`);
  }

  #fail(what: string): false {
    const path: number[] = [];
    for (let reader: AttributeReader | undefined = this; reader !== undefined; reader = reader.#parent) {
      if (reader.type !== 0 || reader.#valueStart !== 0) path.unshift(reader.type);
    }
    this.#root.#fault ??= `attribute ${path.length === 0 ? '(first)' : path.join('.')}: ${what}`;
    return false;
  }
}
