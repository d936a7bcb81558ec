import { F_SETPIPE_SZ, libc, O_CLOEXEC, O_NONBLOCK } from '../system/index.ts';

/** Two ends of a kernel pipe, through which splice(2) moves pages without copying them. */
export interface Pipe {
  readonly reader: number;
  readonly writer: number;
}

/** What a pipe holds at most: the default limit for unprivileged users (pipe(7)), one transfer of the relay. */
export const PIPE_BYTES = 1 << 20;

/** Pipes of one reactor that are empty and wait for the next stream of bytes: making one costs as much as several transfers. */
export class PipePool {
  readonly #free: Pipe[] = [];
  readonly #keep: number;
  readonly #ends = new Int32Array(2);
  #closed = false;

  /** @param keep - empty pipes that are kept, default 64 (two descriptors each) */
  constructor(keep = 64) {
    this.#keep = keep;
  }

  /** An empty pipe; undefined where none can be made (EMFILE, ENFILE): a relay can do without. */
  take(): Pipe | undefined {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (libc().pipe2(this.#ends, O_NONBLOCK | O_CLOEXEC) < 0) return undefined;
    const pipe = { reader: this.#ends[0]!, writer: this.#ends[1]! };
    // Refused when the user's share of pipe pages is used up: then the pipe keeps its 64 KiB, and only speed is lost.
    libc().fcntl(pipe.writer, F_SETPIPE_SZ, PIPE_BYTES);
    return pipe;
  }

  /** Takes an empty pipe back, also after {@link close}. */
  give(pipe: Pipe): void {
    if (!this.#closed && this.#free.length < this.#keep) this.#free.push(pipe);
    else this.discard(pipe);
  }

  /** Closes a pipe, whatever is in it. */
  discard(pipe: Pipe): void {
    libc().close(pipe.reader);
    libc().close(pipe.writer);
  }

  /** Closes the pipes that wait here; those in use are closed when they are given back. */
  close(): void {
    this.#closed = true;
    for (const pipe of this.#free.splice(0)) this.discard(pipe);
  }
}
