import { fieldBytes, type HeaderField } from '../header-field.ts';

/**
 * The dynamic table of RFC 7541 section 2.3.2: first in, first out, bounded by the sum of its entries' sizes. Index 0 is
 * the newest entry (62 on the wire). A ring; the most entries it can hold is `maxBytes / 32`.
 */
export class DynamicTable {
  #ring: (HeaderField | undefined)[] = new Array<HeaderField | undefined>(16);
  #oldest = 0;
  #count = 0;
  #bytes = 0;
  #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get count(): number {
    return this.#count;
  }
  get bytes(): number {
    return this.#bytes;
  }
  get maxBytes(): number {
    return this.#maxBytes;
  }

  /** Changes the bound; entries beyond it are evicted (RFC 7541 section 4.3). */
  resize(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    this.#evictTo(maxBytes);
  }

  get(index: number): HeaderField | undefined {
    if (index >= this.#count) return undefined;
    return this.#ring[(this.#oldest + this.#count - 1 - index) & (this.#ring.length - 1)];
  }

  /** Adds an entry. One larger than the whole table empties it, which is no error (RFC 7541 section 4.4). */
  insert(field: HeaderField): void {
    const bytes = fieldBytes(field[0], field[1]);
    if (bytes > this.#maxBytes) {
      this.#evictTo(0);
      return;
    }
    this.#evictTo(this.#maxBytes - bytes);
    if (this.#count === this.#ring.length) this.#grow();
    this.#ring[(this.#oldest + this.#count) & (this.#ring.length - 1)] = field;
    this.#count++;
    this.#bytes += bytes;
  }

  /** Index of the entry of that name and value, or -1. */
  findField(name: string, value: string): number {
    for (let index = 0; index < this.#count; index++) {
      const entry = this.get(index)!;
      if (entry[1] === value && entry[0] === name) return index;
    }
    return -1;
  }

  /** Index of the newest entry of that name, or -1. */
  findName(name: string): number {
    for (let index = 0; index < this.#count; index++) if (this.get(index)![0] === name) return index;
    return -1;
  }

  #evictTo(bytes: number): void {
    while (this.#bytes > bytes) {
      const [name, value] = this.#ring[this.#oldest]!;
      this.#ring[this.#oldest] = undefined;
      this.#oldest = (this.#oldest + 1) & (this.#ring.length - 1);
      this.#count--;
      this.#bytes -= fieldBytes(name, value);
    }
  }

  #grow(): void {
    const ring = new Array<HeaderField | undefined>(this.#ring.length * 2);
    for (let i = 0; i < this.#count; i++) ring[i] = this.#ring[(this.#oldest + i) & (this.#ring.length - 1)];
    this.#ring = ring;
    this.#oldest = 0;
  }
}
