/** Something that is told when its time is over. */
export interface Expiring {
  onExpired(): void;
}

/** One {@link Expiring}'s place in one {@link TimerQueue} at a time; reused for the life of its owner, so that arming allocates nothing. */
export class Timer {
  readonly owner: Expiring;
  deadlineMs = 0;
  /** The queue that it is armed in. */
  queue: TimerQueue | undefined;
  previous: Timer | undefined;
  next: Timer | undefined;

  constructor(owner: Expiring) {
    this.owner = owner;
  }

  get armed(): boolean {
    return this.queue !== undefined;
  }

  disarm(): void {
    this.queue?.remove(this);
  }
}

/**
 * All timers of one duration. Since the duration is shared, the order of arming is the order of expiry: a doubly linked list with
 * constant time for everything, which is what a proxy needs that arms a timer per connection and disarms nearly all of them.
 */
export class TimerQueue {
  readonly durationMs: number;
  #head: Timer | undefined;
  #tail: Timer | undefined;

  constructor(durationMs: number) {
    this.durationMs = durationMs;
  }

  /** Deadline of the timer that expires first; Infinity when none is armed. */
  get nextDeadlineMs(): number {
    return this.#head?.deadlineMs ?? Number.POSITIVE_INFINITY;
  }

  /** Arms `timer` to expire `durationMs` from `nowMs`; one that is armed, here or in another queue, starts anew. */
  arm(timer: Timer, nowMs: number): void {
    timer.disarm();
    timer.queue = this;
    timer.deadlineMs = nowMs + this.durationMs;
    timer.previous = this.#tail;
    if (this.#tail === undefined) this.#head = timer;
    else this.#tail.next = timer;
    this.#tail = timer;
  }

  /** Takes out a timer that is in this queue: {@link Timer.disarm} knows which one that is. */
  remove(timer: Timer): void {
    if (timer.queue !== this) return;
    if (timer.previous === undefined) this.#head = timer.next;
    else timer.previous.next = timer.next;
    if (timer.next === undefined) this.#tail = timer.previous;
    else timer.next.previous = timer.previous;
    timer.queue = undefined;
    timer.previous = undefined;
    timer.next = undefined;
  }

  /** Expires everything whose deadline has come. */
  expire(nowMs: number): void {
    for (let timer = this.#head; timer !== undefined && timer.deadlineMs <= nowMs; timer = this.#head) {
      this.remove(timer);
      timer.owner.onExpired();
    }
  }
}
