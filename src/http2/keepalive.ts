/** What {@link Keepalive.tick} asks for. */
export const KEEPALIVE_IDLE = 0;
export const KEEPALIVE_PING = 1;
export const KEEPALIVE_DEAD = 2;

/**
 * When to ping and when to give up (facts section 1.7): a PING one interval after the start and after every PONG. Bytes
 * of any kind count as life, so that a PONG stuck behind megabytes on a slow link kills nothing; silence after a PING does.
 */
export class Keepalive {
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  #nowMs = 0;
  #nextPingMs = 0;
  #waiting = false;
  #aliveMs = 0;
  #heard = false;

  constructor(intervalMs: number, timeoutMs: number) {
    this.#intervalMs = intervalMs;
    this.#timeoutMs = timeoutMs;
  }

  start(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#nextPingMs = nowMs + this.#intervalMs;
  }

  /** Bytes have come. There is no clock here: they count from the next tick. */
  heard(): void {
    this.#heard = true;
  }

  /** Our PING was answered. */
  answered(): void {
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#nextPingMs = this.#nowMs + this.#intervalMs;
  }

  tick(nowMs: number): typeof KEEPALIVE_IDLE | typeof KEEPALIVE_PING | typeof KEEPALIVE_DEAD {
    this.#nowMs = nowMs;
    if (this.#heard) this.#aliveMs = nowMs;
    this.#heard = false;
    if (this.#intervalMs === 0) return KEEPALIVE_IDLE;
    if (this.#waiting) return nowMs - this.#aliveMs >= this.#timeoutMs ? KEEPALIVE_DEAD : KEEPALIVE_IDLE;
    if (nowMs < this.#nextPingMs) return KEEPALIVE_IDLE;
    this.#waiting = true;
    this.#aliveMs = nowMs;
    return KEEPALIVE_PING;
  }
}
