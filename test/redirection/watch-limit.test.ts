import { describe, expect, it } from 'vitest';
import { RepairLimit } from '../../src/redirection/watch-limit.ts';

describe('RepairLimit', () => {
  it('lets ten repairs a minute pass, and pauses at the eleventh, longer each time', () => {
    const limit = new RepairLimit({});
    for (let i = 0; i < 10; i++) expect(limit.take(i * 1000)).toBe(0);
    expect(limit.take(10_000)).toBe(30_000);
    expect(limit.take(20_000)).toBe(20_000);
    // One try after the pause; if that does not last either, the next pause is twice as long.
    expect(limit.take(40_000)).toBe(0);
    expect(limit.take(41_000)).toBe(60_000);
    expect(limit.take(101_000)).toBe(0);
    expect(limit.take(102_000)).toBe(120_000);
  });

  it('forgets what is older than its window, and the length of pauses after a window in peace', () => {
    const limit = new RepairLimit({ maxRepairs: 2, windowMs: 1000, pauseMs: 100, maxPauseMs: 150 });
    expect([limit.take(0), limit.take(500), limit.take(1000), limit.take(1200)]).toEqual([0, 0, 0, 100]);
    expect([limit.take(1300), limit.take(1301)]).toEqual([0, 150]);
    expect([limit.take(1451), limit.take(1452)]).toEqual([0, 150]);
    expect([limit.take(9000), limit.take(9001), limit.take(9002)]).toEqual([0, 0, 100]);
  });

  it.each(['maxRepairs', 'windowMs', 'pauseMs', 'maxPauseMs'] as const)('names the field %s', (field) => {
    for (const value of [0, 1.5, Number.NaN, 86_400_001]) {
      expect(() => new RepairLimit({ [field]: value })).toThrow(
        expect.objectContaining({ code: 'ERR_REDIRECTION_INVALID', field }),
      );
    }
  });
});
