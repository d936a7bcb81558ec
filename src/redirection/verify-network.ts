import { type Link, listAddresses, listLinks, listRules } from '../netlink/route/index.ts';
import { readSysctl } from '../netns/index.ts';
import { ownedRouteTables, readRoutes, routeKey, samePolicyRule, sameRoute } from './apply-routes.ts';
import type { Kernel, Place } from './kernel.ts';
import { type LinkPlan, podRoute, podSysctls, type RedirectionPlan, type SidePlan } from './plan.ts';
import { policyRuleText, routeText } from './render-text.ts';
import type { Difference } from './verify-difference.ts';

/** Compares the plan's links, both ends of each, and the devices of its pods. */
export function verifyLinks(plan: RedirectionPlan, kernel: Kernel): Difference[] {
  const differences: Difference[] = [];
  const listed = new Map<string, Map<string, Link>>();
  const linksOf = (role: string): Map<string, Link> => {
    let links = listed.get(role);
    if (links === undefined) {
      links = new Map(listLinks(kernel.at(role).route).map((link) => [link.name, link]));
      listed.set(role, links);
    }
    return links;
  };
  const check = (role: string, name: string, detail: (link: Link) => string | undefined): Link | undefined => {
    const link = linksOf(role).get(name);
    if (link === undefined) {
      differences.push({ kind: 'missing', role, what: 'link', name, detail: '' });
      return undefined;
    }
    const changed = detail(link) ?? (link.up ? undefined : 'is down');
    if (changed !== undefined) differences.push({ kind: 'changed', role, what: 'link', name, detail: changed });
    return link;
  };
  for (const wanted of plan.links) {
    const link = check(wanted.role, wanted.name, (found) => linkChange(wanted, found));
    if (wanted.kind !== 'veth') continue;
    check(wanted.peer.role, wanted.peer.name, (peer) => {
      const isPair = link === undefined || (peer.linkIndex === link.index && link.linkIndex === peer.index);
      return isPair ? undefined : `is not the other end of ${wanted.name}`;
    });
  }
  const { role, list } = plan.pods;
  const devices = new Set(list.map(({ veth }) => veth));
  for (const veth of devices) if (veth !== undefined) check(role, veth, () => undefined);
  return differences;
}

function linkChange(plan: LinkPlan, link: Link): string | undefined {
  if (plan.kind === 'existing') return undefined;
  if (link.kind !== plan.kind)
    return `is of kind ${link.kind === 'other' ? link.kernelKind : link.kind}, not ${plan.kind}`;
  if (link.kind !== 'geneve' || plan.kind !== 'geneve') return undefined;
  if (link.id !== plan.id) return `has id ${link.id}, not ${plan.id}`;
  if (link.remote !== plan.remote) return `leads to ${link.remote}, not ${plan.remote}`;
  return undefined;
}

export function verifyAddresses(side: SidePlan, { role, route }: Place): Difference[] {
  if (side.addresses.length === 0) return [];
  const there = new Set(
    listAddresses(route).map(({ device, ip, prefixLength }) => `${ip}/${prefixLength} on ${device}`),
  );
  return side.addresses
    .map(({ device, ip, prefixLength }) => `${ip}/${prefixLength} on ${device}`)
    .filter((name) => !there.has(name))
    .map((name) => ({ kind: 'missing', role, what: 'address', name, detail: '' }));
}

export function verifySysctls(plan: RedirectionPlan, side: SidePlan, { role, namespace }: Place): Difference[] {
  const pods = plan.pods.role === role ? plan.pods.list.flatMap((pod) => podSysctls(plan, pod)) : [];
  const differences: Difference[] = [];
  for (const { name, value } of [...side.sysctls, ...pods]) {
    let found: string;
    try {
      found = words(readSysctl(namespace, name));
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
      differences.push({ kind: 'missing', role, what: 'sysctl', name, detail: 'there is no such device or parameter' });
      continue;
    }
    if (found === words(value)) continue;
    differences.push({ kind: 'changed', role, what: 'sysctl', name, detail: `is ${found}, not ${value}` });
  }
  return differences;
}

/** The kernel puts a tab where people put a space. */
function words(value: string): string {
  return value.trim().split(/\s+/).join(' ');
}

export function verifyRoutes(plan: RedirectionPlan, side: SidePlan, place: Place): Difference[] {
  const { role } = place;
  const there = readRoutes(place, plan, side);
  const owned = new Set(ownedRouteTables(plan, side));
  const wanted = [...side.routes];
  if (plan.pods.role === role) wanted.push(...plan.pods.list.flatMap((pod) => podRoute(plan, pod) ?? []));
  const differences: Difference[] = [];
  for (const route of wanted) {
    // Routes of the kernel's own tables are not read: a plan has none today.
    if (route.table === undefined || !owned.has(route.table)) continue;
    const key = routeKey(route);
    const found = there.get(key);
    there.delete(key);
    if (found === undefined) {
      differences.push({ kind: 'missing', role, what: 'route', name: routeText(route), detail: '' });
    } else if (!sameRoute(found, route)) {
      const detail = `is ${routeText(found)}`;
      differences.push({ kind: 'changed', role, what: 'route', name: routeText(route), detail });
    }
  }
  for (const route of there.values()) {
    differences.push({ kind: 'stray', role, what: 'route', name: routeText(route), detail: '' });
  }
  return differences;
}

export function verifyPolicyRules(side: SidePlan, { role, route }: Place): Difference[] {
  if (side.policyRules.length === 0) return [];
  const there = listRules(route);
  const differences: Difference[] = [];
  for (const rule of side.policyRules) {
    if (there.some((listed) => samePolicyRule(listed, rule))) continue;
    const other = there.find(({ family, priority }) => family === rule.family && priority === rule.priority);
    const detail = other === undefined ? '' : `at its priority is ${policyRuleText(other)}`;
    differences.push({ kind: 'missing', role, what: 'policy-rule', name: policyRuleText(rule), detail });
  }
  return differences;
}
