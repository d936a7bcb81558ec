import {
  addRoute,
  addRule,
  deleteRoute,
  deleteRule,
  type ListedRoute,
  listRoutes,
  listRules,
  type Rule as PolicyRule,
  type Route,
  replaceRoute,
} from '../netlink/route/index.ts';
import type { Place } from './kernel.ts';
import { familiesOf, podRoute, type RedirectionPlan, type SidePlan } from './plan.ts';
import { policyRuleText, routeText } from './render-text.ts';
import type { Transaction } from './transaction.ts';

const RT_TABLE_MAIN = 254;
const RT_TABLE_LOCAL = 255;

/** The tables that belong to a plan in one namespace: those that its routes are in, other than the kernel's own. */
export function ownedRouteTables(plan: RedirectionPlan, side: SidePlan): number[] {
  const tables = new Set(side.routes.map(({ table }) => table ?? RT_TABLE_MAIN));
  if (plan.pods.role === side.role) {
    for (const route of [plan.pods.route, plan.pods.route6]) if (route) tables.add(route.table ?? RT_TABLE_MAIN);
  }
  tables.delete(RT_TABLE_MAIN);
  tables.delete(RT_TABLE_LOCAL);
  return [...tables];
}

/** The routes of a side's own tables, by what tells one from another there. */
export function readRoutes(place: Place, plan: RedirectionPlan, side: SidePlan): Map<string, ListedRoute> {
  const routes = new Map<string, ListedRoute>();
  for (const table of ownedRouteTables(plan, side)) {
    for (const family of familiesOf(plan)) {
      for (const route of listRoutes(place.route, { family, table })) routes.set(routeKey(route), route);
    }
  }
  return routes;
}

/** Puts one route in, in place of another to the same destination. */
export function applyRoute(
  transaction: Transaction,
  { role, route: netlink }: Place,
  route: Route,
  there: ListedRoute | undefined,
): void {
  if (there !== undefined && sameRoute(there, route)) return;
  transaction.step(
    `${role}: route ${routeText(route)}`,
    () => replaceRoute(netlink, route),
    there === undefined ? () => deleteRoute(netlink, route, { missingOk: true }) : () => replaceRoute(netlink, there),
  );
}

/** Takes routes out of a side's own tables that are not the plan's: pods that are no longer enrolled. */
export function removeStrayRoutes(
  transaction: Transaction,
  { role, route: netlink }: Place,
  plan: RedirectionPlan,
  side: SidePlan,
  there: ReadonlyMap<string, ListedRoute>,
): void {
  const wanted = new Set(side.routes.map(routeKey));
  if (plan.pods.role === role) {
    for (const pod of plan.pods.list) {
      const route = podRoute(plan, pod);
      if (route !== undefined) wanted.add(routeKey(route));
    }
  }
  for (const [key, route] of there) {
    if (wanted.has(key)) continue;
    transaction.step(
      `${role}: delete route ${routeText(route)}`,
      () => deleteRoute(netlink, route, { missingOk: true }),
      () => addRoute(netlink, route),
    );
  }
}

/** Adds a side's policy rules; those that are there stay. */
export function applyPolicyRules(transaction: Transaction, { role, route: netlink }: Place, side: SidePlan): void {
  const there = transaction.look(`${role}: policy rules`, () => listRules(netlink));
  for (const rule of side.policyRules) {
    if (there.some((listed) => samePolicyRule(listed, rule))) continue;
    transaction.step(
      `${role}: ip rule ${policyRuleText(rule)}`,
      () => addRule(netlink, rule),
      () => deleteRule(netlink, rule, { missingOk: true }),
    );
  }
}

/** Destination and table: a plan has no two routes that differ in metric only. */
export function routeKey(route: Route): string {
  return `${route.table ?? RT_TABLE_MAIN} ${route.destination}`;
}

/** Whether a listed route is what the plan asks for. What the plan leaves to the kernel (scope, protocol) is not compared. */
export function sameRoute(listed: ListedRoute, route: Route): boolean {
  return (
    routeKey(listed) === routeKey(route) &&
    listed.type === (route.type ?? 'unicast') &&
    listed.gateway === route.gateway &&
    listed.device === route.device &&
    listed.source === route.source &&
    (listed.onlink ?? false) === (route.onlink ?? false)
  );
}

/** Whether a listed rule is one of a plan: asked at the same place, of the same packets, for the same. */
export function samePolicyRule(listed: PolicyRule, rule: PolicyRule): boolean {
  return listed.family === rule.family && policyRuleText(listed) === policyRuleText(rule);
}
