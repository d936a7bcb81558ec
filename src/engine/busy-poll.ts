/** Short waits in a row that come before a poll; after polls in vain up to the most. */
const LEAST_STREAK = 2;
const MOST_STREAK = 256;
/** A wait asleep that is called short, in windows: falling asleep and being woken are a part of it, which a poll would not have had. */
const SLEPT_WINDOWS = 2;
/** A turn that reads more moves a stream, not messages: what comes next, and so many waits more, are better waited for asleep. */
const STREAM_BYTES = 8 << 10;
const STREAM_WAITS = 64;
/** A turn that takes longer does more than to pass a message on: what comes next is waited for asleep. */
const SHORT_TURN_MS = 0.05;
/** A poll that ends this much after its window was ousted: another program was given the processor, and kept it. */
const OUSTED_MS = 0.3;
/** How long nobody polls after that: twice as long where it happens again before so many polls, up to the most. */
const LEAST_PAUSE_MS = 5;
const MOST_PAUSE_MS = 100;
const POLLS_BETWEEN = 1000;

/**
 * Decides which waits of a reactor begin by polling. To fall asleep and to be woken costs time at both ends of a conversation: some
 * microseconds on a machine of one's own, tens of them on a virtual one, whose sleeping processor the host has to wake first. Where
 * messages follow each other faster than that, looking again is better than sleeping. So waits are polled once some in a row were short
 * and the turns between them were; a poll in vain asks for more of them the next time, each that was not for one less.
 *
 * Keeps no clock: times are milliseconds of its owner's.
 */
export class BusyPoll {
  /** The longest that a wait is polled, before it goes on asleep. */
  readonly windowMs: number;
  #fromMs = 0;
  /** What is done of the wait that began last; `nothing` once it is over, or asleep after a poll. */
  #waits: 'nothing' | 'asleep' | 'polling' = 'nothing';
  /** Short waits in a row; below zero, how many are to come before any counts. */
  #streak = 0;
  #streakNeeded = LEAST_STREAK;
  #pauseMs = LEAST_PAUSE_MS;
  #pauseUntilMs = 0;
  #polls = 0;
  /** Since the wait before began. */
  #readBytes = 0;
  #oustedAtPoll = 0;

  constructor(windowMs: number) {
    this.windowMs = windowMs;
  }

  /** Waits so far that were polled. */
  get polls(): number {
    return this.#polls;
  }

  /** Payload was read, in the turn before the next wait. */
  tellRead(bytes: number): void {
    this.#readBytes += bytes;
  }

  /** A wait begins, behind a turn that took `turnMs`. @returns whether to poll */
  begin(nowMs: number, turnMs: number): boolean {
    this.#fromMs = nowMs;
    if (this.#readBytes > STREAM_BYTES) this.#streak = -STREAM_WAITS;
    else if (turnMs > SHORT_TURN_MS) this.#breakStreak();
    this.#readBytes = 0;
    const polls = this.#streak >= this.#streakNeeded && nowMs >= this.#pauseUntilMs;
    this.#waits = polls ? 'polling' : 'asleep';
    if (polls) this.#polls++;
    return polls;
  }

  /** The poll that began last found nothing in its window; what is left of the wait is spent asleep. */
  gaveUp(nowMs: number): void {
    this.#waits = 'nothing';
    this.#failed(nowMs);
  }

  /** Something happened, which ends the wait that began last. Nothing follows from it where none began, or its poll was given up. */
  end(nowMs: number): void {
    const waits = this.#waits;
    if (waits === 'nothing') return;
    this.#waits = 'nothing';
    const waitedMs = nowMs - this.#fromMs;
    if (waits === 'asleep') {
      if (waitedMs > SLEPT_WINDOWS * this.windowMs) this.#breakStreak();
      else if (this.#streak < MOST_STREAK) this.#streak++;
    } else if (waitedMs > this.windowMs) this.#failed(nowMs);
    else if (this.#streakNeeded > LEAST_STREAK) this.#streakNeeded--;
  }

  #failed(nowMs: number): void {
    this.#breakStreak();
    this.#streakNeeded = Math.min(2 * this.#streakNeeded, MOST_STREAK);
    if (nowMs - this.#fromMs <= this.windowMs + OUSTED_MS) return;
    const isRare = this.#polls - this.#oustedAtPoll > POLLS_BETWEEN;
    this.#pauseMs = isRare ? LEAST_PAUSE_MS : Math.min(2 * this.#pauseMs, MOST_PAUSE_MS);
    this.#pauseUntilMs = nowMs + this.#pauseMs;
    this.#oustedAtPoll = this.#polls;
  }

  #breakStreak(): void {
    if (this.#streak > 0) this.#streak = 0;
  }
}
