import {
  type ConntrackEntry,
  type ConntrackFilter,
  IPS_DST_NAT,
  IPS_SEEN_REPLY,
  IPS_SRC_NAT,
  type TcpConntrackState,
} from '../netlink/conntrack/index.ts';
import { IPPROTO_TCP, IPPROTO_UDP } from '../system/index.ts';
import type { Action, RedirectionPlan, RulePlan, SidePlan } from './plan.ts';

/** A connection in one of these has ended; what is still in the table is its name. */
const OVER: ReadonlySet<TcpConntrackState | undefined> = new Set(['TIME_WAIT', 'CLOSE']);

/**
 * The plan in which nothing new is captured, and what is captured already goes on: its packets are still translated and still find
 * the proxy. Where pods are captured by a set, it has none; elsewhere each rule that captures accepts established connections
 * instead, which leaves the nat chains in their places (without one the kernel translates no more) and connection tracking on.
 * Sides in which nothing changes are the plan's own.
 */
export function drainingPlan(plan: RedirectionPlan): RedirectionPlan {
  const { pods, sides } = plan;
  if (pods.set !== undefined || pods.set6 !== undefined) return { ...plan, pods: { ...pods, list: [] } };
  return { ...plan, pods: { ...pods, list: [] }, sides: sides.map(drainingSide) };
}

function drainingSide(side: SidePlan): SidePlan {
  if (!side.chains.some(({ rules }) => rules.some(isCapture))) return side;
  const drained = (rule: RulePlan): RulePlan =>
    isCapture(rule)
      ? { id: rule.id, matches: [...rule.matches, { on: 'established' }], action: { do: 'accept' }, why: 'draining' }
      : rule;
  return { ...side, chains: side.chains.map((chain) => ({ ...chain, rules: chain.rules.map(drained) })) };
}

function isCapture({ action: { do: what } }: RulePlan): boolean {
  return what === 'redirect' || what === 'dnat' || what === 'snat' || what === 'tproxy';
}

/** What to ask connection tracking for, so that {@link capturedBy} finds all of a plan's: a node's table is not read whole. */
export function capturedFilters(plan: RedirectionPlan): ConntrackFilter[] {
  const filters: ConntrackFilter[] = [];
  const { connmark } = plan.captured ?? {};
  if (connmark !== undefined) filters.push({ mark: connmark.value, markMask: connmark.mask });
  for (const action of actionsOf(plan)) {
    if (action.do === 'redirect') return [{}];
    if (action.do !== 'dnat' && action.do !== 'snat') continue;
    const end = action.do === 'dnat' ? 'source' : 'destination';
    for (const ip of [action.ip, action.ip6]) if (ip !== undefined) filters.push({ reply: { [end]: ip } });
  }
  return filters;
}

/** Says of an entry of connection tracking whether it is a captured connection of the plan's that has not ended. */
export function capturedBy(plan: RedirectionPlan): (entry: ConntrackEntry) => boolean {
  const ports = new Set<number | undefined>();
  const sources = new Set<string | undefined>();
  for (const action of actionsOf(plan)) {
    if (action.do === 'redirect' || action.do === 'dnat') ports.add(action.port);
    else if (action.do === 'snat') sources.add(action.ip).add(action.ip6);
  }
  const { connmark, tunnelPort } = plan.captured ?? {};
  return ({ original, reply, status, mark, tcpState }) => {
    if (original.protocol === IPPROTO_TCP && OVER.has(tcpState)) return false;
    // A query is over when it is answered; its entry lives on for half a minute.
    if (original.protocol === IPPROTO_UDP && (status & IPS_SEEN_REPLY) !== 0) return false;
    if ((status & IPS_DST_NAT) !== 0 && ports.has(reply.sourcePort)) return true;
    if ((status & IPS_SRC_NAT) !== 0 && sources.has(reply.destination)) return true;
    if (connmark === undefined || (mark & connmark.mask) >>> 0 !== connmark.value) return false;
    return tunnelPort === undefined || original.destinationPort !== tunnelPort;
  };
}

function actionsOf({ sides }: RedirectionPlan): Action[] {
  return sides.flatMap(({ chains }) => chains.flatMap(({ rules }) => rules.map(({ action }) => action)));
}
