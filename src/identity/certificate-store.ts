import { AmbientError } from '../errors/index.ts';
import { type Clock, MAX_TIMEOUT_MS, systemClock } from './clock.ts';
import { count, duration, IdentityError, quoted, refuse, refuseInput } from './errors.ts';
import { type IssuePriority, IssueQueue } from './issue-queue.ts';
import { DEFAULT_RENEWAL_POLICY, type RenewalPolicy, renewalTime, retryDelay } from './renewal-schedule.ts';
import { parseSpiffeId, type SpiffeId } from './spiffe-id.ts';
import type { WorkloadCertificate } from './workload-certificate.ts';

/** Gets one certificate from a CA. It must end when `signal` is aborted. */
export type IssueFunction = (identity: SpiffeId, signal: AbortSignal) => Promise<WorkloadCertificate>;

/** Options of {@link createCertificateStore}. */
export interface CertificateStoreOptions {
  readonly issue: IssueFunction;
  /** Default {@link systemClock}. */
  readonly clock?: Clock;
  /** In [0, 1); spreads retries. Default `Math.random`. */
  readonly random?: () => number;
  /** The most issues under way at once. Default 8, as ztunnel. */
  readonly maxConcurrentIssues?: number;
  /** The most identities held; `get` and `prefetch` of one more throw. Default 10 000. */
  readonly maxIdentities?: number;
  /** How long one issue may take before it counts as failed and its place is given away. Default 30 s. */
  readonly issueTimeoutMs?: number;
  /** Single values replace those of {@link DEFAULT_RENEWAL_POLICY}. */
  readonly renewal?: Partial<RenewalPolicy>;
}

/** Where one identity stands. Times are milliseconds since 1970. */
export type CertificateState =
  /** The first certificate is awaited, or one after the last ran out unnoticed (the machine slept). `get` waits. */
  | { readonly kind: 'initializing'; readonly sinceMs: number }
  /** `get` gives `certificate`. `failures` renewals in a row failed, the last with `lastError`. */
  | {
      readonly kind: 'available';
      readonly certificate: WorkloadCertificate;
      readonly renewAtMs: number;
      readonly failures: number;
      readonly lastError?: unknown;
    }
  /** There is none, and `get` throws `error`, whose `cause` says why, until a retry succeeds. */
  | {
      readonly kind: 'unavailable';
      readonly error: IdentityError;
      readonly retryAtMs: number;
      readonly failures: number;
    };

/** A certificate that has come into force. */
export interface Rotation {
  readonly identity: SpiffeId;
  readonly certificate: WorkloadCertificate;
  /** What was in force before it; `undefined` for the first one. */
  readonly previous: WorkloadCertificate | undefined;
}

interface Entry {
  readonly identity: SpiffeId;
  state: CertificateState;
  /** Who waits while the state is `initializing`. */
  first: Arrival;
  dueMs: number;
  timer: unknown;
  /** Ends the issue under way; `undefined` while none is. */
  running: AbortController | undefined;
  failures: number;
}

/** Node's timers count time awake, not time passed: no sleep is longer than this without a look at the wall clock. */
const MAX_SLEEP_MS = Math.min(3_600_000, MAX_TIMEOUT_MS);

const op = 'identity.certificateStore';

/**
 * Makes a {@link CertificateStore}. The caller owns it and closes it.
 *
 * @throws {InvalidInputError} `ERR_IDENTITY_INVALID` with `field` naming the option.
 */
export function createCertificateStore(options: CertificateStoreOptions): CertificateStore {
  return new CertificateStore(options);
}

/**
 * Certificates by identity: got once, however many ask; kept; renewed by timer at half of their life; retried with growing
 * waits when the CA fails, during which a certificate that is still valid stays in use (facts section 5).
 */
export class CertificateStore implements AsyncDisposable {
  readonly #issue: IssueFunction;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #policy: RenewalPolicy;
  readonly #maxConcurrentIssues: number;
  readonly #maxIdentities: number;
  readonly #issueTimeoutMs: number;
  readonly #entries = new Map<SpiffeId, Entry>();
  readonly #queue = new IssueQueue<Entry>();
  readonly #running = new Set<Promise<void>>();
  readonly #listeners = new Set<(rotation: Rotation) => void>();
  #closed = false;

  /** As {@link createCertificateStore}. */
  constructor(options: CertificateStoreOptions) {
    if (typeof options.issue !== 'function') invalid('issue', 'expected a function');
    this.#issue = options.issue;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#policy = checkPolicy({ ...DEFAULT_RENEWAL_POLICY, ...options.renewal });
    this.#maxConcurrentIssues = count(options.maxConcurrentIssues ?? 8, 'maxConcurrentIssues', op);
    this.#maxIdentities = count(options.maxIdentities ?? 10_000, 'maxIdentities', op);
    this.#issueTimeoutMs = duration(options.issueTimeoutMs ?? 30_000, 'issueTimeoutMs', op, 1, MAX_TIMEOUT_MS);
  }

  /**
   * The certificate in force for `identity`, which is held from now on. Waits while the first one is being issued, and only
   * then; an aborted `signal` ends this wait and not the issue, which others may wait for.
   *
   * @throws {IdentityError} `ERR_IDENTITY_UNAVAILABLE` at once while the CA fails and none is valid;
   *   `ERR_IDENTITY_FORGOTTEN`, `ERR_IDENTITY_CLOSED`, `ERR_IDENTITY_TOO_MANY`. An aborted `signal` throws its reason.
   * @throws {InvalidInputError} `ERR_IDENTITY_SPIFFE_ID`.
   */
  async get(
    identity: SpiffeId,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<WorkloadCertificate> {
    options.signal?.throwIfAborted();
    const entry = this.#hold(identity, 'real-time');
    this.#expireIfOver(entry);
    const { state } = entry;
    if (state.kind === 'available') return state.certificate;
    if (state.kind === 'unavailable') throw state.error;
    if (this.#queue.has(entry)) this.#queue.add(entry, 'real-time');
    return waitFor(entry.first.promise, options.signal);
  }

  /** Begins to hold `identity` without waiting for it: a workload has come to this node. Throws as {@link CertificateStore.get}. */
  prefetch(identity: SpiffeId): void {
    this.#hold(identity, 'warmup');
  }

  /** Where `identity` stands; `undefined` when it is not held. */
  state(identity: SpiffeId): CertificateState | undefined {
    const entry = this.#entries.get(identity);
    if (entry !== undefined) this.#expireIfOver(entry);
    return entry?.state;
  }

  /** The identities held. */
  identities(): IterableIterator<SpiffeId> {
    return this.#entries.keys();
  }

  /** Stops holding `identity`: its issue is ended, and who waits for it gets `ERR_IDENTITY_FORGOTTEN`. False when it was not held. */
  forget(identity: SpiffeId): boolean {
    const entry = this.#entries.get(identity);
    if (entry === undefined) return false;
    this.#drop(entry, error('ERR_IDENTITY_FORGOTTEN', `${identity} was forgotten while it was waited for`));
    return true;
  }

  /**
   * Calls `listener` for each certificate that comes into force, the first one of an identity included, before `get` gives
   * it to anyone. What a listener throws is thrown again as an uncaught exception, and stops neither the others nor the store.
   *
   * @returns a function that takes the listener off.
   */
  onRotate(listener: (rotation: Rotation) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** Ends every timer, issue and wait (`ERR_IDENTITY_CLOSED`), and resolves when no issue is under way. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const reason = closedError();
    for (const entry of [...this.#entries.values()]) this.#drop(entry, reason);
    this.#listeners.clear();
    await Promise.all(this.#running);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #hold(identity: SpiffeId, priority: IssuePriority): Entry {
    if (this.#closed) throw closedError();
    const held = this.#entries.get(identity);
    if (held !== undefined) return held;
    parseSpiffeId(identity);
    if (this.#entries.size >= this.#maxIdentities)
      refuse({
        code: 'ERR_IDENTITY_TOO_MANY',
        op,
        message: `${this.#maxIdentities} identities are held: maxIdentities`,
      });
    const nowMs = this.#clock.now();
    const entry: Entry = {
      identity,
      state: { kind: 'initializing', sinceMs: nowMs },
      first: new Arrival(),
      dueMs: nowMs,
      timer: undefined,
      running: undefined,
      failures: 0,
    };
    this.#entries.set(identity, entry);
    this.#request(entry, priority);
    return entry;
  }

  #drop(entry: Entry, reason: IdentityError): void {
    this.#entries.delete(entry.identity);
    this.#queue.delete(entry);
    this.#clock.clearTimeout(entry.timer);
    entry.running?.abort(reason);
    entry.first.reject(reason);
  }

  #holds(entry: Entry): boolean {
    return this.#entries.get(entry.identity) === entry;
  }

  #request(entry: Entry, priority: IssuePriority): void {
    if (entry.running === undefined) this.#queue.add(entry, priority);
    this.#startWaiting();
    this.#arm(entry);
  }

  #startWaiting(): void {
    while (this.#running.size < this.#maxConcurrentIssues) {
      const entry = this.#queue.take();
      if (entry === undefined) return;
      const run = this.#run(entry).finally(() => {
        this.#running.delete(run);
        this.#startWaiting();
      });
      this.#running.add(run);
    }
  }

  async #run(entry: Entry): Promise<void> {
    const controller = new AbortController();
    entry.running = controller;
    const timeout = this.#clock.setTimeout(() => {
      controller.abort(error('ERR_IDENTITY_ISSUE_TIMEOUT', `no certificate within ${this.#issueTimeoutMs} ms`));
    }, this.#issueTimeoutMs);
    let certificate: WorkloadCertificate | undefined;
    let failure: unknown;
    try {
      // An issue function that is deaf to its signal must not keep its place for ever.
      certificate = await waitFor(issueOf(this.#issue, entry.identity, controller.signal), controller.signal);
      checkIssued(certificate, entry.identity, this.#clock.now());
    } catch (caught) {
      certificate = undefined;
      failure = caught;
    } finally {
      this.#clock.clearTimeout(timeout);
      entry.running = undefined;
    }
    if (!this.#holds(entry)) return;
    if (certificate === undefined) this.#failed(entry, failure);
    else this.#arrived(entry, certificate);
    if (this.#holds(entry)) this.#arm(entry);
  }

  #arrived(entry: Entry, certificate: WorkloadCertificate): void {
    const previous = entry.state.kind === 'available' ? entry.state.certificate : undefined;
    const renewAtMs = renewalTime(
      certificate.notBefore.getTime(),
      certificate.notAfter.getTime(),
      this.#clock.now(),
      this.#policy,
    );
    entry.failures = 0;
    entry.dueMs = renewAtMs;
    entry.state = { kind: 'available', certificate, renewAtMs, failures: 0 };
    for (const listener of [...this.#listeners]) {
      try {
        listener({ identity: entry.identity, certificate, previous });
      } catch (thrown) {
        queueMicrotask(() => {
          throw thrown;
        });
      }
    }
    entry.first.resolve(certificate);
  }

  #failed(entry: Entry, failure: unknown): void {
    entry.failures++;
    const nowMs = this.#clock.now();
    const retryAtMs = nowMs + retryDelay(entry.failures, this.#random(), this.#policy);
    const { state } = entry;
    if (state.kind === 'available' && nowMs <= state.certificate.notAfter.getTime()) {
      const { certificate } = state;
      // Facts section 5: min(backoff, expiry).
      entry.dueMs = Math.min(retryAtMs, certificate.notAfter.getTime() + 1);
      entry.state = {
        kind: 'available',
        certificate,
        renewAtMs: entry.dueMs,
        failures: entry.failures,
        lastError: failure,
      };
      return;
    }
    entry.dueMs = retryAtMs;
    this.#unavailable(entry, failure);
  }

  #unavailable(entry: Entry, cause: unknown): void {
    const why = AmbientError.is(cause) ? cause.code : 'the issue failed';
    const reason = new IdentityError({
      code: 'ERR_IDENTITY_UNAVAILABLE',
      op,
      message: `no certificate for ${entry.identity} (${why}; failures in a row: ${entry.failures})`,
      cause,
    });
    entry.state = { kind: 'unavailable', error: reason, retryAtMs: entry.dueMs, failures: entry.failures };
    entry.first.reject(reason);
  }

  /** Takes a certificate that ran out of force. Who asks next waits for the one under way, unless the CA is known to fail. */
  #expireIfOver(entry: Entry): void {
    const { state } = entry;
    const nowMs = this.#clock.now();
    if (state.kind !== 'available' || nowMs <= state.certificate.notAfter.getTime()) return;
    if (state.failures > 0) {
      this.#unavailable(entry, state.lastError);
    } else {
      entry.state = { kind: 'initializing', sinceMs: nowMs };
      entry.first = new Arrival();
    }
    if (nowMs >= entry.dueMs) this.#request(entry, 'real-time');
  }

  /** Sets the one timer of an entry for its next renewal or retry. That a certificate ran out is seen when someone looks. */
  #arm(entry: Entry): void {
    this.#clock.clearTimeout(entry.timer);
    if (entry.running !== undefined || this.#queue.has(entry)) return;
    const waitMs = Math.min(MAX_SLEEP_MS, Math.max(0, entry.dueMs - this.#clock.now()));
    entry.timer = this.#clock.setTimeout(() => this.#wake(entry), waitMs);
  }

  #wake(entry: Entry): void {
    this.#expireIfOver(entry);
    if (this.#clock.now() >= entry.dueMs) this.#request(entry, 'background');
    else this.#arm(entry);
  }
}

/** A throw before the first `await` of an issue function is a failure like any other. */
async function issueOf(issue: IssueFunction, identity: SpiffeId, signal: AbortSignal): Promise<WorkloadCertificate> {
  return issue(identity, signal);
}

function checkIssued(certificate: WorkloadCertificate, identity: SpiffeId, nowMs: number): void {
  if (certificate.identity !== identity)
    refuse({
      code: 'ERR_IDENTITY_WRONG_CERTIFICATE',
      op,
      message: `asked for ${identity}, got ${quoted(String(certificate.identity))}`,
    });
  // Not `<`: a date that is none compares as false with everything.
  if (!(nowMs <= certificate.notAfter.getTime()) || !(certificate.notBefore.getTime() < certificate.notAfter.getTime()))
    refuse({ code: 'ERR_IDENTITY_WRONG_CERTIFICATE', op, message: 'the issued certificate is already over' });
}

/** The certificate that `get` waits for. Its rejection is nobody's business unless someone does. */
class Arrival {
  readonly promise: Promise<WorkloadCertificate>;
  resolve!: (certificate: WorkloadCertificate) => void;
  reject!: (reason: IdentityError) => void;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.promise.catch(() => {});
  }
}

/** `promise`, or the reason of `signal` if that comes first. Leaves no listener on the signal. */
function waitFor<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    const done = () => signal.removeEventListener('abort', onAbort);
    promise.then(resolve, reject).finally(done);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}

function checkPolicy(policy: RenewalPolicy): RenewalPolicy {
  if (!(policy.minRemainingShare > 0 && policy.minRemainingShare < 1))
    invalid('renewal.minRemainingShare', 'expected more than 0 and less than 1');
  if (!(policy.backoffFactor >= 1)) invalid('renewal.backoffFactor', 'expected 1 or more');
  if (!(policy.backoffJitter >= 0 && policy.backoffJitter < 1))
    invalid('renewal.backoffJitter', 'expected 0 to below 1');
  duration(policy.minRenewalIntervalMs, 'renewal.minRenewalIntervalMs', op, 1);
  duration(policy.backoffFirstMs, 'renewal.backoffFirstMs', op, 1);
  duration(policy.backoffMaxMs, 'renewal.backoffMaxMs', op, 1);
  return policy;
}

function closedError(): IdentityError {
  return error('ERR_IDENTITY_CLOSED', 'the certificate store is closed');
}

function error(code: string, message: string): IdentityError {
  return new IdentityError({ code, op, message });
}

function invalid(field: string, message: string): never {
  refuseInput({ code: 'ERR_IDENTITY_INVALID', op, field, message });
}
