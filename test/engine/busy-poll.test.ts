import { describe, expect, it } from 'vitest';
import { BusyPoll } from '../../src/engine/busy-poll.ts';

const WINDOW_MS = 0.1;
const SHORT_MS = 0.02;
/** Of a turn that moved a message, and of one that moved a stream. */
const MESSAGE_MS = 0.01;
const STREAM_MS = 0.2;

/** A reactor's life without the reactor: turns and waits of given lengths, on a clock of its own. */
class Life {
  readonly poll = new BusyPoll(WINDOW_MS);
  nowMs = 1000;

  /** A turn and the wait behind it. @returns whether that was polled */
  wait(waitMs: number, turnMs = MESSAGE_MS): boolean {
    this.nowMs += turnMs;
    const polled = this.poll.begin(this.nowMs, turnMs);
    this.nowMs += waitMs;
    this.poll.end(this.nowMs);
    return polled;
  }

  /** How many of `count` such waits were polled. */
  waits(count: number, waitMs: number, turnMs?: number): number {
    let polled = 0;
    for (let left = count; left > 0; left--) if (this.wait(waitMs, turnMs)) polled++;
    return polled;
  }
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

  it('does not poll between turns that move streams, and not right after one', () => {
    const life = new Life();
    expect(life.waits(100, SHORT_MS, STREAM_MS)).toBe(0);
    life.waits(10, SHORT_MS);
    expect(life.wait(SHORT_MS, STREAM_MS)).toBe(false);
    expect(life.wait(SHORT_MS)).toBe(false);
  });

  it('never polls where waits are long, and takes less than a hundredth of the time where they are just too long for it', () => {
    expect(new Life().waits(1000, 5)).toBe(0);
    const life = new Life();
    const count = 20_000;
    expect((life.waits(count, 1.5 * WINDOW_MS) * WINDOW_MS) / (count * 1.5 * WINDOW_MS)).toBeLessThan(0.01);
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

  it('leaves the processor to whoever kept it: for longer each time, for 100 ms at most', () => {
    const life = new Life();
    const pauses: number[] = [];
    for (let ousted = 0; ousted < 8; ousted++) {
      life.waits(300, SHORT_MS);
      while (!life.poll.begin(life.nowMs, MESSAGE_MS)) {
        life.nowMs += SHORT_MS;
        life.poll.end(life.nowMs);
      }
      life.nowMs += 3;
      life.poll.end(life.nowMs);
      const fromMs = life.nowMs;
      while (!life.poll.begin(life.nowMs, MESSAGE_MS)) {
        life.nowMs += 0.01;
        life.poll.end(life.nowMs);
      }
      pauses.push(Math.round(life.nowMs - fromMs));
    }
    expect(pauses).toEqual([4, 8, 16, 32, 64, 100, 100, 100]);
  });

  it('forgets so after a thousand polls that nobody ended', () => {
    const life = new Life();
    for (let ousted = 0; ousted < 8; ousted++) {
      while (!life.wait(SHORT_MS));
      while (!life.wait(3));
    }
    while (!life.wait(SHORT_MS));
    life.waits(1000, SHORT_MS);
    expect(life.wait(3)).toBe(true);
    const fromMs = life.nowMs;
    while (!life.wait(0.01));
    expect(life.nowMs - fromMs).toBeLessThan(3);
  });

  it('knows nothing of the end of a wait that did not begin', () => {
    const life = new Life();
    life.wait(SHORT_MS);
    for (let extra = 0; extra < 100; extra++) life.poll.end(life.nowMs);
    expect(life.wait(SHORT_MS)).toBe(false);
  });
});
