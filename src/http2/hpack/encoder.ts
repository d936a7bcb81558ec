import { fieldBytes, type HeaderField } from '../header-field.ts';
import { DynamicTable } from './dynamic-table.ts';
import { huffmanBytes, huffmanEncode } from './huffman.ts';
import { writeInteger } from './integer.ts';
import { STATIC_ENTRIES, staticFieldIndex, staticNameIndex } from './static-table.ts';

/** How an {@link HpackEncoder} chooses representations. */
export interface HpackEncoderOptions {
  /** Most bytes of dynamic table used, whatever the peer allows; default 4096. */
  readonly maxTableBytes?: number;
  /** Names whose values do not repeat: literal without indexing, so that they do not push useful entries out. */
  readonly unindexed?: readonly string[];
  /** Names whose values are secret: literal never indexed, here and at every later hop (RFC 7541 section 6.2.3). */
  readonly neverIndexed?: readonly string[];
  /** Huffman code where it is not longer; default true. */
  readonly huffman?: boolean;
}

// Two size updates, then for every field: two integers of index and lengths, six bytes each at most, and one more length.
const BLOCK_OVERHEAD_BYTES = 12;
const FIELD_OVERHEAD_BYTES = 18;

/** HPACK encoding (RFC 7541) of one direction of one connection. Blocks must reach the peer in the order of encoding. */
export class HpackEncoder {
  readonly #table: DynamicTable;
  readonly #ownMaxBytes: number;
  readonly #unindexed: ReadonlySet<string>;
  readonly #neverIndexed: ReadonlySet<string>;
  readonly #huffman: boolean;
  /** The smallest size since the last block, and whether an update must be sent: RFC 7541 section 4.2 wants both told. */
  #smallestPending = 0;
  #updatePending = false;

  constructor(options: HpackEncoderOptions = {}) {
    this.#ownMaxBytes = options.maxTableBytes ?? 4096;
    this.#unindexed = new Set(options.unindexed);
    this.#neverIndexed = new Set(options.neverIndexed);
    this.#huffman = options.huffman ?? true;
    // Before SETTINGS the peer's table has 4096 bytes; a smaller one of ours has to be told to it.
    this.#table = new DynamicTable(4096);
    if (this.#ownMaxBytes < 4096) this.setPeerTableBytes(4096);
  }

  /** Bytes of the dynamic table in use. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE: the next block starts with the update. */
  setPeerTableBytes(bytes: number): void {
    const size = Math.min(bytes, this.#ownMaxBytes);
    if (size === this.#table.maxBytes && !this.#updatePending) return;
    this.#smallestPending = this.#updatePending ? Math.min(this.#smallestPending, size) : size;
    this.#updatePending = true;
    this.#table.resize(size);
  }

  /** Most bytes that {@link encode} may write for these fields. */
  bound(fields: readonly HeaderField[]): number {
    let bytes = BLOCK_OVERHEAD_BYTES;
    for (const field of fields) bytes += field[0].length + field[1].length + FIELD_OVERHEAD_BYTES;
    return bytes;
  }

  /**
   * Writes one header block at `offset` and gives the offset behind it. `out` must have {@link bound} bytes of room; names
   * and values must be latin1 (checked where they enter the module).
   */
  encode(fields: readonly HeaderField[], out: Buffer, offset: number): number {
    let end = this.#updatePending ? this.#sizeUpdates(out, offset) : offset;
    for (const field of fields) end = this.#field(field, out, end);
    return end;
  }

  #sizeUpdates(out: Buffer, offset: number): number {
    const final = this.#table.maxBytes;
    this.#updatePending = false;
    let end = offset;
    if (this.#smallestPending < final) end = writeInteger(out, end, 0x20, 5, this.#smallestPending);
    return writeInteger(out, end, 0x20, 5, final);
  }

  #field(field: HeaderField, out: Buffer, offset: number): number {
    const [name, value] = field;
    const never = this.#neverIndexed.has(name);
    const plain = never || this.#unindexed.has(name);
    const staticName = staticNameIndex(name);
    if (!plain) {
      const exact = staticFieldIndex(staticName, name, value);
      if (exact > 0) return writeInteger(out, offset, 0x80, 7, exact);
      // 128 entries at most, and most fields are among the first few: a scan is cheaper than keeping maps.
      const dynamic = this.#table.findField(name, value);
      if (dynamic >= 0) return writeInteger(out, offset, 0x80, 7, dynamic + STATIC_ENTRIES + 1);
    }
    let nameIndex = staticName;
    if (nameIndex === 0) {
      const dynamic = this.#table.findName(name);
      if (dynamic >= 0) nameIndex = dynamic + STATIC_ENTRIES + 1;
    }
    // An entry of most of the table would evict everything else for one field.
    const insert = !plain && fieldBytes(name, value) <= this.#table.maxBytes * 0.75;
    let end = insert
      ? writeInteger(out, offset, 0x40, 6, nameIndex)
      : writeInteger(out, offset, never ? 0x10 : 0x00, 4, nameIndex);
    if (nameIndex === 0) end = this.#string(name, out, end);
    end = this.#string(value, out, end);
    if (insert) this.#table.insert(field);
    return end;
  }

  #string(text: string, out: Buffer, offset: number): number {
    if (this.#huffman) {
      const bytes = huffmanBytes(text);
      if (bytes <= text.length) return huffmanEncode(text, out, writeInteger(out, offset, 0x80, 7, bytes));
    }
    const start = writeInteger(out, offset, 0x00, 7, text.length);
    return start + out.write(text, start, 'latin1');
  }
}
