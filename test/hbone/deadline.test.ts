import { describe, expect, it } from 'vitest';
import { type Step, withDeadline } from '../../src/hbone/deadline.ts';
import { ManualClock } from '../../src/identity/index.ts';

const step = <T>(clock: ManualClock, run: Step<T>['run'], more: Partial<Step<T>> = {}): Step<T> => ({
  op: 'hbone.test',
  what: 'the step',
  timeoutMs: 1000,
  clock,
  signal: undefined,
  run,
  ...more,
});

describe('withDeadline', () => {
  it('gives the result, and leaves no timer', async () => {
    const clock = new ManualClock();
    expect(await withDeadline(step(clock, async () => 7))).toBe(7);
    expect(clock.pending).toBe(0);
  });

  it('passes a failure on as it is', async () => {
    const failure = new Error('no');
    await expect(withDeadline(step(new ManualClock(), () => Promise.reject(failure)))).rejects.toBe(failure);
  });

  it('too slow: ERR_HBONE_TIMEOUT, the step is told, and a late result is released', async () => {
    const clock = new ManualClock();
    const late = Promise.withResolvers<string>();
    const released: string[] = [];
    let told: unknown;
    const run = (signal: AbortSignal) => {
      signal.addEventListener('abort', () => {
        told = signal.reason;
      });
      return late.promise;
    };
    const result = withDeadline(step(clock, run, { release: (value) => released.push(value) }));
    const failed = expect(result).rejects.toMatchObject({
      code: 'ERR_HBONE_TIMEOUT',
      message: 'hbone.test: the step took longer than 1000 ms',
    });
    await clock.advance(1000);
    await failed;
    expect(told).toMatchObject({ code: 'ERR_HBONE_TIMEOUT' });
    late.resolve('late');
    await clock.advance(0);
    expect(released).toEqual(['late']);
  });

  it('aborted: the reason, at once; aborted before: nothing is begun', async () => {
    const clock = new ManualClock();
    const controller = new AbortController();
    let begun = 0;
    const run = () => {
      begun++;
      return new Promise<never>(() => {});
    };
    const result = withDeadline(step(clock, run, { signal: controller.signal }));
    controller.abort('because');
    await expect(result).rejects.toBe('because');
    await expect(withDeadline(step(clock, run, { signal: controller.signal }))).rejects.toBe('because');
    expect(begun).toBe(1);
    expect(clock.pending).toBe(0);
  });
});
