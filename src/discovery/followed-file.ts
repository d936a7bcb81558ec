import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { AmbientError } from '../errors/index.ts';
import { DirectoryWatch } from './directory-watch.ts';
import { MeshFileError, type MeshFileErrorInit } from './errors.ts';
import { fileSignature, readSettled } from './read-settled.ts';

/** How a file is followed, whatever is in it. */
export interface FollowOptions {
  readonly path: string;
  /** Hears why a content was refused, once per content. Not called for the first content: that ends the start. */
  readonly onError: (error: MeshFileError) => void;
  /** Aborting closes the source. */
  readonly signal?: AbortSignal;
  /** How long the directory has to be quiet before the file is read; at most ten times as long is waited. Default 100. */
  readonly debounceMs?: number;
  /** How often the file is looked at whatever the watch says: for file systems that tell nothing. 0 is never. Default 5,000. */
  readonly pollIntervalMs?: number;
  /** Whether to watch the directory. Default true. */
  readonly watch?: boolean;
  /** Largest file that is read. Default 16 MiB. */
  readonly maxBytes?: number;
}

/** What a file's text means, and who takes it. */
export interface FileContent<T> {
  /** @throws {@link MeshFileError} for a text that is refused */
  readonly parse: (text: string) => T;
  /** Takes a new content, the first one included. When it throws, the content counts as refused. */
  readonly onContent: (content: T) => void;
}

const MAX_MOVING_READS = 10;

/**
 * A text file in force: read, and followed as it is written in place, renamed over, or swapped by Kubernetes as a ConfigMap. A content
 * with a fault is refused whole and what was in force stays in force; the same when the file is gone.
 */
export class FollowedFile<T> implements AsyncDisposable {
  readonly #options: FollowOptions;
  readonly #content: FileContent<T>;
  readonly #path: string;
  readonly #debounceMs: number;
  readonly #pollIntervalMs: number;
  readonly #watch: DirectoryWatch | undefined;
  readonly #stop = new AbortController();
  readonly #onAbort = (): void => void this.close();
  #current: T | undefined;
  #lastError: MeshFileError | undefined;
  /** What the last judgement was about: the file as it stood, and the hash of its bytes or the code of the error. */
  #judgedSignature = '';
  #judgedContent = '';
  #movingReads = 0;
  #reading: Promise<void> | undefined;
  #quiet: NodeJS.Timeout | undefined;
  #waitingSince = 0;
  #poll: NodeJS.Timeout | undefined;

  constructor(options: FollowOptions, content: FileContent<T>) {
    this.#options = options;
    this.#content = content;
    this.#path = resolve(options.path);
    this.#debounceMs = options.debounceMs ?? 100;
    this.#pollIntervalMs = options.pollIntervalMs ?? 5000;
    this.#watch = options.watch === false ? undefined : new DirectoryWatch(this.#path, () => this.#settle());
  }

  /** What was last accepted. */
  get current(): T {
    return this.#current!;
  }

  /** Why the content that is there now was refused; undefined when it is the one in force. */
  get lastError(): MeshFileError | undefined {
    return this.#lastError;
  }

  /** Takes the first content. @throws {@link MeshFileError} when it is refused: nothing is watched then */
  async start(): Promise<void> {
    const { signal } = this.#options;
    signal?.throwIfAborted();
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    try {
      // The watch comes first, so that nothing written between the read and the watch is missed.
      const watching = await this.#watch?.refresh();
      if (watching === false && this.#pollIntervalMs === 0 && (await fileSignature(this.#path)) !== '') {
        throw this.#error('ERR_DISCOVERY_FILE_READ', 'its directory cannot be watched, and polling is off');
      }
      while (this.#current === undefined) {
        this.#stop.signal.throwIfAborted();
        await this.#read();
        if (this.#lastError !== undefined) throw this.#lastError;
        if (this.#current === undefined) await new Promise((done) => setTimeout(done, this.#debounceMs));
      }
    } catch (error) {
      await this.close();
      signal?.throwIfAborted();
      throw error;
    }
    if (this.#pollIntervalMs > 0) this.#poll = setInterval(() => this.#check(), this.#pollIntervalMs);
  }

  /** Stops watching; no callback runs after it. Resolves when a read under way has ended. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#watch?.close();
    clearTimeout(this.#quiet);
    clearInterval(this.#poll);
    await this.#reading;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Puts the next look off until the directory is quiet, but not for ever. */
  #settle(): void {
    if (this.#stop.signal.aborted) return;
    const now = performance.now();
    if (this.#quiet === undefined) this.#waitingSince = now;
    else if (now - this.#waitingSince >= 9 * this.#debounceMs) return;
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => {
      this.#quiet = undefined;
      this.#check();
    }, this.#debounceMs);
  }

  /** One look at a time; one asked for meanwhile is put off. */
  #check(): void {
    if (this.#current === undefined || this.#stop.signal.aborted) return;
    if (this.#reading !== undefined) return this.#settle();
    this.#reading = this.#look().finally(() => {
      this.#reading = undefined;
    });
  }

  async #look(): Promise<void> {
    await this.#watch?.refresh();
    if (this.#judgedSignature !== '' && (await fileSignature(this.#path)) === this.#judgedSignature) return;
    await this.#read();
  }

  /** Reads and judges. A file that is being written is left for later. */
  async #read(): Promise<void> {
    const { signal } = this.#stop;
    const signature = await fileSignature(this.#path);
    let content: string;
    let judge: () => T;
    try {
      const read = await readSettled(this.#path, this.#options.maxBytes ?? 16 << 20, signal);
      if (read.kind === 'moving') {
        if (++this.#movingReads < MAX_MOVING_READS) return this.#settle();
        throw this.#error('ERR_DISCOVERY_FILE_READ', `changed during each of ${MAX_MOVING_READS} reads`);
      }
      content = createHash('sha256').update(read.bytes).digest('base64');
      judge = () => this.#content.parse(this.#decode(read.bytes));
    } catch (error) {
      if (signal.aborted) return;
      content = (error as MeshFileError).code;
      judge = () => {
        throw error;
      };
    }
    if (signal.aborted) return;
    this.#movingReads = 0;
    this.#judgedSignature = signature;
    if (content === this.#judgedContent) return;
    this.#judgedContent = content;
    this.#judge(judge);
  }

  #judge(judge: () => T): void {
    try {
      const content = judge();
      this.#take(content);
      this.#current = content;
      this.#lastError = undefined;
    } catch (error) {
      if (!(error instanceof MeshFileError)) throw error;
      this.#lastError = error;
      if (this.#current !== undefined) this.#options.onError(error);
    }
  }

  #take(content: T): void {
    try {
      this.#content.onContent(content);
    } catch (cause) {
      const field = AmbientError.is(cause) ? cause.field : undefined;
      throw this.#error('ERR_DISCOVERY_FILE_REFUSED', `refused: ${(cause as Error).message}`, field, cause);
    }
  }

  #decode(bytes: Uint8Array): string {
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch (cause) {
      throw this.#error('ERR_DISCOVERY_FILE_CONTENT', 'not UTF-8', undefined, cause);
    }
  }

  #error(code: MeshFileErrorInit['code'], message: string, field?: string, cause?: unknown) {
    return new MeshFileError({ code, path: this.#options.path, message, field, cause });
  }
}
