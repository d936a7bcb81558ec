// Not the global of the same name, which is looked up behind an accessor each time.
import { performance } from 'node:perf_hooks';
import { arch } from 'node:process';
import {
  check,
  EBADF,
  EINVAL,
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  errno,
  FileDescriptor,
  type Libc,
  libc,
  NativeMemory,
  SystemError,
} from '../system/index.ts';
import { BusyPoll } from './busy-poll.ts';
import { TimerQueue } from './timer-queue.ts';

/** A descriptor that the reactor watches for its owner. */
export interface Pollable {
  readonly fd: number;
  /** Told once a turn. `events` is a mask of `EPOLLIN`, `EPOLLOUT`, `EPOLLRDHUP`, `EPOLLHUP`, `EPOLLERR`. */
  onEvents(events: number): void;
  /** {@link onEvents} threw, in the middle of whatever it was doing: the place to end what cannot go on. */
  onThrown?(error: unknown): void;
}

/** Work that is done once at the end of a turn, however often it was asked for during it. */
export interface Deferred {
  /** Owned by the reactor: true while the object waits in its list. */
  deferred: boolean;
  onDeferred(): void;
  /** {@link onDeferred} threw: as {@link Pollable.onThrown}. */
  onThrown?(error: unknown): void;
}

export interface ReactorOptions {
  /**
   * Hears what callbacks throw. Whatever it happened to has been ended (a tunnel, a stream, a relay), and everything else goes on.
   * Default: the turn does all it has to do, and then throws the first of it.
   */
  readonly onUncaught?: (error: unknown) => void;
  /**
   * How long a wait may look for events again and again before it sleeps, in milliseconds and parts of them, where messages follow each
   * other fast: it waits asleep again once that was in vain. Between two looks the processor is offered to everybody else
   * (`sched_yield(2)`). Default 0: never.
   */
  readonly busyPollMs?: number;
}

// struct epoll_event is packed on x86-64 only (<linux/eventpoll.h>: EPOLL_PACKED).
const EVENT_WORDS = arch === 'x64' ? 3 : 4;
const DATA_WORD = arch === 'x64' ? 1 : 2;
const EVENTS_PER_WAIT = 512;
const LONGEST_WAIT_MS = 1000;

/**
 * A synchronous event loop over epoll: the data plane's heart. One turn is wait → handlers → deferred work → timers. Nothing in
 * it is asynchronous in JavaScript's sense, so an object's state changes only inside its own handler.
 *
 * Not for sharing between threads. Whoever adds a descriptor removes it before closing it.
 */
export class Reactor {
  readonly #epoll: FileDescriptor;
  readonly #libc: Libc;
  readonly #handlers: (Pollable | undefined)[] = [];
  /** Counts the owners that a descriptor number has had: an event that was waiting for an earlier one is stale. */
  readonly #generations: number[] = [];
  readonly #eventMemory = new NativeMemory(EVENTS_PER_WAIT * EVENT_WORDS * 4);
  readonly #events: Int32Array;
  readonly #control = new NativeMemory(128);
  readonly #controlWords: Int32Array;
  readonly #timers: TimerQueue[] = [];
  readonly #busyPoll: BusyPoll | undefined;
  // Two lists that take turns and never shrink: emptying one by its length would have V8 make it anew, every turn.
  #deferred: (Deferred | undefined)[] = [];
  #deferredNow: (Deferred | undefined)[] = [];
  #deferredCount = 0;
  #deferredNowCount = 0;
  readonly #onUncaught: (error: unknown) => void;
  /** What {@link turn} throws at its end, each in a box: an `undefined` can be thrown too. */
  readonly #uncaught: { error: unknown }[] = [];
  /** Whose callback is running, and where to go on should it throw. */
  #current: Pollable | Deferred | undefined;
  #eventCount = 0;
  #nextEvent = 0;
  #nextDeferred = 0;
  #eventsSeen = 0;
  #stopped = false;
  #nowMs = monotonicMs();

  constructor(options: ReactorOptions = {}) {
    this.#onUncaught = options.onUncaught ?? ((error) => this.#uncaught.push({ error }));
    this.#busyPoll = options.busyPollMs ? new BusyPoll(options.busyPollMs) : undefined;
    this.#libc = libc();
    this.#epoll = new FileDescriptor(check(this.#libc.epoll_create1(EPOLL_CLOEXEC), 'epoll_create1'), 'epoll');
    this.#events = new Int32Array(this.#eventMemory.buffer.buffer);
    this.#controlWords = new Int32Array(this.#control.buffer.buffer);
  }

  /** Milliseconds of the monotonic clock, read once a turn: a timer may be late by as long as the turn before it took. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events of descriptors so far: as many as a moment ago means that nothing has happened since. */
  get eventsSeen(): number {
    return this.#eventsSeen;
  }

  /** Waits so far that began by polling. */
  get polls(): number {
    return this.#busyPoll?.polls ?? 0;
  }

  /** Watches `pollable.fd` for `events`. @throws {SystemError} with `syscall: 'epoll_ctl'`; then nothing has changed */
  add(pollable: Pollable, events: number): void {
    const { fd } = pollable;
    const generation = ((this.#generations[fd] ?? 0) + 1) | 0;
    this.#ctl(EPOLL_CTL_ADD, fd, events, generation);
    this.#generations[fd] = generation;
    this.#handlers[fd] = pollable;
  }

  /** Watches for other events from now on. */
  modify(pollable: Pollable, events: number): void {
    this.#ctl(EPOLL_CTL_MOD, pollable.fd, events, this.#generations[pollable.fd] ?? 0);
  }

  /** Stops watching; to be called before the descriptor is closed. Events of this turn not yet handed out are dropped. */
  remove(pollable: Pollable): void {
    const { fd } = pollable;
    if (this.#handlers[fd] !== pollable) return;
    this.#handlers[fd] = undefined;
    this.#ctl(EPOLL_CTL_DEL, fd, 0, 0);
  }

  /**
   * As {@link remove} for a descriptor that is closed right after and has no duplicate: the kernel drops its registration by itself,
   * which saves the call.
   */
  forget(pollable: Pollable): void {
    if (this.#handlers[pollable.fd] === pollable) this.#handlers[pollable.fd] = undefined;
  }

  /** Is this descriptor somebody's here? */
  watches(fd: number): boolean {
    return this.#handlers[fd] !== undefined;
  }

  /** Tells of payload that a handler has read: a turn with much of it belongs to a stream, between whose parts no wait is polled. */
  tellRead(bytes: number): void {
    this.#busyPoll?.tellRead(bytes);
  }

  /** Calls `work.onDeferred()` after the events of this turn, once. Deferred work may defer itself again: to the next turn. */
  defer(work: Deferred): void {
    if (work.deferred) return;
    work.deferred = true;
    this.#deferred[this.#deferredCount++] = work;
  }

  /** The queue of all timers of one duration; the same object for the same duration. */
  timers(durationMs: number): TimerQueue {
    for (const queue of this.#timers) if (queue.durationMs === durationMs) return queue;
    const queue = new TimerQueue(durationMs);
    this.#timers.push(queue);
    return queue;
  }

  /** Turns until {@link stop}. */
  run(): void {
    while (!this.#stopped) this.turn(LONGEST_WAIT_MS);
  }

  /** Ends {@link run} after the turn that it is in. */
  stop(): void {
    this.#stopped = true;
  }

  /** One turn; waits at most `maxWaitMs` for something to happen. */
  turn(maxWaitMs: number): void {
    this.#nextEvent = 0;
    this.#eventCount = this.#wait(this.#deferredCount > 0 ? 0 : this.#waitMs(maxWaitMs));
    this.#eventsSeen += this.#eventCount;
    this.#nowMs = monotonicMs();
    this.#busyPoll?.end(this.#nowMs);
    // One try for the whole turn; what threw is behind the marks when the turn goes on.
    for (let done = false; !done; ) {
      try {
        this.#runEvents();
        this.#runDeferred();
        for (const queue of this.#timers) queue.expire(this.#nowMs);
        done = true;
      } catch (error) {
        this.#failCurrent(error);
      }
    }
    const first = this.#uncaught[0];
    if (first === undefined) return;
    this.#uncaught.length = 0;
    throw first.error;
  }

  /** Tells of an error that would otherwise be lost: thrown by a callback where nothing can stop for it. */
  report(error: unknown): void {
    this.#onUncaught(error);
  }

  /** Releases the epoll descriptor. What was watched stays its owners'. */
  close(): void {
    this.#stopped = true;
    this.#epoll.close();
    this.#handlers.length = 0;
  }

  #runEvents(): void {
    const words = this.#events;
    while (this.#nextEvent < this.#eventCount) {
      const at = this.#nextEvent++ * EVENT_WORDS;
      const fd = words[at + DATA_WORD]!;
      if (this.#generations[fd] !== words[at + DATA_WORD + 1]) continue;
      const handler = this.#handlers[fd];
      if (handler === undefined) continue;
      this.#current = handler;
      handler.onEvents(words[at]!);
    }
    this.#current = undefined;
  }

  #runDeferred(): void {
    // Something left from before: the last run of it threw.
    if (this.#nextDeferred === this.#deferredNowCount) {
      if (this.#deferredCount === 0) return;
      const work = this.#deferred;
      this.#deferred = this.#deferredNow;
      this.#deferredNow = work;
      this.#deferredNowCount = this.#deferredCount;
      this.#deferredCount = 0;
      this.#nextDeferred = 0;
    }
    const work = this.#deferredNow;
    while (this.#nextDeferred < this.#deferredNowCount) {
      const item = work[this.#nextDeferred]!;
      work[this.#nextDeferred++] = undefined;
      this.#current = item;
      item.deferred = false;
      item.onDeferred();
    }
    this.#current = undefined;
  }

  /** Ends what threw. Told of first: what follows calls more of the callbacks that are not to be trusted. */
  #failCurrent(error: unknown): void {
    const current = this.#current;
    this.#current = undefined;
    this.report(error);
    try {
      current?.onThrown?.(error);
    } catch (again) {
      this.report(again);
    }
  }

  #waitMs(maxWaitMs: number): number {
    let deadlineMs = this.#nowMs + maxWaitMs;
    for (const queue of this.#timers) deadlineMs = Math.min(deadlineMs, queue.nextDeadlineMs);
    // Rounded up: a wait that ends just before a deadline would spin until it is reached.
    return Math.max(0, Math.ceil(deadlineMs - this.#nowMs));
  }

  #wait(timeoutMs: number): number {
    const busyPoll = this.#busyPoll;
    if (busyPoll !== undefined && timeoutMs > 0) {
      const fromMs = monotonicMs();
      if (busyPoll.begin(fromMs, fromMs - this.#nowMs)) {
        const count = this.#poll(busyPoll, fromMs + busyPoll.windowMs);
        if (count > 0) return count;
      }
    }
    return this.#look(timeoutMs);
  }

  #poll(busyPoll: BusyPoll, untilMs: number): number {
    for (;;) {
      // Whoever wants this processor, first: it may be the one whose answer is waited for.
      this.#libc.sched_yield();
      const count = this.#look(0);
      if (count > 0) return count;
      const nowMs = monotonicMs();
      if (nowMs < untilMs) continue;
      busyPoll.gaveUp(nowMs);
      return 0;
    }
  }

  #look(timeoutMs: number): number {
    const count = this.#libc.epoll_wait(this.#epoll.fd, this.#eventMemory.address, EVENTS_PER_WAIT, timeoutMs);
    if (count >= 0) return count;
    const reason = errno();
    // A signal, nearly always; these alone are told apart, since errno may be another's (see tcpClosed).
    if (reason !== EBADF && reason !== EINVAL) return 0;
    throw new SystemError({ syscall: 'epoll_wait', errno: reason });
  }

  #ctl(operation: number, fd: number, events: number, generation: number): void {
    this.#controlWords[0] = events;
    this.#controlWords[DATA_WORD] = fd;
    this.#controlWords[DATA_WORD + 1] = generation;
    check(this.#libc.epoll_ctl(this.#epoll.fd, operation, fd, this.#control.address), 'epoll_ctl', `fd ${fd}`);
  }
}

function monotonicMs(): number {
  return performance.now();
}
