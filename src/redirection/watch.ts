import { statSync } from 'node:fs';
import {
  NFNLGRP_NFTABLES,
  type Notifications,
  openNotifications,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_IPV6_RULE,
  RTNLGRP_LINK,
  type Subscription,
  subscribe,
} from '../netlink/index.ts';
import { type NetworkNamespace, namespacePath } from '../netns/index.ts';
import { invalid } from './error.ts';
import { Kernel, rolesOf } from './kernel.ts';
import type { Role } from './plan.ts';
import type { Redirection } from './redirection.ts';
import { verifyFrom } from './verify.ts';
import type { Difference } from './verify-difference.ts';
import { type Concerns, concernsNetwork, concernsOf, concernsRules } from './watch-concerns.ts';
import { RepairLimit, type RepairLimitOptions } from './watch-limit.ts';
import { isRepairable, repair } from './watch-repair.ts';

/** Why a watch ended. */
export type WatchEnd = 'aborted' | 'closed' | 'namespace-gone';

/** What a watch tells. */
export type WatchEvent =
  /** Something was taken away or changed, and is in force again. */
  | { readonly type: 'repaired'; readonly differences: readonly Difference[]; readonly tookMs: number }
  /** The kernel refused; it is tried again after `retryInMs`. */
  | {
      readonly type: 'failed';
      readonly differences: readonly Difference[];
      readonly error: unknown;
      readonly retryInMs: number;
    }
  /** What a repair cannot change: rules of others in front, a pod's device that is gone. Told once, and again when it changes; empty when it is over. */
  | { readonly type: 'unrepairable'; readonly differences: readonly Difference[] }
  /** Somebody undoes every repair: nothing is done for `retryInMs`. */
  | {
      readonly type: 'paused';
      readonly differences: readonly Difference[];
      readonly repairs: number;
      readonly windowMs: number;
      readonly retryInMs: number;
    }
  /** Notifications were lost (ENOBUFS), so everything is read again. */
  | { readonly type: 'resynchronised'; readonly role: Role }
  | { readonly type: 'ended'; readonly reason: WatchEnd; readonly role?: Role };

/** Options of {@link watch}. */
export interface WatchOptions extends RepairLimitOptions {
  /** Ends the watch. */
  readonly signal?: AbortSignal | undefined;
  /** Called for each event as it happens, after `watch` has returned. */
  readonly onEvent: (event: WatchEvent) => void;
  /** Time between two readings of notifications. Default 100. */
  readonly intervalMs?: number;
  /** From the first notification to the repair: a firewall reload has several parts. Default 100. */
  readonly settleMs?: number;
  /** Room for the notifications between two readings, per socket. Default 1 MiB. */
  readonly receiveBufferBytes?: number;
  /** Everything is verified this often, for what no notification tells of: kernel parameters, rules of others. Default 30,000. */
  readonly checkEveryMs?: number;
}

/** A redirection that is watched. */
export interface Watch extends Disposable, AsyncDisposable {
  /** Settles when it has ended, by whatever; never rejects. */
  readonly ended: Promise<WatchEnd>;
  /** Ends it; the redirection stays in force. A second call does nothing. */
  close(): void;
}

const ROUTE_GROUPS = [
  RTNLGRP_LINK,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_IPV6_RULE,
];
/** How often it is looked whether redirection and namespaces still are. */
const TICK_MS = 1000;
const RETRY_MS = 1000;

/**
 * Keeps a redirection in force: hears of every change of nftables, policy rules, routes, addresses and links in its namespaces,
 * and repairs within a second what somebody took away (a firewall reload, `nft flush ruleset`, `ip rule flush`), with the pods as
 * they are enrolled then. Only what differs is written. More than `maxRepairs` in `windowMs` is taken for a fight with another
 * program, and left alone for a while.
 *
 * It ends when its signal aborts, the redirection is closed, drained or removed, or a namespace has lost its name or its owner has closed it
 * (one that was opened by a path or process keeps existing as long as it is open). Holds four netlink sockets per role and keeps
 * the process alive meanwhile. Verifying and repairing are synchronous: some milliseconds each, more with thousands of pods.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, naming the option
 */
export function watch(redirection: Redirection, options: WatchOptions): Watch {
  for (const field of ['intervalMs', 'settleMs', 'checkEveryMs'] as const) {
    const value = options[field];
    if (value === undefined || (Number.isFinite(value) && value >= 1 && value <= 86_400_000)) continue;
    throw invalid('watch', field, `${value} is no time from 1 to 86400000`);
  }
  if (redirection.closed || redirection.draining) throw invalid('watch', 'redirection', 'it was closed');
  return new Watcher(redirection, options);
}

class Watcher implements Watch {
  readonly ended: Promise<WatchEnd>;
  readonly #end: (reason: WatchEnd) => void;
  readonly #redirection: Redirection;
  readonly #options: WatchOptions;
  readonly #limit: RepairLimit;
  readonly #kernel: Kernel;
  readonly #roles: readonly Role[];
  readonly #subscriptions: Subscription[] = [];
  readonly #tick: NodeJS.Timeout;
  readonly #onAbort = () => this.#finish('aborted');
  #check: NodeJS.Timeout | undefined;
  #extent: 'everything' | 'own' = 'own';
  #pausedUntilMs = 0;
  #checkedMs = 0;
  #unrepairable = '[]';
  #over = false;

  constructor(redirection: Redirection, options: WatchOptions) {
    this.#redirection = redirection;
    this.#options = options;
    this.#limit = new RepairLimit(options);
    const { promise, resolve } = Promise.withResolvers<WatchEnd>();
    this.ended = promise;
    this.#end = resolve;
    const { plan, namespaces } = redirection;
    this.#roles = [...rolesOf(plan)];
    this.#kernel = new Kernel(namespaces, this.#roles);
    try {
      for (const role of this.#roles) this.#subscribe(role, concernsOf(plan, role));
    } catch (error) {
      for (const subscription of this.#subscriptions) subscription.close();
      this.#kernel.close();
      throw error;
    }
    this.#tick = setInterval(() => this.#onTick(), TICK_MS);
    options.signal?.addEventListener('abort', this.#onAbort);
    // What was taken away before there was anybody to hear of it.
    this.#plan('everything', 0);
    if (options.signal?.aborted) setImmediate(this.#onAbort);
  }

  close(): void {
    this.#finish('closed');
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #subscribe(role: Role, concerns: Concerns): void {
    const { namespace } = this.#kernel.at(role);
    const { intervalMs = 100, receiveBufferBytes = 1 << 20 } = this.#options;
    for (const [family, groups, isOurs] of [
      ['route', ROUTE_GROUPS, concernsNetwork],
      ['netfilter', [NFNLGRP_NFTABLES], concernsRules],
    ] as const) {
      const onNotifications = ({ messages, lost }: Notifications) => {
        if (lost) this.#options.onEvent({ type: 'resynchronised', role });
        if (this.#over) return;
        if (lost || messages.some((message) => isOurs(message, concerns))) this.#plan(lost ? 'everything' : 'own');
      };
      const onError = (error: unknown) => this.#failed([], error, () => this.#resubscribe());
      const source = openNotifications({ family, groups, namespace, receiveBufferBytes });
      this.#subscriptions.push(subscribe(source, { intervalMs, onNotifications, onError }));
    }
  }

  /** All of them: opening those anew that still work costs little, and everything is read again. */
  #resubscribe(): void {
    if (this.#over) return;
    for (const subscription of this.#subscriptions.splice(0)) subscription.close();
    try {
      for (const role of this.#roles) this.#subscribe(role, concernsOf(this.#redirection.plan, role));
    } catch (error) {
      this.#failed([], error, () => this.#resubscribe());
      return;
    }
    this.#plan('everything');
  }

  #failed(differences: readonly Difference[], error: unknown, retry: () => void): void {
    setTimeout(retry, RETRY_MS);
    this.#options.onEvent({ type: 'failed', differences, error, retryInMs: RETRY_MS });
  }

  /** Has everything, or what is the plan's own, looked at soon; one look for all that comes meanwhile. */
  #plan(extent: 'everything' | 'own', afterMs = this.#options.settleMs ?? 100): void {
    if (extent === 'everything') this.#extent = extent;
    if (this.#check !== undefined || this.#over) return;
    const pauseMs = Math.max(0, this.#pausedUntilMs - performance.now());
    this.#check = setTimeout(() => this.#onCheck(), Math.max(afterMs, pauseMs));
  }

  #onTick(): void {
    if (this.#isOver()) return;
    const { checkEveryMs = 30_000 } = this.#options;
    if (performance.now() - this.#checkedMs >= checkEveryMs) this.#plan('everything', 0);
  }

  #isOver(): boolean {
    if (this.#over) return true;
    if (this.#redirection.closed || this.#redirection.draining) this.#finish('closed');
    for (const role of this.#roles) {
      if (!this.#over && isGone(this.#kernel.at(role).namespace)) this.#finish('namespace-gone', role);
    }
    return this.#over;
  }

  #onCheck(): void {
    this.#check = undefined;
    if (this.#isOver()) return;
    const extent = this.#extent;
    this.#extent = 'own';
    const startedMs = performance.now();
    if (extent === 'everything') this.#checkedMs = startedMs;
    const { plan } = this.#redirection;
    let repairable: Difference[] = [];
    try {
      const { differences } = verifyFrom(plan, this.#kernel, extent);
      repairable = differences.filter((difference) => isRepairable(plan, difference));
      if (extent === 'everything') this.#tellUnrepairable(differences.filter((one) => !repairable.includes(one)));
      if (repairable.length === 0 || this.#isOver()) return;
      const retryInMs = this.#limit.take(startedMs);
      if (retryInMs > 0) {
        this.#pause(retryInMs);
        const { maxRepairs: repairs, windowMs } = this.#limit;
        this.#options.onEvent({ type: 'paused', differences: repairable, repairs, windowMs, retryInMs });
        return;
      }
      repair(plan, this.#kernel, differences);
    } catch (error) {
      this.#failed(repairable, error, () => this.#plan('everything', 0));
      return;
    }
    this.#options.onEvent({ type: 'repaired', differences: repairable, tookMs: performance.now() - startedMs });
  }

  #pause(retryInMs: number): void {
    this.#pausedUntilMs = performance.now() + retryInMs;
    this.#plan('everything', retryInMs);
  }

  #tellUnrepairable(differences: readonly Difference[]): void {
    const text = JSON.stringify(differences);
    if (text === this.#unrepairable) return;
    this.#unrepairable = text;
    this.#options.onEvent({ type: 'unrepairable', differences });
  }

  #finish(reason: WatchEnd, role?: Role): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#tick);
    clearTimeout(this.#check);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    for (const subscription of this.#subscriptions) subscription.close();
    this.#kernel.close();
    this.#end(reason);
    this.#options.onEvent(role === undefined ? { type: 'ended', reason } : { type: 'ended', reason, role });
  }
}

/** The sockets hold the namespace itself, which therefore never ends: what ends is its name, or somebody's use for it. */
function isGone(namespace: NetworkNamespace): boolean {
  if (namespace.closed) return true;
  if (namespace.name === undefined) return false;
  try {
    return statSync(namespacePath(namespace.name)).ino !== namespace.inode;
  } catch {
    return true;
  }
}
