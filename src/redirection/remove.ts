import { Batch } from '../netlink/nftables/index.ts';
import { deleteLink, deleteRoute, deleteRule } from '../netlink/route/index.ts';
import { writeSysctl } from '../netns/index.ts';
import { ownedRouteTables, readRoutes } from './apply-routes.ts';
import { presentTables } from './apply-rules.ts';
import type { ChangedSysctl } from './apply-sysctl.ts';
import { Kernel, type Namespaces, type Place, rolesOf } from './kernel.ts';
import type { RedirectionPlan, SidePlan } from './plan.ts';

/**
 * Takes a redirection away, whoever put it in force: its rules, policy rules, the routes of its own tables, its links. What is not
 * there is passed over, and so is a role without a namespace. Kernel parameters stay, since nobody knows any more what they were;
 * {@link Redirection.remove} writes them back.
 *
 * At once: captured connections that are open break, in either mode, since nothing translates their packets any more or brings them to
 * the proxy. {@link drainAndRemove} waits for them.
 *
 * @throws {NetlinkError} where the kernel refuses; what comes after it is still there
 */
export function remove(plan: RedirectionPlan, namespaces: Namespaces): void {
  using kernel = new Kernel(namespaces, rolesOf(plan));
  removeFrom(plan, kernel, []);
}

/** As {@link remove}, by sockets that are open. @param sysctls - what to write back */
export function removeFrom(plan: RedirectionPlan, kernel: Kernel, sysctls: readonly ChangedSysctl[]): void {
  for (const side of plan.sides.toReversed()) {
    const place = kernel.find(side.role);
    if (place !== undefined) removeSide(plan, side, place);
  }
  for (const { role, name, value } of sysctls.toReversed()) {
    const place = kernel.find(role);
    if (place === undefined) continue;
    try {
      writeSysctl(place.namespace, name, value);
    } catch (error) {
      // Of a device that is gone, its parameters with it.
      if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
    }
  }
  for (const link of plan.links.toReversed()) {
    const place = kernel.find(link.role);
    if (place !== undefined && link.kind !== 'existing') deleteLink(place.route, link.name, { missingOk: true });
  }
}

/** First what sends packets to the proxy, so that they go their ordinary way again before it does. */
function removeSide(plan: RedirectionPlan, side: SidePlan, place: Place): void {
  for (const rule of side.policyRules) deleteRule(place.route, rule, { missingOk: true });
  const batch = new Batch();
  for (const table of presentTables(place.netfilter, plan)) batch.deleteTable(table);
  batch.commit(place.netfilter);
  if (ownedRouteTables(plan, side).length === 0) return;
  for (const route of readRoutes(place, plan, side).values()) deleteRoute(place.route, route, { missingOk: true });
}
