import type { ResolvedHttp2Options } from './options.ts';

/** A token bucket without a clock: `perSecond` tokens, refilled when told how much time has passed. */
export class Budget {
  readonly #perSecond: number;
  #tokens: number;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#tokens = perSecond;
  }

  /** Takes one; false when none is left. */
  take(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Adds tokens that were earned otherwise than by time, over the burst too. */
  earn(tokens: number): void {
    this.#tokens += tokens;
  }

  refill(elapsedMs: number): void {
    if (this.#tokens >= this.#perSecond) return;
    this.#tokens = Math.min(this.#perSecond, this.#tokens + (this.#perSecond * elapsedMs) / 1000);
  }
}

/** How often the peer may do what costs us more than it costs the peer. Refilled by {@link FloodGuard.tick}. */
export class FloodGuard {
  readonly settings: Budget;
  readonly pings: Budget;
  readonly emptyData: Budget;
  readonly failedStreams: Budget;
  readonly windowUpdates: Budget;
  readonly ignored: Budget;
  #lastMs = 0;

  constructor(options: ResolvedHttp2Options) {
    this.settings = new Budget(options.maxSettingsPerSecond);
    this.pings = new Budget(options.maxPingsPerSecond);
    this.emptyData = new Budget(options.maxEmptyDataPerSecond);
    this.failedStreams = new Budget(options.maxFailedStreamsPerSecond);
    this.windowUpdates = new Budget(options.maxWindowUpdatesPerSecond);
    this.ignored = new Budget(options.maxIgnoredFramesPerSecond);
  }

  start(nowMs: number): void {
    this.#lastMs = nowMs;
  }

  tick(nowMs: number): void {
    const elapsedMs = nowMs - this.#lastMs;
    if (elapsedMs <= 0) return;
    this.#lastMs = nowMs;
    this.settings.refill(elapsedMs);
    this.pings.refill(elapsedMs);
    this.emptyData.refill(elapsedMs);
    this.failedStreams.refill(elapsedMs);
    this.windowUpdates.refill(elapsedMs);
    this.ignored.refill(elapsedMs);
  }
}
