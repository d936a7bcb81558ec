import { NLA_F_NESTED, NLA_HDRLEN, NLA_TYPE_MASK, NLMSG_HDRLEN } from './constants.ts';
import { NetlinkError } from './netlink-error.ts';

/** What a {@link MessageWriter} may hold. */
export interface MessageWriterOptions {
  /** Room at the start. Default 1024. */
  readonly initialBytes?: number;
  /** The writer refuses to grow beyond this. Default 64 MiB. */
  readonly maxBytes?: number;
}

/**
 * Writes netlink messages one after another into one growing buffer; lengths and padding are filled in as it goes.
 *
 * Numbers are in host byte order (little-endian on every supported machine) unless the method's name ends in `be`, which is how
 * nfnetlink wants them. A value that does not fit is remembered, with the attribute it was for, and thrown once by {@link finish}.
 */
export class MessageWriter {
  #buffer: Buffer;
  #length = 0;
  #messageStart = -1;
  #count = 0;
  #path: number[] = [];
  #fault: NetlinkError | undefined;
  readonly #maxBytes: number;

  constructor(options: MessageWriterOptions = {}) {
    this.#buffer = Buffer.alloc(options.initialBytes ?? 1024);
    this.#maxBytes = options.maxBytes ?? 64 << 20;
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  /** Messages begun so far. */
  get count(): number {
    return this.#count;
  }

  /** Begins a message: `struct nlmsghdr`, whose sequence number and port the socket fills in. */
  begin(type: number, flags: number): this {
    if (this.#messageStart >= 0) this.#fail('a message was begun inside another');
    this.#messageStart = this.#reserve(NLMSG_HDRLEN);
    this.#count++;
    if (this.#fits(type, 0xffff)) this.#buffer.writeUInt16LE(type, this.#messageStart + 4);
    if (this.#fits(flags, 0xffff)) this.#buffer.writeUInt16LE(flags, this.#messageStart + 6);
    return this;
  }

  /** Ends the message begun last. */
  end(): this {
    if (this.#messageStart < 0) this.#fail('no message was begun');
    else this.#buffer.writeUInt32LE(this.#length - this.#messageStart, this.#messageStart);
    this.#messageStart = -1;
    return this;
  }

  /**
   * @returns the messages; the buffer is the writer's own and is valid until the writer is used again
   * @throws {NetlinkError} `ERR_NETLINK_ENCODE` for the first value that did not fit
   */
  finish(): Buffer {
    if (this.#messageStart >= 0) this.#fail('a message was not ended');
    if (this.#fault !== undefined) throw this.#fault;
    return this.#buffer.subarray(0, this.#length);
  }

  // The fixed header of the family (`struct ifinfomsg`, `struct nfgenmsg`), field by field, without padding of its own.

  u8(value: number): this {
    if (this.#fits(value, 0xff)) {
      const at = this.#reserve(1);
      this.#buffer.writeUInt8(value, at);
    }
    return this;
  }

  u16(value: number): this {
    if (this.#fits(value, 0xffff)) {
      const at = this.#reserve(2);
      this.#buffer.writeUInt16LE(value, at);
    }
    return this;
  }

  u32(value: number): this {
    if (this.#fits(value, 0xffff_ffff)) {
      const at = this.#reserve(4);
      this.#buffer.writeUInt32LE(value, at);
    }
    return this;
  }

  s32(value: number): this {
    if (this.#fitsSigned(value)) {
      const at = this.#reserve(4);
      this.#buffer.writeInt32LE(value, at);
    }
    return this;
  }

  u16be(value: number): this {
    if (this.#fits(value, 0xffff)) {
      const at = this.#reserve(2);
      this.#buffer.writeUInt16BE(value, at);
    }
    return this;
  }

  u32be(value: number): this {
    if (this.#fits(value, 0xffff_ffff)) {
      const at = this.#reserve(4);
      this.#buffer.writeUInt32BE(value, at);
    }
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#reserve(value.length);
    if (this.#fault === undefined) this.#buffer.set(value, at);
    return this;
  }

  // Attributes: `struct nlattr`, the value, padding to four bytes.

  attrU8(type: number, value: number): this {
    const start = this.#open(type, 0);
    this.u8(value);
    return this.#close(start);
  }

  attrU16(type: number, value: number): this {
    const start = this.#open(type, 0);
    this.u16(value);
    return this.#close(start);
  }

  attrU32(type: number, value: number): this {
    const start = this.#open(type, 0);
    this.u32(value);
    return this.#close(start);
  }

  attrS32(type: number, value: number): this {
    const start = this.#open(type, 0);
    this.s32(value);
    return this.#close(start);
  }

  attrU64(type: number, value: number | bigint): this {
    const start = this.#open(type, 0);
    if (this.#fits64(value)) {
      const at = this.#reserve(8);
      if (typeof value === 'bigint') this.#buffer.writeBigUInt64LE(value, at);
      else {
        this.#buffer.writeUInt32LE(value % 0x1_0000_0000, at);
        this.#buffer.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4);
      }
    }
    return this.#close(start);
  }

  attrU16be(type: number, value: number): this {
    const start = this.#open(type, 0);
    this.u16be(value);
    return this.#close(start);
  }

  attrU32be(type: number, value: number): this {
    const start = this.#open(type, 0);
    this.u32be(value);
    return this.#close(start);
  }

  attrS32be(type: number, value: number): this {
    const start = this.#open(type, 0);
    if (this.#fitsSigned(value)) {
      const at = this.#reserve(4);
      this.#buffer.writeInt32BE(value, at);
    }
    return this.#close(start);
  }

  attrU64be(type: number, value: number | bigint): this {
    const start = this.#open(type, 0);
    if (this.#fits64(value)) {
      const at = this.#reserve(8);
      if (typeof value === 'bigint') this.#buffer.writeBigUInt64BE(value, at);
      else {
        this.#buffer.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at);
        this.#buffer.writeUInt32BE(value % 0x1_0000_0000, at + 4);
      }
    }
    return this.#close(start);
  }

  /** UTF-8, with a closing NUL unless `nul` is false. A NUL inside is refused: the kernel would read a shorter name. */
  attrString(type: number, value: string, options?: { readonly nul?: boolean }): this {
    const start = this.#open(type, 0);
    if (value.includes('\0')) this.#fail('the text holds a NUL');
    else {
      const length = Buffer.byteLength(value);
      const at = this.#reserve(options?.nul === false ? length : length + 1);
      if (this.#fault === undefined) this.#buffer.write(value, at, length, 'utf8');
    }
    return this.#close(start);
  }

  attrBytes(type: number, value: Uint8Array): this {
    const start = this.#open(type, 0);
    this.bytes(value);
    return this.#close(start);
  }

  /** An attribute whose presence is its meaning. */
  attrFlag(type: number): this {
    return this.#close(this.#open(type, 0));
  }

  /** An attribute that holds what `write` writes: attributes, or a fixed header and attributes. Sets NLA_F_NESTED. */
  nest(type: number, write: (writer: this) => void): this {
    const start = this.#open(type, NLA_F_NESTED);
    write(this);
    return this.#close(start);
  }

  #open(type: number, flag: number): number {
    if (!Number.isInteger(type) || type < 0 || type > NLA_TYPE_MASK) this.#fail(`${type} is no attribute type`);
    this.#path.push(type);
    const start = this.#reserve(NLA_HDRLEN);
    if (this.#fault === undefined) this.#buffer.writeUInt16LE(type | flag, start + 2);
    return start;
  }

  #close(start: number): this {
    const length = this.#length - start;
    if (length > 0xffff) this.#fail(`${length} bytes do not fit an attribute, which holds 65535 with its header`);
    if (this.#fault === undefined) this.#buffer.writeUInt16LE(length, start);
    this.#path.pop();
    this.#reserve((4 - (length & 3)) & 3);
    return this;
  }

  /** Room for `length` zero bytes; their position. After a fault the room is not made, and nothing must be written. */
  #reserve(length: number): number {
    const at = this.#length;
    const end = at + length;
    if (end > this.#buffer.length) {
      if (end > this.#maxBytes) {
        this.#fail(`the messages are longer than ${this.#maxBytes} bytes`);
        return 0;
      }
      const grown = Buffer.alloc(Math.min(this.#maxBytes, Math.max(end, this.#buffer.length * 2)));
      grown.set(this.#buffer);
      this.#buffer = grown;
    }
    this.#length = end;
    return at;
  }

  #fits(value: number, max: number): boolean {
    if (this.#fault !== undefined) return false;
    if (Number.isInteger(value) && value >= 0 && value <= max) return this.#room();
    this.#fail(`${value} is no whole number from 0 to ${max}`);
    return false;
  }

  #fitsSigned(value: number): boolean {
    if (this.#fault !== undefined) return false;
    if ((value | 0) === value) return this.#room();
    this.#fail(`${value} is no signed 32-bit number`);
    return false;
  }

  #fits64(value: number | bigint): boolean {
    if (this.#fault !== undefined) return false;
    const fits =
      typeof value === 'bigint' ? value >= 0n && value < 1n << 64n : Number.isSafeInteger(value) && value >= 0;
    if (fits) return this.#room();
    this.#fail(`${value} is no unsigned 64-bit number`);
    return false;
  }

  /** That the widest number still fits below the limit: so that a number is either written whole or refused. */
  #room(): boolean {
    if (this.#length + 8 <= this.#maxBytes) return true;
    this.#fail(`the messages are longer than ${this.#maxBytes} bytes`);
    return false;
  }

  #fail(what: string): void {
    const where = this.#path.length === 0 ? `message ${this.#count - 1}` : `attribute ${this.#path.join('.')}`;
    this.#fault ??= new NetlinkError({
      op: 'netlink.encode',
      code: 'ERR_NETLINK_ENCODE',
      message: `${where}: ${what}`,
    });
  }
}
