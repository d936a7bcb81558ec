import type { ListedRoute } from '../netlink/route/index.ts';
import { applyAddresses, applyLink } from './apply-links.ts';
import { applyPolicyRules, applyRoute, readRoutes, removeStrayRoutes, routeKey } from './apply-routes.ts';
import { applyRules, readRules } from './apply-rules.ts';
import { applySysctl, type ChangedSysctl } from './apply-sysctl.ts';
import { checkPod } from './check-options.ts';
import { checkNamespaces, Kernel, type Namespaces, type Place, rolesOf } from './kernel.ts';
import { podRoute, podSysctls, type RedirectionPlan, type SidePlan } from './plan.ts';
import type { KernelFeatures } from './probe-features.ts';
import { requireFeatures } from './probe-require.ts';
import { Redirection } from './redirection.ts';
import { renderNftables } from './render-nftables.ts';
import { Transaction } from './transaction.ts';

/** Options of {@link apply}. */
export interface ApplyOptions {
  /** What the kernel has ({@link probe}). Default: found out at the first call of the process, which takes some 30 ms. */
  readonly kernel?: KernelFeatures | undefined;
  /** Looked at before each step; an abort undoes what was done. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Puts a plan in force. Doing it again changes nothing but the counters, which start anew; doing it with another plan of the same
 * name leaves what that one says. Synchronous: no other code of this process sees a part of it.
 *
 * The order keeps traffic flowing meanwhile: the proxy's side first, then what the node's rules refer to, then the rules, by one
 * transaction, and last the routes that bring in what comes from elsewhere.
 *
 * @returns the redirection in force; `close()` it, after which it stays in force, or `remove()` it
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`; nothing was changed
 * @throws {UnsupportedPlanError} `ERR_REDIRECTION_UNSUPPORTED` for a feature that this kernel does not have; nothing was changed
 * @throws {RedirectionError} `ERR_REDIRECTION_FAILED` naming the step and giving the kernel's words; what was done before is undone
 */
export function apply(plan: RedirectionPlan, namespaces: Namespaces, options: ApplyOptions = {}): Redirection {
  checkNamespaces(plan, namespaces);
  for (const [i, pod] of plan.pods.list.entries()) checkPod('apply', plan, pod, `pods.list[${i}]`);
  // Rendered before anything is touched: what cannot be said in nftables is the caller's mistake.
  for (const { role } of plan.sides) renderNftables(plan, role);
  requireFeatures(plan, options.kernel);
  const kernel = new Kernel(namespaces, rolesOf(plan));
  try {
    const transaction = new Transaction('redirection.apply', options.signal);
    for (const link of plan.links) applyLink(transaction, kernel, link);
    const changed = plan.sides.flatMap((side) => applySide(transaction, kernel.at(side.role), plan, side));
    return new Redirection(plan, kernel, changed);
  } catch (error) {
    kernel.close();
    throw error;
  }
}

/**
 * Makes one namespace what its side says.
 *
 * @param withRules - false leaves the tables of nftables, and so their counters, as they are
 * @returns the kernel parameters that were written, as they were before
 */
export function applySide(
  transaction: Transaction,
  place: Place,
  plan: RedirectionPlan,
  side: SidePlan,
  withRules = true,
): ChangedSysctl[] {
  applyAddresses(transaction, place, side);
  const changed = applySysctls(transaction, place, plan, side);
  const routes = transaction.look(`${place.role}: routes`, () => readRoutes(place, plan, side));
  for (const route of side.routes) applyRoute(transaction, place, route, routes.get(routeKey(route)));
  applyPolicyRules(transaction, place, side);
  if (withRules) {
    const before = transaction.look(`${place.role}: rules`, () => readRules(place.netfilter, plan));
    removeStrayRoutes(transaction, place, plan, side, routes);
    applyRules(transaction, place, plan, before);
  } else removeStrayRoutes(transaction, place, plan, side, routes);
  if (plan.pods.role === place.role) applyPodRoutes(transaction, place, plan, routes);
  return changed;
}

function applySysctls(transaction: Transaction, place: Place, plan: RedirectionPlan, side: SidePlan): ChangedSysctl[] {
  const pods = plan.pods.role === place.role ? plan.pods.list.flatMap((pod) => podSysctls(plan, pod)) : [];
  const changed: ChangedSysctl[] = [];
  for (const sysctl of [...side.sysctls, ...pods]) {
    const before = applySysctl(transaction, place, sysctl);
    if (before !== undefined) changed.push(before);
  }
  return changed;
}

function applyPodRoutes(
  transaction: Transaction,
  place: Place,
  plan: RedirectionPlan,
  routes: ReadonlyMap<string, ListedRoute>,
): void {
  for (const pod of plan.pods.list) {
    const route = podRoute(plan, pod);
    if (route === undefined) continue;
    applyRoute(transaction, place, route, routes.get(routeKey(route)));
  }
}
