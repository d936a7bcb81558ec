import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DEFAULT_RENEWAL_POLICY as policy, renewalTime, retryDelay } from '../../src/identity/renewal-schedule.ts';

const MINUTE = 60_000;

describe('renewalTime, facts section 5', () => {
  it('is half of the life', () => {
    expect(renewalTime(0, 24 * 60 * MINUTE, 0, policy)).toBe(12 * 60 * MINUTE);
    expect(renewalTime(-2 * MINUTE, 24 * 60 * MINUTE, 0, policy)).toBe(719 * MINUTE);
  });

  it('facts section 12: with the 2 minutes of istiod and a lifetime of 120 s, a third of what is left', () => {
    expect(renewalTime(-2 * MINUTE, 2 * MINUTE, 0, policy)).toBe(40_000);
    expect(renewalTime(-2 * MINUTE, 30_000, 0, policy)).toBe(10_000);
  });

  it('is never now, whatever was issued', () => {
    const ms = fc.integer({ min: -1e9, max: 1e9 });
    fc.assert(
      fc.property(ms, ms, ms, (notBefore, notAfter, now) => {
        expect(renewalTime(notBefore, notAfter, now, policy)).toBeGreaterThanOrEqual(now + policy.minRenewalIntervalMs);
      }),
    );
  });
});

describe('retryDelay, facts section 5', () => {
  it('starts at 1 s, doubles, and stays at 150 s', () => {
    const waits = Array.from({ length: 12 }, (_, at) => retryDelay(at + 1, 0.5, policy) / 1000);
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 150, 150, 150, 150]);
    expect(retryDelay(5000, 0.5, policy)).toBe(150_000);
  });

  it('strays by 20 % to either side, and never beyond 150 s', () => {
    expect(retryDelay(1, 0, policy)).toBeCloseTo(800);
    expect(retryDelay(1, 0.999999, policy)).toBeCloseTo(1200, 1);
    expect(retryDelay(20, 0, policy)).toBeCloseTo(120_000);
    expect(retryDelay(20, 0.999999, policy)).toBe(150_000);
  });
});
