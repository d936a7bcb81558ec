import { EAGAIN, errno, type Libc, libc, MSG_NOSIGNAL, NativeMemory } from '../system/index.ts';

/** Size of one chunk. A slow reader's backlog is a list of them. */
export const CHUNK_BYTES = 64 << 10;

class Chunk {
  readonly memory = new NativeMemory(CHUNK_BYTES);
  start = 0;
  end = 0;
  next: Chunk | undefined;
}

/**
 * The chunks of one reactor: taken when an application reads more slowly than its peer writes, given back when it has caught up, so
 * that a slow reader makes no garbage. Keeps at most `keepBytes` for later (default 16 MiB); what is beyond goes to the collector.
 */
export class ChunkPool {
  #free: Chunk | undefined;
  #freeCount = 0;
  readonly #keep: number;

  constructor(keepBytes: number = 16 << 20) {
    this.#keep = Math.floor(keepBytes / CHUNK_BYTES);
  }

  take(): Chunk {
    const chunk = this.#free;
    if (chunk === undefined) return new Chunk();
    this.#free = chunk.next;
    this.#freeCount--;
    chunk.start = 0;
    chunk.end = 0;
    chunk.next = undefined;
    return chunk;
  }

  give(chunk: Chunk): void {
    if (this.#freeCount >= this.#keep) return;
    chunk.next = this.#free;
    this.#free = chunk;
    this.#freeCount++;
  }
}

/** {@link PendingBytes.sendTo} wrote everything. */
export const SENT_ALL = 0;
/** {@link PendingBytes.sendTo} left something: the socket is full. */
export const SENT_SOME = 1;
/** {@link PendingBytes.sendTo} met an error other than EAGAIN. */
export const SEND_FAILED = 2;

/** Bytes that a socket would not take yet, oldest first. The writer bounds it: here by the stream's flow-control window. */
export class PendingBytes {
  readonly #pool: ChunkPool;
  readonly #libc: Libc = libc();
  #head: Chunk | undefined;
  #tail: Chunk | undefined;
  #length = 0;
  /** Bytes that the last {@link sendTo} got rid of. */
  sent = 0;

  constructor(pool: ChunkPool) {
    this.#pool = pool;
  }

  get length(): number {
    return this.#length;
  }

  /** Copies `buffer[start, end)` behind what is there. */
  append(buffer: Buffer, start: number, end: number): void {
    this.#length += end - start;
    for (let at = start; at < end; ) {
      let chunk = this.#tail;
      if (chunk === undefined || chunk.end === CHUNK_BYTES) {
        const fresh = this.#pool.take();
        if (chunk === undefined) this.#head = fresh;
        else chunk.next = fresh;
        this.#tail = fresh;
        chunk = fresh;
      }
      const take = Math.min(end - at, CHUNK_BYTES - chunk.end);
      buffer.copy(chunk.memory.buffer, chunk.end, at, at + take);
      chunk.end += take;
      at += take;
    }
  }

  /** Sends as much as the socket takes. {@link sent} says how much, the result how it ended. */
  sendTo(fd: number): typeof SENT_ALL | typeof SENT_SOME | typeof SEND_FAILED {
    this.sent = 0;
    for (let chunk = this.#head; chunk !== undefined; chunk = this.#head) {
      const length = chunk.end - chunk.start;
      const count = this.#libc.send(fd, chunk.memory.address + chunk.start, length, MSG_NOSIGNAL);
      if (count < 0) return errno() === EAGAIN ? SENT_SOME : SEND_FAILED;
      this.sent += count;
      this.#length -= count;
      chunk.start += count;
      if (count < length) return SENT_SOME;
      this.#head = chunk.next;
      if (this.#head === undefined) this.#tail = undefined;
      this.#pool.give(chunk);
    }
    return SENT_ALL;
  }

  /** Forgets everything. */
  clear(): void {
    for (let chunk = this.#head; chunk !== undefined; ) {
      const { next } = chunk;
      this.#pool.give(chunk);
      chunk = next;
    }
    this.#head = undefined;
    this.#tail = undefined;
    this.#length = 0;
  }
}
