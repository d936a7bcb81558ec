import { statSync } from 'node:fs';
import {
  NFNLGRP_NFTABLES,
  type Notifications,
  openNotifications,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_NETCONF,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_NETCONF,
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
import { EVERYTHING, OTHERS, OWN, PARAMETERS, partOf, verifyFrom } from './verify.ts';
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
  /**
   * Kernel parameters are read this often, for those of which no notification tells: accept_local, proxy_delay and port ranges, unlike
   * rp_filter and forwarding; less than 1,000 is 1,000. Default 5,000.
   */
  readonly parametersEveryMs?: number;
  /**
   * Everything is verified this often, whatever was heard: of rules of iptables-legacy no notification tells. Less than 1,000 is
   * 1,000. Default 30,000.
   */
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
  RTNLGRP_IPV4_NETCONF,
  RTNLGRP_IPV6_NETCONF,
];
/** How often it is looked whether redirection and namespaces still are. */
const TICK_MS = 1000;
const RETRY_MS = 1000;
/**
 * After a look at rules of others or at parameters there is none for this many times as long: another program that never stops
 * changing its rules, or thousands of pods, shall not keep this one busy.
 */
const REST_FACTOR = 10;

/**
 * Keeps a redirection in force: hears of every change of nftables, policy rules, routes, addresses, links and announced parameters in
 * its namespaces, and repairs within a second what somebody took away (a firewall reload, `nft flush ruleset`, `ip rule flush`), with
 * the pods as they are enrolled then. Rules of others that come in front are told of as soon, other parameters are found every
 * `parametersEveryMs`. Only what differs is written. More than `maxRepairs` in `windowMs` is taken for a fight with another program,
 * and left alone for a while.
 *
 * It ends when its signal aborts, the redirection is closed, drained or removed, or a namespace has lost its name or its owner has
 * closed it (one that was opened by a path or process keeps existing as long as it is open). Holds four netlink sockets per role and
 * keeps the process alive meanwhile. Verifying and repairing are synchronous: some milliseconds each, more with thousands of pods.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, naming the option
 */
export function watch(redirection: Redirection, options: WatchOptions): Watch {
  for (const field of ['intervalMs', 'settleMs', 'parametersEveryMs', 'checkEveryMs'] as const) {
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
  /** When `#check` comes. */
  #checkAtMs = 0;
  /** The parts that are to be looked at. */
  #wanted = 0;
  #pausedUntilMs = 0;
  #restsUntilMs = 0;
  #parametersReadMs = 0;
  #checkedMs = 0;
  readonly #unrepairable = new Map<number, readonly Difference[]>();
  #told = '[]';
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
    this.#plan(EVERYTHING, 0);
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
    for (const [family, groups, partsOf] of [
      ['route', ROUTE_GROUPS, concernsNetwork],
      ['netfilter', [NFNLGRP_NFTABLES], concernsRules],
    ] as const) {
      const onNotifications = ({ messages, lost }: Notifications) => {
        if (lost) this.#options.onEvent({ type: 'resynchronised', role });
        if (this.#over) return;
        let parts = lost ? EVERYTHING : 0;
        for (const message of messages) parts |= partsOf(message, concerns);
        if (parts !== 0) this.#plan(parts);
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
    this.#plan(EVERYTHING);
  }

  #failed(differences: readonly Difference[], error: unknown, retry: () => void): void {
    setTimeout(retry, RETRY_MS);
    this.#options.onEvent({ type: 'failed', differences, error, retryInMs: RETRY_MS });
  }

  /** Has parts looked at soon; one look for all that is asked for meanwhile. */
  #plan(parts: number, afterMs = this.#options.settleMs ?? 100): void {
    if (this.#over) return;
    this.#wanted |= parts;
    const rest = (parts & OWN) === 0 ? this.#restsUntilMs : 0;
    const atMs = Math.max(performance.now() + afterMs, this.#pausedUntilMs, rest);
    if (this.#check !== undefined && this.#checkAtMs <= atMs) return;
    clearTimeout(this.#check);
    this.#checkAtMs = atMs;
    this.#check = setTimeout(() => this.#onCheck(), Math.max(0, atMs - performance.now()));
  }

  #onTick(): void {
    if (this.#isOver()) return;
    const { parametersEveryMs = 5000, checkEveryMs = 30_000 } = this.#options;
    const nowMs = performance.now();
    if (nowMs - this.#checkedMs >= checkEveryMs) this.#plan(EVERYTHING, 0);
    else if (nowMs - this.#parametersReadMs >= parametersEveryMs) this.#plan(PARAMETERS, 0);
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
    const startedMs = performance.now();
    const parts = startedMs < this.#restsUntilMs ? this.#wanted & OWN : this.#wanted;
    this.#wanted &= ~parts;
    if (this.#wanted !== 0) this.#plan(this.#wanted, 0);
    if (parts === 0) return;
    if ((parts & OTHERS) !== 0) this.#checkedMs = startedMs;
    if ((parts & PARAMETERS) !== 0) this.#parametersReadMs = startedMs;
    const { plan } = this.#redirection;
    let repairable: Difference[] = [];
    try {
      const { differences } = verifyFrom(plan, this.#kernel, parts);
      if (parts !== OWN) this.#restsUntilMs = startedMs + REST_FACTOR * (performance.now() - startedMs);
      repairable = differences.filter((difference) => isRepairable(plan, difference));
      this.#tellUnrepairable(
        parts,
        differences.filter((one) => !repairable.includes(one)),
      );
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
      this.#failed(repairable, error, () => this.#plan(EVERYTHING, 0));
      return;
    }
    this.#options.onEvent({ type: 'repaired', differences: repairable, tookMs: performance.now() - startedMs });
  }

  #pause(retryInMs: number): void {
    this.#pausedUntilMs = performance.now() + retryInMs;
    this.#plan(EVERYTHING, retryInMs);
  }

  /** What was found in the parts looked at now, beside what was found in the others before. */
  #tellUnrepairable(parts: number, found: readonly Difference[]): void {
    for (const part of [OWN, PARAMETERS, OTHERS]) {
      if ((parts & part) !== 0)
        this.#unrepairable.set(
          part,
          found.filter((difference) => partOf(difference) === part),
        );
    }
    const differences = [...this.#unrepairable.values()].flat();
    const text = JSON.stringify(differences);
    if (text === this.#told) return;
    this.#told = text;
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
