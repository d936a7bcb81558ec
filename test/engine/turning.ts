import { readdirSync } from 'node:fs';
import { Reactor } from '../../src/engine/index.ts';

/** Turns until `done`, at most `limitMs`: for tests in which the reactor is the only thing that happens. */
export function turnUntil(reactor: Reactor, done: () => boolean, limitMs = 5000): void {
  const endMs = performance.now() + limitMs;
  while (!done()) {
    if (performance.now() > endMs) throw new Error(`not within ${limitMs} ms: ${done}`);
    reactor.turn(1);
  }
}

/** Turns for as long as anything happens, and `quietMs` more: then what should not happen has had its chance. */
export function settle(reactor: Reactor, quietMs = 30): void {
  const endMs = performance.now() + quietMs;
  while (performance.now() < endMs) reactor.turn(2);
}

/** A reactor that turns between Node's own turns, for peers that are Node's sockets. */
export class TurningReactor extends Reactor {
  #turning = true;

  constructor() {
    super();
    const turn = () => {
      if (!this.#turning) return;
      this.turn(0);
      setImmediate(turn);
    };
    setImmediate(turn);
  }

  [Symbol.dispose](): void {
    this.#turning = false;
    this.close();
  }
}

/** Descriptors that this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
