import { setTimeout as sleep } from 'node:timers/promises';
import { type ConntrackEntry, deleteConntrack, listConntrack } from '../netlink/conntrack/index.ts';
import { readRoutes, removeStrayRoutes } from './apply-routes.ts';
import { applyRules, presentTables, readRules } from './apply-rules.ts';
import type { ChangedSysctl } from './apply-sysctl.ts';
import { capturedBy, capturedFilters, drainingPlan } from './draining.ts';
import { invalid } from './error.ts';
import { Kernel, type Namespaces, type Place, rolesOf } from './kernel.ts';
import { type RedirectionPlan, sideOf } from './plan.ts';
import { removeFrom } from './remove.ts';
import { Transaction } from './transaction.ts';

/** How captured connections are waited for. */
export interface DrainOptions {
  /** How long at most; 0 waits for none. Default 300,000. */
  readonly deadlineMs?: number;
  /** Between two looks at connection tracking. Default 250. */
  readonly pollMs?: number;
  /** Called after each look with how many captured connections are open, first when nothing new is captured any more. */
  readonly onOpen?: ((open: number) => void) | undefined;
  /** Ends the wait by an error; nothing new is captured then, and the rest is left to `remove`. */
  readonly signal?: AbortSignal | undefined;
}

/** How a drain ended. */
export interface Drained {
  /** Captured connections that were open when it began. */
  readonly open: number;
  /** Those that were open still when everything was taken away, and broke. */
  readonly cut: number;
  readonly tookMs: number;
}

/**
 * As {@link remove}, without breaking a connection: from now on nothing new is captured, by one transaction, and what is captured
 * goes on by the proxy until it ends or the deadline comes; then the rest goes. The proxy has to run as long. Where it is interrupted,
 * {@link remove} takes away what is left, and {@link apply} begins to capture again; so does a {@link watch} of another process, which
 * has to end before.
 *
 * A connection is known by connection tracking: by the NAT that the plan's rules did, or by {@link RedirectionPlan.captured}. What
 * is over but for its entry (TIME_WAIT, a DNS query with its answer) is not waited for.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, naming the option; nothing was changed
 * @throws {RedirectionError} `ERR_REDIRECTION_FAILED`; everything is in force as before
 * @throws {NetlinkError} where the kernel refuses to remove; what comes after it is still there
 */
export async function drainAndRemove(
  plan: RedirectionPlan,
  namespaces: Namespaces,
  options: DrainOptions = {},
): Promise<Drained> {
  checkDrainOptions(options);
  options.signal?.throwIfAborted();
  using kernel = new Kernel(namespaces, rolesOf(plan));
  return await removeDrained(plan, kernel, stopCapturing(plan, kernel), options);
}

/** @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` */
export function checkDrainOptions({ deadlineMs = 0, pollMs = 1 }: DrainOptions): void {
  if (!(Number.isFinite(deadlineMs) && deadlineMs >= 0 && deadlineMs <= 86_400_000)) {
    throw invalid('drain', 'deadlineMs', `${deadlineMs} is no time from 0 to 86400000`);
  }
  if (!(Number.isFinite(pollMs) && pollMs >= 1 && pollMs <= 86_400_000)) {
    throw invalid('drain', 'pollMs', `${pollMs} is no time from 1 to 86400000`);
  }
}

/**
 * The second half: waits for the captured connections, and takes everything away.
 *
 * @param places - where the plan was in force, from {@link stopCapturing}
 * @param sysctls - what to write back in the end
 * @param checkOpen - throws where the sockets were closed meanwhile
 */
export async function removeDrained(
  plan: RedirectionPlan,
  kernel: Kernel,
  places: readonly Place[],
  { deadlineMs = 300_000, pollMs = 250, onOpen, signal }: DrainOptions,
  sysctls: readonly ChangedSysctl[] = [],
  checkOpen = () => {},
): Promise<Drained> {
  const startedMs = performance.now();
  const open = openCaptured(plan, places);
  onOpen?.(open.length);
  let left = open;
  for (;;) {
    const remainingMs = deadlineMs - (performance.now() - startedMs);
    if (left.length === 0 || remainingMs <= 0) break;
    await sleep(Math.min(pollMs, remainingMs), undefined, { signal });
    checkOpen();
    left = openCaptured(plan, places);
    onOpen?.(left.length);
  }
  removeFrom(plan, kernel, sysctls);
  // Else they would stay translated to the proxy wherever another program's nat chains keep the kernel translating.
  for (const { place, entry } of left) deleteConntrack(place.netfilter, entry, { missingOk: true });
  return { open: open.length, cut: left.length, tookMs: performance.now() - startedMs };
}

/**
 * The first half, synchronous: from here on nothing new is captured. Where the plan is not in force, nothing is done.
 *
 * @returns where it was in force
 * @throws {RedirectionError} `ERR_REDIRECTION_FAILED`; everything is in force as before
 */
export function stopCapturing(plan: RedirectionPlan, kernel: Kernel): Place[] {
  const draining = drainingPlan(plan);
  const transaction = new Transaction('redirection.drain');
  const places: Place[] = [];
  for (const side of draining.sides) {
    const place = kernel.find(side.role);
    if (place === undefined || presentTables(place.netfilter, plan).length === 0) continue;
    places.push(place);
    if (side.role !== plan.pods.role && side === sideOf(plan, side.role)) continue;
    const routes = transaction.look(`${side.role}: routes`, () => readRoutes(place, plan, side));
    removeStrayRoutes(transaction, place, draining, side, routes);
    const before = transaction.look(`${side.role}: rules`, () => readRules(place.netfilter, plan));
    applyRules(transaction, place, draining, before);
  }
  return places;
}

interface Captured {
  readonly place: Place;
  readonly entry: ConntrackEntry;
}

function openCaptured(plan: RedirectionPlan, places: readonly Place[]): Captured[] {
  const isCaptured = capturedBy(plan);
  const filters = capturedFilters(plan);
  return places.flatMap((place) => {
    // By id, since a connection may answer to two filters.
    const entries = new Map<number, ConntrackEntry>();
    for (const filter of filters) {
      for (const entry of listConntrack(place.netfilter, filter)) if (isCaptured(entry)) entries.set(entry.id, entry);
    }
    return [...entries.values()].map((entry) => ({ place, entry }));
  });
}
