import { writeSync } from 'node:fs';

/**
 * A log's descriptor, for a thread that must never wait: the reader of a pipe may be slow, and Node makes its standard output
 * non-blocking where that is a pipe. A data-plane thread writes its logs itself, since the main thread's streams are out of its reach.
 */
export class LogDescriptor {
  readonly #fd: number;
  /** The end of lines that {@link write} took and the descriptor did not yet. */
  #rest: Buffer | undefined;

  /** @param fd - stays its owner's */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Takes whole lines, or throws and has taken nothing. @throws what write(2) says: `EAGAIN`, `ENOSPC`, `EPIPE`, … */
  write(lines: string): void {
    if (this.#rest !== undefined) this.#finish(this.#rest);
    const bytes = Buffer.from(lines, 'utf8');
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      if (at === 0) throw error;
      // Half a line is out: what follows it must be the other half.
      this.#rest = bytes.subarray(at);
    }
  }

  #finish(rest: Buffer): void {
    let left = rest;
    while (left.length > 0) {
      this.#rest = left;
      left = left.subarray(writeSync(this.#fd, left));
    }
    this.#rest = undefined;
  }
}
