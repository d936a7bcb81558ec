import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Reactor } from './reactor.ts';
import { Timer } from './timer-queue.ts';

export interface IdleCollectorOptions {
  /** How long nothing must have happened. Default 1,000 ms. */
  readonly idleMs?: number;
  /** How much the heap must have grown since the last time, or else {@link leastEvents}. Default 1 MiB. */
  readonly growthBytes?: number;
  /** How many events there must have been since the last time. Default 1,000. */
  readonly leastEvents?: number;
  /** A heap beyond this is left to V8: going through it would keep the next connection waiting. Default 128 MiB, about 100 ms. */
  readonly mostHeapBytes?: number;
  /** Collects all garbage of this thread. Default: V8's own `gc()`. */
  readonly collect?: () => void;
  /** Gives back what is free now: behind a collection, and at the two checks that follow. Default: nothing. */
  readonly release?: () => void;
  /** Bytes of the heap that are in use, garbage included. Default: what V8 says. */
  readonly heapBytes?: () => number;
}

/** Right behind a collection, and at the next checks that find nothing to do: what V8 compiles meanwhile uses pages of the program anew. */
const RELEASES = 3;

/**
 * Collects garbage while a reactor has nothing to do. V8 does so by itself where there is an event loop; a thread that waits in epoll has
 * none, and would keep what a busy hour has left behind until the next one.
 */
export class IdleCollector {
  readonly #reactor: Reactor;
  readonly #timer = new Timer({ onExpired: () => this.#check() });
  readonly #idleMs: number;
  readonly #growthBytes: number;
  readonly #leastEvents: number;
  readonly #mostHeapBytes: number;
  readonly #collect: () => void;
  readonly #release: (() => void) | undefined;
  readonly #heapBytes: () => number;
  #eventsSeen = -1;
  #settledBytes = 0;
  #settledEvents = 0;
  #releasesLeft = 0;

  constructor(reactor: Reactor, options: IdleCollectorOptions = {}) {
    this.#reactor = reactor;
    this.#idleMs = options.idleMs ?? 1_000;
    this.#growthBytes = options.growthBytes ?? 1 << 20;
    this.#leastEvents = options.leastEvents ?? 1_000;
    this.#mostHeapBytes = options.mostHeapBytes ?? 128 << 20;
    this.#collect = options.collect ?? collectByV8();
    this.#release = options.release;
    this.#heapBytes = options.heapBytes ?? (() => getHeapStatistics().used_heap_size);
    this.#arm();
  }

  close(): void {
    this.#timer.disarm();
  }

  #arm(): void {
    this.#reactor.timers(this.#idleMs).arm(this.#timer, this.#reactor.nowMs);
  }

  #check(): void {
    this.#arm();
    const { eventsSeen } = this.#reactor;
    const isIdle = eventsSeen === this.#eventsSeen;
    this.#eventsSeen = eventsSeen;
    if (!isIdle) return;
    const heapBytes = this.#heapBytes();
    if (heapBytes > this.#mostHeapBytes) return;
    const hasGrown = heapBytes >= this.#settledBytes + this.#growthBytes;
    if (hasGrown || eventsSeen >= this.#settledEvents + this.#leastEvents) {
      this.#collect();
      this.#settledBytes = this.#heapBytes();
      this.#settledEvents = eventsSeen;
      this.#releasesLeft = RELEASES;
    }
    if (this.#releasesLeft === 0) return;
    this.#releasesLeft--;
    this.#release?.();
  }
}

/**
 * `gc()` is a function of contexts made while the flag is set, and of no other. Flags are the whole process's: taken back here, it could
 * be missing in another thread that is just making its context.
 */
function collectByV8(): () => void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as (options: Readonly<Record<string, string>>) => void;
  // The thorough way: it also gives back the room that the young generation has grown to.
  return () => gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
