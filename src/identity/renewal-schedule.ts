/** When a certificate is renewed, and how failures are spaced: pure arithmetic, all in milliseconds. */
export interface RenewalPolicy {
  /**
   * The least share of the life that is left on arrival that passes before a renewal. istiod dates certificates 2 minutes
   * back, so that with a short lifetime half of the life is over on arrival (facts section 12). Default 1/3: it leaves half
   * of the life as the rule wherever the certificate is dated back by less than a quarter of its life.
   */
  readonly minRemainingShare: number;
  /** The least time between two certificates of one identity, whatever their life. Default 1 s. */
  readonly minRenewalIntervalMs: number;
  /** Wait after the first failure. Default 1 s. */
  readonly backoffFirstMs: number;
  /** Growth of the wait with each failure in a row. Default 2. */
  readonly backoffFactor: number;
  /** How far a wait strays to either side, as a share of it. Default 0.2. */
  readonly backoffJitter: number;
  /** No wait is longer. Default 150 s. */
  readonly backoffMaxMs: number;
}

/** The waits of facts section 5. */
export const DEFAULT_RENEWAL_POLICY: RenewalPolicy = {
  minRemainingShare: 1 / 3,
  minRenewalIntervalMs: 1000,
  backoffFirstMs: 1000,
  backoffFactor: 2,
  backoffJitter: 0.2,
  backoffMaxMs: 150_000,
};

/** When to renew a certificate that arrived at `nowMs`: at half of its life, but never so soon that renewing would spin. */
export function renewalTime(notBeforeMs: number, notAfterMs: number, nowMs: number, policy: RenewalPolicy): number {
  const halfLife = notBeforeMs + (notAfterMs - notBeforeMs) / 2;
  const share = nowMs + (notAfterMs - nowMs) * policy.minRemainingShare;
  return Math.max(halfLife, share, nowMs + policy.minRenewalIntervalMs);
}

/** How long to wait after `failures` failures in a row (1 or more); `random` is in [0, 1). */
export function retryDelay(failures: number, random: number, policy: RenewalPolicy): number {
  const interval = Math.min(policy.backoffMaxMs, policy.backoffFirstMs * policy.backoffFactor ** (failures - 1));
  return Math.min(policy.backoffMaxMs, interval * (1 + (random * 2 - 1) * policy.backoffJitter));
}
