import { describe, expect, it } from 'vitest';
import { BusyPoll } from '../../src/engine/busy-poll.ts';

const WINDOW_MS = 0.1;
const SHORT_MS = 0.02;
/** Of a turn that passes a message on, and of one that does more. */
const MESSAGE_MS = 0.01;
const LONG_TURN_MS = 0.06;
/** Of payload, in such a turn, and in one that moves a stream. */
const MESSAGE_BYTES = 1024;
const STREAM_BYTES = 16 << 10;

/** A reactor's life without the reactor: turns and waits of given lengths, on a clock of its own. */
class Life {
  readonly poll = new BusyPoll(WINDOW_MS);
  nowMs = 1000;

  /** A turn and the wait behind it. @returns whether that was polled */
  wait(waitMs: number, turnMs = MESSAGE_MS, bytes = MESSAGE_BYTES): boolean {
    this.nowMs += turnMs;
    this.poll.tellRead(bytes);
    const polled = this.poll.begin(this.nowMs, turnMs);
    if (polled && waitMs > WINDOW_MS) this.poll.gaveUp(this.nowMs + WINDOW_MS);
    this.nowMs += waitMs;
    this.poll.end(this.nowMs);
    return polled;
  }

  /** Short waits until one is polled, and then one in whose poll another program is given the processor for `awayMs`. */
  oust(awayMs: number, finds: boolean): void {
    while (!this.wait(SHORT_MS));
    this.nowMs += MESSAGE_MS;
    expect(this.poll.begin(this.nowMs, MESSAGE_MS)).toBe(true);
    this.nowMs += awayMs;
    if (!finds) this.poll.gaveUp(this.nowMs);
    this.poll.end(this.nowMs);
  }

  /** How long, in whole milliseconds, nobody polls although every wait is as short as can be. */
  pauseMs(): number {
    const fromMs = this.nowMs;
    while (!this.wait(0));
    return Math.round(this.nowMs - fromMs);
  }

  /** How many of `count` such waits were polled. */
  waits(count: number, waitMs: number, turnMs?: number, bytes?: number): number {
    let polled = 0;
    for (let left = count; left > 0; left--) if (this.wait(waitMs, turnMs, bytes)) polled++;
    return polled;
  }
}

/** Numbers from 0 up to 1, the same ones every time (Park and Miller). */
function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 0x7fff_ffff;
    return state / 0x7fff_ffff;
  };
}

describe('BusyPoll', () => {
  it('polls once two waits in a row were short, and counts its polls', () => {
    const life = new Life();
    expect([life.wait(SHORT_MS), life.wait(SHORT_MS), life.wait(SHORT_MS)]).toEqual([false, false, true]);
    expect(life.poll.polls).toBe(1);
  });

  it('takes a wait asleep of up to two windows for short: waking is in it', () => {
    const life = new Life();
    life.waits(2, 2 * WINDOW_MS - 0.001);
    expect(life.wait(SHORT_MS)).toBe(true);
    const late = new Life();
    late.waits(2, 2 * WINDOW_MS + 0.001);
    expect(late.wait(SHORT_MS)).toBe(false);
  });

  it('does not poll between long turns, and not right after one', () => {
    const life = new Life();
    expect(life.waits(100, SHORT_MS, LONG_TURN_MS)).toBe(0);
    life.waits(10, SHORT_MS);
    expect(life.wait(SHORT_MS, LONG_TURN_MS)).toBe(false);
    expect(life.wait(SHORT_MS)).toBe(false);
    expect(life.waits(10, SHORT_MS)).toBe(10);
  });

  it('does not poll between the parts of a stream, however fast they come, nor for 64 short waits behind it', () => {
    const life = new Life();
    expect(life.waits(100, SHORT_MS, MESSAGE_MS, STREAM_BYTES)).toBe(0);
    expect(life.waits(65, SHORT_MS)).toBe(0);
    expect(life.waits(10, SHORT_MS)).toBe(10);
    expect(life.wait(SHORT_MS, MESSAGE_MS, STREAM_BYTES)).toBe(false);
    expect(life.waits(65, SHORT_MS)).toBe(0);
    expect(life.wait(SHORT_MS)).toBe(true);
  });

  it('takes up to 8 KiB for messages', () => {
    const life = new Life();
    expect(life.waits(10, SHORT_MS, MESSAGE_MS, 8 << 10)).toBe(8);
    expect(life.wait(SHORT_MS, MESSAGE_MS, (8 << 10) + 1)).toBe(false);
  });

  it('does not count long turns, long waits and polls in vain against a stream: 64 short waits are enough', () => {
    const life = new Life();
    life.wait(SHORT_MS, MESSAGE_MS, STREAM_BYTES);
    life.waits(30, SHORT_MS);
    life.wait(SHORT_MS, LONG_TURN_MS);
    life.wait(50);
    expect(life.waits(34, SHORT_MS)).toBe(0);
    expect(life.wait(SHORT_MS)).toBe(true);
  });

  it('never polls where waits are long, and takes less than a hundredth of the time where they are just too long for it', () => {
    expect(new Life().waits(1000, 5)).toBe(0);
    const life = new Life();
    const count = 20_000;
    expect((life.waits(count, 1.5 * WINDOW_MS) * WINDOW_MS) / (count * 1.5 * WINDOW_MS)).toBeLessThan(0.01);
  });

  it('leaves clients alone that do not wait for each other: under a hundredth of the time where 20,000 events a second come at random', () => {
    const life = new Life();
    const random = uniform(7);
    const fromMs = life.nowMs;
    let polledMs = 0;
    let nextMs = life.nowMs;
    for (let events = 0; events < 200_000; events++) {
      nextMs -= 0.05 * Math.log(1 - random());
      const waitMs = nextMs - life.nowMs - MESSAGE_MS;
      if (waitMs <= 0) life.nowMs += MESSAGE_MS;
      else if (life.wait(waitMs)) polledMs += Math.min(waitMs, WINDOW_MS);
    }
    expect(life.poll.polls).toBeGreaterThan(0);
    expect(polledMs / (life.nowMs - fromMs)).toBeLessThan(0.01);
  });

  it('goes on after a poll in vain, and asks for twice as many short waits first', () => {
    const life = new Life();
    life.waits(2, SHORT_MS);
    expect(life.wait(2 * WINDOW_MS)).toBe(true);
    expect(life.waits(4, SHORT_MS)).toBe(0);
    expect(life.waits(100, SHORT_MS)).toBe(100);
    // What came in vain is forgotten by then.
    expect(life.wait(2 * WINDOW_MS)).toBe(true);
    expect(life.waits(4, SHORT_MS)).toBe(0);
    expect(life.wait(SHORT_MS)).toBe(true);
  });

  it.each([true, false])(
    'leaves the processor to whoever kept it: for longer each time, for 100 ms at most (found something: %s)',
    (finds) => {
      const life = new Life();
      const pauses: number[] = [];
      for (let ousted = 0; ousted < 8; ousted++) {
        life.waits(300, SHORT_MS);
        life.oust(3, finds);
        pauses.push(life.pauseMs());
      }
      expect(pauses.map((ms) => Math.round(ms / 10) * 10)).toEqual([10, 20, 40, 80, 100, 100, 100, 100]);
    },
  );

  it('takes nothing for that where nothing came: it polls again as soon as waits are short', () => {
    const life = new Life();
    life.waits(10, SHORT_MS);
    expect(life.wait(50)).toBe(true);
    expect(life.pauseMs()).toBe(0);
  });

  it('forgets so after a thousand polls that nobody ousted', () => {
    const life = new Life();
    life.waits(10, SHORT_MS);
    for (let ousted = 0; ousted < 8; ousted++) life.oust(3, true);
    life.pauseMs();
    life.waits(1100, SHORT_MS);
    life.oust(3, true);
    expect(life.pauseMs()).toBe(5);
  });

  it('knows nothing of the end of a wait that did not begin', () => {
    const life = new Life();
    life.wait(SHORT_MS);
    for (let extra = 0; extra < 100; extra++) life.poll.end(life.nowMs);
    expect(life.wait(SHORT_MS)).toBe(false);
  });
});
