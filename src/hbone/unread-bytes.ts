/** Size of the blocks that small pieces are collected in. */
const BLOCK_BYTES = 16 << 10;

/**
 * Bytes that a stream's reader has not asked for yet, oldest first. They are copied into blocks: a peer that sends its window
 * byte by byte to somebody who does not read fills blocks, and not the heap with a million little buffers.
 */
export class UnreadBytes {
  readonly #blocks: Buffer[] = [];
  /** Bytes of the last block that are filled. */
  #lastEnd = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Copies `buffer[start, end)` behind what is there. */
  append(buffer: Buffer, start: number, end: number): void {
    this.#length += end - start;
    for (let at = start; at < end; ) {
      if (this.#blocks.length === 0 || this.#lastEnd === this.#blocks.at(-1)!.length) this.#grow();
      const block = this.#blocks.at(-1)!;
      const bytes = Math.min(end - at, block.length - this.#lastEnd);
      buffer.copy(block, this.#lastEnd, at, at + bytes);
      this.#lastEnd += bytes;
      at += bytes;
    }
  }

  /** Takes the oldest block out, which the caller may keep. Only where {@link length} is not 0. */
  take(): Buffer {
    const block = this.#blocks.shift()!;
    const taken = this.#blocks.length === 0 ? block.subarray(0, this.#lastEnd) : block;
    this.#length -= taken.length;
    return taken;
  }

  clear(): void {
    this.#blocks.length = 0;
    this.#length = 0;
  }

  #grow(): void {
    // The first one small: most streams that come here are a few bytes ahead of their reader.
    this.#blocks.push(Buffer.allocUnsafeSlow(this.#blocks.length === 0 ? 1024 : BLOCK_BYTES));
    this.#lastEnd = 0;
  }
}
