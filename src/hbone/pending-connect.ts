import { type HeaderField, REFUSED_STREAM } from '../http2/index.ts';
import type { Clock } from '../identity/index.ts';
import { HboneError } from './hbone-error.ts';
import type { HboneStream } from './hbone-stream.ts';
import type { StreamFate, TunnelStream } from './tunnel-stream.ts';

/** What a {@link PendingConnect} is made of. */
export interface PendingConnectInit {
  readonly authority: string;
  readonly headers: readonly HeaderField[];
  readonly signal: AbortSignal | undefined;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** The stream was refused unprocessed (RFC 9113 section 8.7), or its tunnel was going away: it may go to another one. */
  readonly onUnprocessed: (connect: PendingConnect) => void;
  /** It is settled without ever having had a tunnel. */
  readonly onLeft: (connect: PendingConnect) => void;
}

/** How often a CONNECT that no server has looked at is sent anew, each time on another tunnel. */
const MOST_RETRIES = 1;

/** A `connect()` that is not settled: first it waits for a tunnel, then, with a stream, for the answer. */
export class PendingConnect implements StreamFate {
  readonly authority: string;
  readonly headers: readonly HeaderField[];
  readonly promise: Promise<HboneStream>;
  readonly #init: PendingConnectInit;
  readonly #timer: unknown;
  readonly #onAbort = (): void => this.fail(this.#init.signal?.reason);
  #resolve!: (stream: HboneStream) => void;
  #reject!: (reason: unknown) => void;
  #stream: TunnelStream | undefined;
  #settled = false;
  #retries = 0;

  constructor(init: PendingConnectInit) {
    this.#init = init;
    this.authority = init.authority;
    this.headers = init.headers;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    init.signal?.addEventListener('abort', this.#onAbort, { once: true });
    this.#timer = init.clock.setTimeout(() => this.#onTimeout(), init.timeoutMs);
  }

  get settled(): boolean {
    return this.#settled;
  }

  /** It has a stream, whose CONNECT is sent. */
  started(stream: TunnelStream): void {
    this.#stream = stream;
  }

  fail(reason: unknown): void {
    if (!this.#settle()) return;
    const stream = this.#stream;
    this.#reject(reason);
    // RST_STREAM at once: whoever asked for the stream is gone.
    if (stream !== undefined) stream.destroy();
    else this.#init.onLeft(this);
  }

  onAnswer(stream: TunnelStream, status: number, headers: readonly HeaderField[]): void {
    if (status !== 200) {
      const message = `CONNECT to ${this.authority} was answered with status ${status}`;
      this.fail(new HboneError({ code: 'ERR_HBONE_REFUSED', op: 'hbone.connect', message, status }));
      return;
    }
    if (!this.#settle()) return;
    stream.headers = headers;
    stream.open();
    this.#resolve(stream);
  }

  onFailed(stream: TunnelStream, error: HboneError): void {
    this.#stream = undefined;
    if (error.errorCode === REFUSED_STREAM) stream.leaveTunnel();
    if (this.#settled) return;
    if (error.errorCode === REFUSED_STREAM && this.#retries < MOST_RETRIES) {
      this.#retries++;
      this.#init.onUnprocessed(this);
      return;
    }
    this.fail(error);
  }

  #onTimeout(): void {
    const { timeoutMs } = this.#init;
    const message = `no answer to CONNECT ${this.authority} in ${timeoutMs} ms`;
    this.fail(new HboneError({ code: 'ERR_HBONE_TIMEOUT', op: 'hbone.connect', message }));
  }

  #settle(): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    this.#init.clock.clearTimeout(this.#timer);
    this.#init.signal?.removeEventListener('abort', this.#onAbort);
    return true;
  }
}
