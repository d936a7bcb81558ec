import { cidrContains, parseCidr, parseIp } from '../ip/index.ts';
import type { ListedRoute, ListedRule, PortRange } from '../netlink/route/index.ts';
import type { KernelView } from './kernel-view.ts';

/** Tables of `<linux/rtnetlink.h>`. */
export const RT_TABLE_MAIN = 254;
export const RT_TABLE_LOCAL = 255;

/** What routing is asked with. */
export interface RouteQuery {
  readonly family: 4 | 6;
  readonly source: string;
  readonly destination: string;
  /** Left out for a question about an address alone. */
  readonly protocol?: number | undefined;
  readonly sourcePort?: number | undefined;
  readonly destinationPort?: number | undefined;
  /** Undefined: unknown. */
  readonly mark: number | undefined;
  /** `lo` for a packet of this namespace's own. */
  readonly device: string;
}

/** What routing says, and by which rule. */
export type RouteAnswer =
  | { readonly kind: 'route'; readonly rule: ListedRule; readonly route: ListedRoute }
  /** A rule, or a route, that refuses: blackhole, unreachable, prohibit. */
  | { readonly kind: 'refused'; readonly rule: ListedRule; readonly route?: ListedRoute }
  | { readonly kind: 'none' }
  | { readonly kind: 'unknown'; readonly rule: ListedRule; readonly reason: string };

/** Asks the policy rules in their order, each table for the longest prefix: `fib_lookup`. */
export function lookUpRoute(view: Pick<KernelView, 'policyRules' | 'routes'>, query: RouteQuery): RouteAnswer {
  const rules = view.policyRules.filter(({ family }) => family === query.family);
  for (let at = 0; at < rules.length; at++) {
    const rule = rules[at]!;
    const applies = ruleApplies(rule, query);
    if (applies === 'unknown') return { kind: 'unknown', rule, reason: 'it asks for something unknown of the packet' };
    if (!applies) continue;
    if (rule.action === 'nop') continue;
    if (rule.action === 'goto') {
      const target = rules.findIndex(({ priority }) => priority === rule.goto);
      // The kernel passes by a goto whose target is missing.
      if (target > at) at = target - 1;
      continue;
    }
    if (rule.action === 'blackhole' || rule.action === 'unreachable' || rule.action === 'prohibit') {
      return { kind: 'refused', rule };
    }
    if (rule.action !== 'lookup' || rule.table === undefined) {
      return { kind: 'unknown', rule, reason: 'its action is not known here' };
    }
    const route = longestPrefix(view, rule.table, query.destination);
    if (route === undefined || route.type === 'throw') continue;
    if (isSuppressed(rule, route)) continue;
    if (route.type === 'blackhole' || route.type === 'unreachable' || route.type === 'prohibit') {
      return { kind: 'refused', rule, route };
    }
    return { kind: 'route', rule, route };
  }
  return { kind: 'none' };
}

/** The route of one table for an address: longest prefix, then lowest metric. */
export function longestPrefix(
  { routes }: Pick<KernelView, 'routes'>,
  table: number,
  destination: string,
): ListedRoute | undefined {
  const ip = parseIp(destination);
  let best: ListedRoute | undefined;
  let bestLength = -1;
  for (const route of routes) {
    if (route.table !== table || route.family !== ip.family) continue;
    const range = parseCidr(route.destination);
    if (range.prefixLength < bestLength || !cidrContains(range, ip)) continue;
    if (range.prefixLength === bestLength && (route.metric ?? 0) >= (best?.metric ?? 0)) continue;
    best = route;
    bestLength = range.prefixLength;
  }
  return best;
}

function isSuppressed(rule: ListedRule, route: ListedRoute): boolean {
  return (
    rule.suppressPrefixLength !== undefined && parseCidr(route.destination).prefixLength <= rule.suppressPrefixLength
  );
}

function ruleApplies(rule: ListedRule, query: RouteQuery): boolean | 'unknown' {
  const conditions = [
    markAgrees(rule, query.mark),
    rule.iif === undefined || rule.iif === query.device,
    // No socket of the imagined packets is bound to a device.
    rule.oif === undefined,
    rule.source === undefined || cidrContains(parseCidr(rule.source), parseIp(query.source)),
    rule.destination === undefined || cidrContains(parseCidr(rule.destination), parseIp(query.destination)),
    rule.ipProtocol === undefined || rule.ipProtocol === query.protocol,
    portAgrees(rule.sourcePorts, query.sourcePort),
    portAgrees(rule.destinationPorts, query.destinationPort),
  ];
  const agrees = conditions.includes(false) ? false : conditions.includes('unknown') ? 'unknown' : true;
  if (agrees === 'unknown') return agrees;
  return agrees !== (rule.invert ?? false);
}

function markAgrees({ fwmark, fwmask }: ListedRule, mark: number | undefined): boolean | 'unknown' {
  const mask = fwmask ?? (fwmark === undefined ? 0 : 0xffff_ffff);
  if (mask === 0) return true;
  if (mark === undefined) return 'unknown';
  return (((fwmark ?? 0) ^ mark) & mask) === 0;
}

function portAgrees(range: PortRange | undefined, port: number | undefined): boolean | 'unknown' {
  if (range === undefined) return true;
  if (port === undefined) return 'unknown';
  return port >= range.start && port <= range.end;
}
