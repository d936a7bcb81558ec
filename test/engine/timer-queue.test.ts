import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Timer, TimerQueue } from '../../src/engine/index.ts';

function named(log: string[], name: string, then?: () => void): Timer {
  return new Timer({
    onExpired: () => {
      log.push(name);
      then?.();
    },
  });
}

describe('TimerQueue', () => {
  it('expires in the order of arming, each at its deadline and once', () => {
    const log: string[] = [];
    const queue = new TimerQueue(100);
    const [a, b] = [named(log, 'a'), named(log, 'b')];
    queue.arm(a, 0);
    queue.arm(b, 10);
    expect(queue.nextDeadlineMs).toBe(100);
    queue.expire(99.9);
    expect(log).toEqual([]);
    queue.expire(100);
    expect(log).toEqual(['a']);
    expect([a.armed, b.armed]).toEqual([false, true]);
    expect(queue.nextDeadlineMs).toBe(110);
    queue.expire(1000);
    queue.expire(2000);
    expect(log).toEqual(['a', 'b']);
    expect(queue.nextDeadlineMs).toBe(Number.POSITIVE_INFINITY);
  });

  it('arming again starts anew, in another queue too', () => {
    const log: string[] = [];
    const [short, long] = [new TimerQueue(10), new TimerQueue(50)];
    const timer = named(log, 'x');
    short.arm(timer, 0);
    short.arm(timer, 5);
    short.expire(12);
    expect(log).toEqual([]);
    long.arm(timer, 12);
    short.expire(1000);
    expect(log).toEqual([]);
    expect(timer.queue).toBe(long);
    long.expire(62);
    expect(log).toEqual(['x']);
  });

  it('lets the owner arm itself again, and disarm those that are due in the same breath', () => {
    const log: string[] = [];
    const queue = new TimerQueue(10);
    const victim = named(log, 'victim');
    const again: Timer = named(log, 'again', () => {
      victim.disarm();
      queue.arm(again, 20);
    });
    queue.arm(again, 0);
    queue.arm(victim, 0);
    queue.expire(20);
    expect(log).toEqual(['again']);
    expect(queue.nextDeadlineMs).toBe(30);
  });

  it('removes nothing that is not its own', () => {
    const [one, other] = [new TimerQueue(1), new TimerQueue(1)];
    const timer = named([], 'x');
    one.arm(timer, 0);
    other.remove(timer);
    expect(timer.armed).toBe(true);
    timer.disarm();
    timer.disarm();
    expect(timer.armed).toBe(false);
  });

  it('does as a sorted list of deadlines does', () => {
    const step = fc.record({ timer: fc.nat(5), action: fc.constantFrom('arm', 'disarm', 'expire'), ms: fc.nat(40) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const log: string[] = [];
        const expected: string[] = [];
        const queue = new TimerQueue(50);
        const timers = Array.from({ length: 6 }, (_, index) => named(log, `${index}`));
        // Name to deadline, in the order of arming.
        const model = new Map<string, number>();
        let nowMs = 0;
        for (const { timer, action, ms } of steps) {
          nowMs += ms;
          const name = `${timer}`;
          if (action === 'arm') {
            queue.arm(timers[timer]!, nowMs);
            model.delete(name);
            model.set(name, nowMs + 50);
          } else if (action === 'disarm') {
            timers[timer]!.disarm();
            model.delete(name);
          } else {
            queue.expire(nowMs);
            for (const [key, deadline] of model) {
              if (deadline > nowMs) continue;
              expected.push(key);
              model.delete(key);
            }
          }
          expect(queue.nextDeadlineMs).toBe(Math.min(Number.POSITIVE_INFINITY, ...model.values()));
          expect(timers.map((each) => each.armed)).toEqual(timers.map((_, index) => model.has(`${index}`)));
        }
        expect(log).toEqual(expected);
      }),
    );
  });
});
