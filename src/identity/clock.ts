/** Time as a parameter: wall-clock milliseconds since 1970, and timers that never keep a process alive. */
export interface Clock {
  now(): number;
  /** Calls `fn` once after `ms` (at most `MAX_TIMEOUT_MS`); the handle goes back to `clearTimeout`. */
  setTimeout(fn: () => void, ms: number): unknown;
  clearTimeout(handle: unknown): void;
}

/** The longest delay that Node's timers hold; a longer one would fire at once. */
export const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  setTimeout: (fn, ms) => setTimeout(fn, ms).unref(),
  clearTimeout: (handle) => clearTimeout(handle as NodeJS.Timeout | undefined),
};

interface Alarm {
  readonly atMs: number;
  readonly fn: () => void;
}

/** A clock that stands still until {@link ManualClock.advance} moves it: for tests of anything that takes a {@link Clock}. */
export class ManualClock implements Clock {
  #nowMs: number;
  readonly #alarms = new Set<Alarm>();

  constructor(nowMs = Date.UTC(2030, 0, 1)) {
    this.#nowMs = nowMs;
  }

  /** How many timers are armed. */
  get pending(): number {
    return this.#alarms.size;
  }

  now(): number {
    return this.#nowMs;
  }

  setTimeout(fn: () => void, ms: number): unknown {
    if (ms > MAX_TIMEOUT_MS) throw new RangeError(`a timer of ${ms} ms would fire at once in Node`);
    const alarm = { atMs: this.#nowMs + Math.max(0, ms), fn };
    this.#alarms.add(alarm);
    return alarm;
  }

  clearTimeout(handle: unknown): void {
    this.#alarms.delete(handle as Alarm);
  }

  /** Moves on by `ms`, firing what falls due in its order, and lets promises settle after each. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    for (let next = this.#next(endMs); next !== undefined; next = this.#next(endMs)) {
      this.#alarms.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.fn();
      await settled();
    }
    this.#nowMs = endMs;
    await settled();
  }

  /** Sets the wall clock without firing anything: what a suspended machine, or a corrected clock, looks like. */
  jump(ms: number): void {
    this.#nowMs += ms;
  }

  #next(untilMs: number): Alarm | undefined {
    let first: Alarm | undefined;
    for (const alarm of this.#alarms)
      if (alarm.atMs <= untilMs && (first === undefined || alarm.atMs < first.atMs)) first = alarm;
    return first;
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
