import { fieldBytes, type HeaderField } from '../header-field.ts';
import { compressionError } from '../http2-error.ts';
import { DynamicTable } from './dynamic-table.ts';
import { huffmanDecode } from './huffman.ts';
import { type Cursor, readInteger } from './integer.ts';
import { STATIC_ENTRIES, STATIC_TABLE } from './static-table.ts';

const NOTHING = Buffer.alloc(0);

/**
 * HPACK decoding (RFC 7541) of one direction of one connection. Every header block of the connection must go through it,
 * also those of streams that are refused or already gone: the table is the connection's.
 */
export class HpackDecoder {
  readonly #table: DynamicTable;
  readonly #maxListBytes: number;
  readonly #cursor: Cursor = { buffer: NOTHING, position: 0, end: 0 };
  #maxTableBytes: number;
  #updateDue = false;
  #listBytes = 0;

  /**
   * @param maxTableBytes what we announce as SETTINGS_HEADER_TABLE_SIZE (4096 unless announced otherwise)
   * @param maxListBytes what a decoded list may take, counted as SETTINGS_MAX_HEADER_LIST_SIZE is
   */
  constructor(maxTableBytes: number, maxListBytes: number) {
    this.#table = new DynamicTable(maxTableBytes);
    this.#maxTableBytes = maxTableBytes;
    this.#maxListBytes = maxListBytes;
  }

  /** Bytes of the dynamic table in use. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /** Size of the last decoded list, also where it went over the limit. */
  get listBytes(): number {
    return this.#listBytes;
  }

  /** True when the last decoded list was larger than allowed: it is cut short, the tables are right all the same. */
  get overflowed(): boolean {
    return this.#listBytes > this.#maxListBytes;
  }

  /** The peer has acknowledged a new SETTINGS_HEADER_TABLE_SIZE: a smaller one has to be confirmed by its next block. */
  setMaxTableBytes(bytes: number): void {
    this.#maxTableBytes = bytes;
    if (this.#table.maxBytes > bytes) this.#updateDue = true;
  }

  /**
   * Decodes one complete header block, `buffer[start, end)`. What lies beyond the list limit is not kept, so that a small
   * block that names a large entry a thousand times costs no memory. Throws `ERR_HTTP2_COMPRESSION`; the connection is
   * lost then (RFC 9113 section 4.3).
   */
  decode(buffer: Buffer, start: number, end: number): HeaderField[] {
    const cursor = this.#cursor;
    cursor.buffer = buffer;
    cursor.position = start;
    cursor.end = end;
    this.#listBytes = 0;
    const fields: HeaderField[] = [];
    try {
      this.#sizeUpdates(cursor);
      while (cursor.position < end) {
        const field = this.#field(cursor);
        this.#listBytes += fieldBytes(field[0], field[1]);
        if (this.#listBytes <= this.#maxListBytes) fields.push(field);
      }
    } finally {
      cursor.buffer = NOTHING;
    }
    return fields;
  }

  /** Size updates stand at the start of a block, two at most (RFC 7541 section 4.2). */
  #sizeUpdates(cursor: Cursor): void {
    let updates = 0;
    while (cursor.position < cursor.end && (cursor.buffer[cursor.position]! & 0xe0) === 0x20) {
      const bytes = readInteger(cursor, 5);
      if (bytes > this.#maxTableBytes) throw compressionError('dynamic table size update above the announced size');
      if (++updates > 2) throw compressionError('more than two dynamic table size updates in one header block');
      this.#table.resize(bytes);
    }
    if (this.#updateDue) {
      if (updates === 0) throw compressionError('dynamic table size update is missing after SETTINGS');
      this.#updateDue = false;
    }
  }

  #field(cursor: Cursor): HeaderField {
    const first = cursor.buffer[cursor.position]!;
    if ((first & 0x80) !== 0) return this.#entry(readInteger(cursor, 7));
    if ((first & 0x40) !== 0) {
      const field = this.#literal(cursor, 6);
      this.#table.insert(field);
      return field;
    }
    if ((first & 0x20) !== 0) throw compressionError('dynamic table size update inside a header block');
    return this.#literal(cursor, 4);
  }

  #literal(cursor: Cursor, prefixBits: number): HeaderField {
    const index = readInteger(cursor, prefixBits);
    const name = index === 0 ? readString(cursor) : this.#entry(index)[0];
    return [name, readString(cursor)];
  }

  #entry(index: number): HeaderField {
    const field = index <= STATIC_ENTRIES ? STATIC_TABLE[index] : this.#table.get(index - STATIC_ENTRIES - 1);
    if (index === 0 || field === undefined) throw compressionError(`header field index ${index} names no entry`);
    return field;
  }
}

function readString(cursor: Cursor): string {
  const huffman = cursor.position < cursor.end && (cursor.buffer[cursor.position]! & 0x80) !== 0;
  const length = readInteger(cursor, 7);
  const start = cursor.position;
  const end = start + length;
  if (end > cursor.end) throw compressionError('header block ends inside a string');
  cursor.position = end;
  if (!huffman) return cursor.buffer.toString('latin1', start, end);
  const text = huffmanDecode(cursor.buffer, start, end);
  if (text === undefined) throw compressionError('string in a header block is no valid Huffman code');
  return text;
}
