import { beforeEach, describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../../src/identity/certificate-authority.ts';
import {
  type CertificateStore,
  type CertificateStoreOptions,
  createCertificateStore,
  type Rotation,
} from '../../src/identity/certificate-store.ts';
import { ManualClock } from '../../src/identity/clock.ts';
import { formatSpiffeId, type SpiffeId } from '../../src/identity/spiffe-id.ts';
import type { WorkloadCertificate } from '../../src/identity/workload-certificate.ts';
import { refusal } from './craft.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const named = (serviceAccount: string): SpiffeId =>
  formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount });
const sleep = named('sleep');

interface Call {
  readonly identity: SpiffeId;
  readonly signal: AbortSignal;
  readonly atMs: number;
  /** Ends the call with a certificate of this life, dated back as given. */
  answer(ttlMs?: number, skewMs?: number): Promise<void>;
  fail(message?: string): Promise<void>;
}

/** A CA whose every answer the test gives. */
class FakeCa {
  readonly calls: Call[] = [];
  readonly clock: ManualClock;
  /** Answers at once instead. */
  automatic: { ttlMs: number; skewMs: number } | 'fail' | undefined;

  constructor(clock: ManualClock) {
    this.clock = clock;
  }

  readonly issue = (identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> =>
    new Promise((resolve, reject) => {
      const answer = (ttlMs: number, skewMs: number) => resolve(certificate(identity, this.clock.now(), ttlMs, skewMs));
      const fail = (message: string) => reject(new Error(message));
      this.calls.push({
        identity,
        signal,
        atMs: this.clock.now(),
        answer: (ttlMs = 24 * HOUR, skewMs = 0) => {
          answer(ttlMs, skewMs);
          return this.clock.advance(0);
        },
        fail: (message = 'CA away') => {
          fail(message);
          return this.clock.advance(0);
        },
      });
      if (this.automatic === 'fail') fail('CA away');
      else if (this.automatic !== undefined) answer(this.automatic.ttlMs, this.automatic.skewMs);
    });
}

function certificate(identity: SpiffeId, nowMs: number, ttlMs: number, skewMs = 0): WorkloadCertificate {
  return {
    identity,
    chainPem: `chain of ${nowMs}`,
    rootsPem: 'roots',
    notBefore: new Date(nowMs - skewMs),
    notAfter: new Date(nowMs + ttlMs),
  };
}

let clock: ManualClock;
let ca: FakeCa;
let startMs: number;

beforeEach(() => {
  clock = new ManualClock();
  ca = new FakeCa(clock);
  startMs = clock.now();
});

const open = (options: Partial<CertificateStoreOptions> = {}): CertificateStore =>
  createCertificateStore({ issue: ca.issue, clock, random: () => 0.5, ...options });

const outcome = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'given',
    (error) => error.code ?? error.message,
  );

describe('CertificateStore.get', () => {
  it('asks once for however many, and gives all the same', async () => {
    await using store = open();
    const waiting = [store.get(sleep), store.get(sleep), store.get(sleep)];
    expect(store.state(sleep)).toEqual({ kind: 'initializing', sinceMs: startMs });
    expect(ca.calls).toHaveLength(1);
    await ca.calls[0]!.answer();
    const [a, b, c] = await Promise.all(waiting);
    expect(a).toBe(b);
    expect(a).toBe(c);
    expect(await store.get(sleep)).toBe(a);
    expect(ca.calls).toHaveLength(1);
    expect(store.state(sleep)).toEqual({
      kind: 'available',
      certificate: a,
      renewAtMs: startMs + 12 * HOUR,
      failures: 0,
    });
  });

  it('ends the wait of an aborted caller only', async () => {
    await using store = open();
    const controller = new AbortController();
    const aborted = store.get(sleep, { signal: controller.signal });
    const patient = store.get(sleep);
    controller.abort(new Error('no longer needed'));
    await expect(aborted).rejects.toThrow('no longer needed');
    expect(ca.calls[0]!.signal.aborted).toBe(false);
    await ca.calls[0]!.answer();
    expect((await patient).identity).toBe(sleep);
    await expect(store.get(sleep, { signal: controller.signal })).rejects.toThrow('no longer needed');
  });

  it('refuses what is no identity, and asks nobody', async () => {
    await using store = open();
    expect(await outcome(store.get('spiffe://x' as SpiffeId))).toBe('ERR_IDENTITY_SPIFFE_ID');
    expect(ca.calls).toHaveLength(0);
    expect([...store.identities()]).toEqual([]);
  });

  it('refuses a certificate of somebody else, or one that is over, as a failure of the CA', async () => {
    const issue = async () => certificate(named('another'), clock.now(), HOUR);
    await using wrong = open({ issue });
    const error = await wrong.get(sleep).catch((caught) => caught);
    expect(error).toMatchObject({
      code: 'ERR_IDENTITY_UNAVAILABLE',
      cause: { code: 'ERR_IDENTITY_WRONG_CERTIFICATE' },
    });
    await using over = open({ issue: async () => certificate(sleep, clock.now() - HOUR, MINUTE) });
    expect(await over.get(sleep).catch((caught) => caught.cause.code)).toBe('ERR_IDENTITY_WRONG_CERTIFICATE');
  });

  it('takes a throw of the issue function as a failure', async () => {
    await using store = open({
      issue: () => {
        throw new Error('at once');
      },
    });
    expect(await store.get(sleep).catch((caught) => caught.cause.message)).toBe('at once');
  });
});

describe('CertificateStore bounds', () => {
  it('8 issues at once; who waits goes before who may need it and before renewals', async () => {
    await using store = open();
    const first = Array.from({ length: 8 }, (_, at) => named(`busy-${at}`));
    for (const identity of first) store.prefetch(identity);
    store.prefetch(named('warm'));
    const waited = store.get(named('waited'));
    expect(ca.calls.map(({ identity }) => identity)).toEqual(first);
    await ca.calls[0]!.answer();
    expect(ca.calls.at(-1)!.identity).toBe(named('waited'));
    await ca.calls[8]!.answer();
    expect((await waited).identity).toBe(named('waited'));
    expect(ca.calls.at(-1)!.identity).toBe(named('warm'));
    expect(ca.calls).toHaveLength(10);
  });

  it('a get raises what was only prefetched', async () => {
    await using store = open({ maxConcurrentIssues: 1 });
    for (const name of ['running', 'a', 'b']) store.prefetch(named(name));
    void outcome(store.get(named('b')));
    await ca.calls[0]!.answer();
    expect(ca.calls[1]!.identity).toBe(named('b'));
  });

  it('maxIdentities', async () => {
    await using store = open({ maxIdentities: 2 });
    store.prefetch(named('a'));
    store.prefetch(named('b'));
    expect(refusal(() => store.prefetch(named('c')))).toBe('ERR_IDENTITY_TOO_MANY');
    store.prefetch(named('a'));
    store.forget(named('a'));
    store.prefetch(named('c'));
    expect([...store.identities()]).toEqual([named('b'), named('c')]);
  });

  it('30 s for an issue, deaf ones included, whose place is then given away', async () => {
    await using store = open({ maxConcurrentIssues: 1, issue: (identity, signal) => ca.issue(identity, signal) });
    const first = outcome(store.get(sleep));
    const second = outcome(store.get(named('next')));
    await clock.advance(29_999);
    expect(ca.calls).toHaveLength(1);
    await clock.advance(1);
    expect(await first).toBe('ERR_IDENTITY_UNAVAILABLE');
    expect(ca.calls[0]!.signal.reason).toMatchObject({ code: 'ERR_IDENTITY_ISSUE_TIMEOUT' });
    expect(ca.calls[1]!.identity).toBe(named('next'));
    await ca.calls[1]!.answer();
    expect(await second).toBe('given');
  });

  it.each([
    ['issue', { issue: undefined as never }],
    ['maxConcurrentIssues', { maxConcurrentIssues: 0 }],
    ['maxIdentities', { maxIdentities: -1 }],
    ['issueTimeoutMs', { issueTimeoutMs: 2 ** 31 }],
    ['renewal.minRemainingShare', { renewal: { minRemainingShare: 0 } }],
    ['renewal.minRenewalIntervalMs', { renewal: { minRenewalIntervalMs: 0 } }],
    ['renewal.backoffFactor', { renewal: { backoffFactor: 0.5 } }],
    ['renewal.backoffJitter', { renewal: { backoffJitter: 1 } }],
    ['renewal.backoffFirstMs', { renewal: { backoffFirstMs: Number.NaN } }],
    ['renewal.backoffMaxMs', { renewal: { backoffMaxMs: 0 } }],
  ])('refuses the option %s out of its range', (field, options) => {
    expect(refusal(() => open(options))).toBe(`ERR_IDENTITY_INVALID ${field}`);
  });
});

describe('CertificateStore rotation, facts section 5', () => {
  it('renews at half of the life, and tells who listens before anyone gets it', async () => {
    await using store = open();
    const rotations: Rotation[] = [];
    const stop = store.onRotate((rotation) => rotations.push(rotation));
    ca.automatic = { ttlMs: 24 * HOUR, skewMs: 2 * MINUTE };
    const first = await store.get(sleep);
    expect(rotations).toEqual([{ identity: sleep, certificate: first, previous: undefined }]);
    await clock.advance(12 * HOUR - MINUTE - 1);
    expect(ca.calls).toHaveLength(1);
    await clock.advance(1);
    expect(ca.calls).toHaveLength(2);
    const second = await store.get(sleep);
    expect(second).not.toBe(first);
    expect(rotations[1]).toEqual({ identity: sleep, certificate: second, previous: first });
    stop();
    await clock.advance(12 * HOUR);
    expect(ca.calls).toHaveLength(3);
    expect(rotations).toHaveLength(2);
  });

  it('gives the old one while the new one is on its way', async () => {
    await using store = open();
    const pending = store.get(sleep);
    await ca.calls[0]!.answer(HOUR);
    const first = await pending;
    await clock.advance(30 * MINUTE);
    expect(ca.calls).toHaveLength(2);
    expect(await store.get(sleep)).toBe(first);
    await ca.calls[1]!.answer(HOUR);
    expect(await store.get(sleep)).not.toBe(first);
  });

  it('facts section 12: does not spin where half of the life is over on arrival', async () => {
    await using store = open();
    ca.automatic = { ttlMs: 2 * MINUTE, skewMs: 2 * MINUTE };
    await store.get(sleep);
    await clock.advance(10 * MINUTE);
    expect(ca.calls.map(({ atMs }) => (atMs - startMs) / 1000)).toEqual(Array.from({ length: 16 }, (_, at) => at * 40));
  });

  it('does not spin either where a life is shorter than the least interval', async () => {
    await using store = open();
    ca.automatic = { ttlMs: 10, skewMs: 0 };
    await store.get(sleep);
    await clock.advance(10_000);
    expect(ca.calls).toHaveLength(11);
  });

  it('and makes who asks in between wait for that interval', async () => {
    await using store = open();
    ca.automatic = { ttlMs: 10, skewMs: 0 };
    await store.get(sleep);
    await clock.advance(11);
    const waiting = store.get(sleep);
    expect(store.state(sleep)).toEqual({ kind: 'initializing', sinceMs: startMs + 11 });
    await clock.advance(988);
    expect(ca.calls).toHaveLength(1);
    await clock.advance(1);
    expect((await waiting).notAfter.getTime()).toBe(startMs + 1010);
  });

  it('holds a life longer than any timer of Node', async () => {
    await using store = open();
    ca.automatic = { ttlMs: 100 * 24 * HOUR, skewMs: 0 };
    await store.get(sleep);
    await clock.advance(50 * 24 * HOUR - 1);
    expect(ca.calls).toHaveLength(1);
    await clock.advance(1);
    expect(ca.calls).toHaveLength(2);
  });

  it('a listener that throws disturbs neither the others nor the store', async () => {
    await using store = open();
    const uncaught = new Promise((resolve) => {
      const [reporter] = process.listeners('uncaughtException');
      process.removeAllListeners('uncaughtException');
      process.once('uncaughtException', (error) => {
        if (reporter) process.on('uncaughtException', reporter);
        resolve(error);
      });
    });
    let told = 0;
    store.onRotate(() => {
      throw new Error('listener');
    });
    store.onRotate(() => told++);
    ca.automatic = { ttlMs: HOUR, skewMs: 0 };
    await store.get(sleep);
    expect(await uncaught).toMatchObject({ message: 'listener' });
    expect(told).toBe(1);
  });
});

describe('CertificateStore failures, facts section 5', () => {
  it('tells callers at once, and retries after 1, 2, 4 … 150 s', async () => {
    await using store = open();
    ca.automatic = 'fail';
    const error = await store.get(sleep).catch((caught) => caught);
    expect(error).toMatchObject({ code: 'ERR_IDENTITY_UNAVAILABLE', cause: { message: 'CA away' } });
    expect(store.state(sleep)).toEqual({ kind: 'unavailable', error, retryAtMs: startMs + 1000, failures: 1 });
    expect(await outcome(store.get(sleep))).toBe('ERR_IDENTITY_UNAVAILABLE');
    expect(ca.calls).toHaveLength(1);
    await clock.advance(15 * MINUTE);
    const waits = ca.calls.slice(1).map(({ atMs }, at) => (atMs - ca.calls[at]!.atMs) / 1000);
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 150, 150, 150, 150]);
    ca.automatic = { ttlMs: HOUR, skewMs: 0 };
    await clock.advance(150_000);
    expect((await store.get(sleep)).identity).toBe(sleep);
    expect(store.state(sleep)).toMatchObject({ kind: 'available', failures: 0 });
  });

  it('keeps a certificate in use until it ends, then is unavailable, then recovers', async () => {
    await using store = open();
    ca.automatic = { ttlMs: 20_000, skewMs: 0 };
    const first = await store.get(sleep);
    ca.automatic = 'fail';
    await clock.advance(10_000);
    expect(await store.get(sleep)).toBe(first);
    expect(store.state(sleep)).toMatchObject({
      kind: 'available',
      certificate: first,
      failures: 1,
      renewAtMs: startMs + 11_000,
      lastError: { message: 'CA away' },
    });
    await clock.advance(10_000);
    expect(await store.get(sleep)).toBe(first);
    await clock.advance(1);
    // Failed at 10, 11, 13 and 17 s; the wait until 25 s is cut at the end of the certificate.
    expect(ca.calls.map(({ atMs }) => atMs - startMs)).toEqual([0, 10_000, 11_000, 13_000, 17_000, 20_001]);
    expect(store.state(sleep)).toMatchObject({ kind: 'unavailable', failures: 5 });
    expect(await outcome(store.get(sleep))).toBe('ERR_IDENTITY_UNAVAILABLE');
    ca.automatic = { ttlMs: HOUR, skewMs: 0 };
    await clock.advance(16_000);
    expect(await outcome(store.get(sleep))).toBe('given');
  });

  it('waits instead of failing where the machine slept past the end of a certificate', async () => {
    await using store = open();
    const pending = store.get(sleep);
    await ca.calls[0]!.answer(HOUR);
    const first = await pending;
    clock.jump(2 * HOUR);
    const after = store.get(sleep);
    expect(store.state(sleep)).toEqual({ kind: 'initializing', sinceMs: startMs + 2 * HOUR });
    expect(ca.calls).toHaveLength(2);
    await ca.calls[1]!.answer(HOUR);
    expect(await after).not.toBe(first);
  });

  it('never gives a certificate that is over while its renewal hangs', async () => {
    await using store = open({ issueTimeoutMs: HOUR });
    const pending = store.get(sleep);
    await ca.calls[0]!.answer(MINUTE);
    await pending;
    await clock.advance(MINUTE);
    expect(await outcome(store.get(sleep))).toBe('given');
    await clock.advance(1);
    expect(store.state(sleep)).toMatchObject({ kind: 'initializing' });
    const late = outcome(store.get(sleep));
    expect(ca.calls).toHaveLength(2);
    await ca.calls[1]!.answer(MINUTE);
    expect(await late).toBe('given');
  });
});

describe('CertificateStore ends', () => {
  it('forget ends timers, the issue and who waits', async () => {
    await using store = open();
    const waiting = outcome(store.get(sleep));
    expect(store.forget(sleep)).toBe(true);
    expect(store.forget(sleep)).toBe(false);
    expect(await waiting).toBe('ERR_IDENTITY_FORGOTTEN');
    expect(ca.calls[0]!.signal.aborted).toBe(true);
    await ca.calls[0]!.answer();
    expect(store.state(sleep)).toBeUndefined();
    expect(clock.pending).toBe(0);
    const again = outcome(store.get(sleep));
    expect(ca.calls).toHaveLength(2);
    await ca.calls[1]!.answer();
    expect(await again).toBe('given');
    store.forget(sleep);
    expect(clock.pending).toBe(0);
  });

  it('forget at any moment of an arrival: no rotation comes after it, and no timer', async () => {
    for (let ticks = 0; ticks < 20; ticks++) {
      await using store = open();
      let forgotten = false;
      store.onRotate(() => expect(forgotten, `forgotten after ${ticks} ticks`).toBe(false));
      const waiting = outcome(store.get(sleep));
      const answered = ca.calls.at(-1)!.answer();
      for (let tick = 0; tick < ticks; tick++) await undefined;
      forgotten = store.forget(sleep);
      await answered;
      expect(await waiting).toMatch(/^(given|ERR_IDENTITY_FORGOTTEN)$/);
      expect(clock.pending).toBe(0);
    }
  });

  it('close ends everything, and twice is once', async () => {
    const store = open({ maxConcurrentIssues: 1 });
    const held = store.get(named('held'));
    await ca.calls[0]!.answer();
    await held;
    const running = outcome(store.get(sleep));
    const queued = outcome(store.get(named('queued')));
    await Promise.all([store.close(), store.close()]);
    expect(await running).toBe('ERR_IDENTITY_CLOSED');
    expect(await queued).toBe('ERR_IDENTITY_CLOSED');
    expect(ca.calls).toHaveLength(2);
    expect(ca.calls[1]!.signal.aborted).toBe(true);
    expect(clock.pending).toBe(0);
    expect(await outcome(store.get(sleep))).toBe('ERR_IDENTITY_CLOSED');
    expect(refusal(() => store.prefetch(sleep))).toBe('ERR_IDENTITY_CLOSED');
    await store[Symbol.asyncDispose]();
  });
});

describe('CertificateStore over a CertificateAuthority', () => {
  it('rotates real certificates, each with a key of its own', async () => {
    const authority = await CertificateAuthority.create({ trustDomain: 'cluster.local', clock });
    await using store = open({ issue: (identity, signal) => authority.issue({ identity, signal, ttlMs: HOUR }) });
    const first = await store.get(sleep);
    const rotated = new Promise<Rotation>((resolve) => store.onRotate(resolve));
    await clock.advance(HOUR / 2);
    const { certificate: second, previous } = await rotated;
    expect(previous).toBe(first);
    expect(second.key!.fingerprint).not.toBe(first.key!.fingerprint);
    expect(second.notAfter.getTime()).toBeGreaterThan(first.notAfter.getTime());
  });
});
