import { invalid } from './error.ts';

/** How often a watch repairs before it takes it for a fight with another program. */
export interface RepairLimitOptions {
  /** Repairs within `windowMs`. Default 10. */
  readonly maxRepairs?: number;
  /** Default 60,000. */
  readonly windowMs?: number;
  /** The first pause after that; each further one is twice as long. Default 30,000. */
  readonly pauseMs?: number;
  /** The longest pause. Default 600,000. */
  readonly maxPauseMs?: number;
}

/** Counts repairs by the clock that it is given; a window without a pause puts the pause back to its beginning. */
export class RepairLimit {
  readonly maxRepairs: number;
  readonly windowMs: number;
  readonly #pauseMs: number;
  readonly #maxPauseMs: number;
  #repairs: number[] = [];
  #nextPauseMs: number;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;

  /** @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, naming the option */
  constructor(options: RepairLimitOptions) {
    const whole = (field: keyof RepairLimitOptions, value: number) => {
      if (Number.isInteger(value) && value >= 1 && value <= 86_400_000) return value;
      throw invalid('watch', field, `${value} is no whole number from 1 to 86400000`);
    };
    this.maxRepairs = whole('maxRepairs', options.maxRepairs ?? 10);
    this.windowMs = whole('windowMs', options.windowMs ?? 60_000);
    this.#pauseMs = whole('pauseMs', options.pauseMs ?? 30_000);
    this.#maxPauseMs = whole('maxPauseMs', options.maxPauseMs ?? 600_000);
    this.#nextPauseMs = this.#pauseMs;
  }

  /**
   * Asks for a repair.
   *
   * @param nowMs - of a clock that does not go back
   * @returns 0, and the repair counts; or for how long to leave it
   */
  take(nowMs: number): number {
    if (nowMs < this.#pausedUntilMs) return this.#pausedUntilMs - nowMs;
    if (nowMs - this.#pausedUntilMs > this.windowMs) this.#nextPauseMs = this.#pauseMs;
    this.#repairs = this.#repairs.filter((atMs) => nowMs - atMs < this.windowMs);
    if (this.#repairs.length < this.maxRepairs) {
      this.#repairs.push(nowMs);
      return 0;
    }
    // After the pause there is one repair, and the next pause if that one does not last either.
    this.#repairs = this.#repairs.slice(1).fill(nowMs + this.#nextPauseMs);
    const pauseMs = this.#nextPauseMs;
    this.#pausedUntilMs = nowMs + pauseMs;
    this.#nextPauseMs = Math.min(pauseMs * 2, this.#maxPauseMs);
    return pauseMs;
  }
}
