import { parseIp } from '../ip/index.ts';
import type { LinkAddress, Rule as PolicyRule, Route } from '../netlink/route/index.ts';

/** Bits of a packet's or connection's mark: those in `mask` are compared or written, and are `value`. */
export interface Mark {
  readonly value: number;
  readonly mask: number;
}

/** IPv4 or IPv6. */
export type IpFamily = 4 | 6;

/** Where something of a plan belongs: a name for a network namespace, such as `node` and `ztunnel`. */
export type Role = string;

/**
 * A redirection as a value: everything that makes the kernel hand packets to a proxy. It says nothing of the program that will
 * carry it out; tables and chains are those that the seed articles and iptables know.
 */
export interface RedirectionPlan {
  /** Whose it is: the prefix of the tables it is kept in. A second plan of the same name in a namespace replaces the first. */
  readonly name: string;
  /** Which packets its rules are for: each rule is there once a family. Default IPv4 alone. */
  readonly families?: readonly IpFamily[];
  readonly links: readonly LinkPlan[];
  /** Carried out in this order, so the proxy's side comes before the one that sends packets to it. */
  readonly sides: readonly SidePlan[];
  readonly pods: PodsPlan;
  /** How a captured connection is told by connection tracking, beside the NAT that the rules did; {@link drainAndRemove} asks. */
  readonly captured?: CapturedPlan;
}

/** See {@link RedirectionPlan.captured}. */
export interface CapturedPlan {
  /** What the rules write on connections of the proxy that would end with them. */
  readonly connmark: Mark;
  /** Connections to this port have the mark and are none: tunnels between proxies, which carry others and stay open between them. */
  readonly tunnelPort?: number;
}

/** A link that the plan makes, or one that it finds. */
export type LinkPlan =
  | {
      readonly kind: 'veth';
      readonly role: Role;
      readonly name: string;
      readonly peer: { readonly role: Role; readonly name: string };
    }
  | {
      readonly kind: 'geneve';
      readonly role: Role;
      readonly name: string;
      readonly id: number;
      readonly remote: string;
      readonly port: number;
    }
  /** Is there already, as `lo` is; is brought up, and stays. */
  | { readonly kind: 'existing'; readonly role: Role; readonly name: string };

/** What one namespace gets. */
export interface SidePlan {
  readonly role: Role;
  readonly addresses: readonly LinkAddress[];
  readonly sysctls: readonly SysctlPlan[];
  /** Every table named here, other than main and local, is the plan's own: routes in it that the plan does not have are taken away. */
  readonly routes: readonly Route[];
  readonly policyRules: readonly PolicyRule[];
  readonly sets: readonly SetPlan[];
  readonly chains: readonly ChainPlan[];
  /**
   * TCP connections of this namespace's own sockets that are open when the rules come go on as they are. Without it the rules would
   * meet them in the middle, take them for new ones and hand them to the proxy, which resets them (trap 3, here inside the pod), or
   * give them another source.
   */
  readonly keepsOpenConnections?: boolean;
}

/** A kernel parameter, spelled as sysctl(8) has it. */
export interface SysctlPlan {
  readonly name: string;
  readonly value: string;
}

/** A set of addresses; its members are the plan's pods. */
export interface SetPlan {
  readonly name: string;
  readonly family: IpFamily;
}

/** A chain that the kernel calls at a hook. */
export interface ChainPlan {
  readonly name: string;
  readonly table: 'raw' | 'mangle' | 'nat' | 'filter';
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
  /**
   * `before-others`: ahead of the chains that other programs have in this table, kube-proxy's above all (trap 9). `after-nat`: a mangle
   * chain of output that sees the destination which NAT left (traps 1 and 2). `beside-others`: wherever the table's own place is.
   */
  readonly place: 'before-others' | 'beside-others' | 'after-nat';
  readonly rules: readonly RulePlan[];
  /** For iptables, where it cannot say `rules`, or has no place `after-nat` that routes a packet again: these, before others. */
  readonly iptablesRules?: readonly RulePlan[];
}

/** A rule: when all of `matches` hold, `action` is done. */
export interface RulePlan {
  /** Stable and unique in its side: `prerouting-8`. Kept by the kernel as the rule's comment, and what counters are read back by. */
  readonly id: string;
  readonly matches: readonly Match[];
  readonly action: Action;
  /** What the rule is for, in a few words; left out where the rule before says it. */
  readonly why?: string;
}

/**
 * A condition. `not` turns it around. Where it has an address or a set, `ip6` and `set6` are those of its IPv6 twin; a rule without
 * one for a family is not there in that family.
 */
export type Match =
  | { readonly on: 'in-interface' | 'out-interface'; readonly name: string; readonly not?: boolean }
  | ({ readonly on: 'mark' | 'connmark'; readonly not?: boolean } & Mark)
  /** At most one of the two ports. `not`: the protocol is this one, the port another. */
  | {
      readonly on: 'protocol';
      readonly protocol: 'tcp' | 'udp';
      readonly destinationPort?: number;
      readonly sourcePort?: number;
      readonly not?: boolean;
    }
  | { readonly on: 'source' | 'destination'; readonly ip: string; readonly ip6?: string; readonly not?: boolean }
  /** TCP's SYN without ACK, FIN and RST: it opens a connection. Says the protocol too. */
  | { readonly on: 'tcp-syn' }
  | { readonly on: 'source-set' | 'destination-set'; readonly set: string; readonly set6?: string }
  /** By connection tracking, whatever NAT does: who opened the connection, or who answers. iptables has no such condition. */
  | { readonly on: 'original-source-set' | 'reply-source-set'; readonly set: string; readonly set6?: string }
  /** The source address is one of this namespace's own. */
  | { readonly on: 'source-local' }
  /** A socket of this namespace sends it; not so for the last ACK of a closed one (trap 2). In output and postrouting. */
  | { readonly on: 'own-socket' }
  /** Of a connection that is under way already, or belongs to one. */
  | { readonly on: 'established' };

/** What is done. Actions other than the marks and the zone end the chain for the packet. */
export type Action =
  /** iptables' `--set-xmark value/mask`. Goes on with the next rule. */
  | ({ readonly do: 'mark' } & Mark)
  /** The same with the connection's mark. Goes on. */
  | ({ readonly do: 'connmark' } & Mark)
  /** Copies the bits of `mask`, which the rule has just matched, from the packet's mark to the connection's. Goes on. */
  | { readonly do: 'save-mark'; readonly mask: number }
  /** Copies the connection's whole mark to the packet. Goes on. */
  | { readonly do: 'restore-mark' }
  /** In a raw chain: the connection is tracked in this zone, where its addresses cannot meet those of another zone. Goes on. */
  | { readonly do: 'zone'; readonly zone: number }
  | { readonly do: 'return' }
  | { readonly do: 'accept' }
  | { readonly do: 'drop' }
  /** In a nat chain: the flow keeps its destination (prerouting, output) or source, whatever later nat chains would say. */
  | { readonly do: 'no-nat' }
  /** To this namespace itself: its loopback address in output, the incoming device's in prerouting. */
  | { readonly do: 'redirect'; readonly port: number }
  | { readonly do: 'dnat'; readonly ip: string; readonly ip6?: string; readonly port: number }
  | { readonly do: 'snat'; readonly ip: string; readonly ip6?: string }
  /**
   * To a transparent socket, the packet unchanged: at `ip`, or at any address of the incoming device. `otherwise` says what happens
   * where none listens: iptables drops.
   */
  | {
      readonly do: 'tproxy';
      readonly ip?: string;
      readonly ip6?: string;
      readonly port: number;
      readonly mark: Mark;
      readonly otherwise: 'drop' | 'next-rule';
    };

/** A pod, by one of its addresses: whose traffic goes by the proxy, or whose probes do not. */
export interface Pod {
  readonly ip: string;
  /** The node's end of its cable; for plans that do something about it. */
  readonly veth?: string;
  /** Who it is, for whoever lists the set: at most 127 bytes, a pod UID in Istio. */
  readonly comment?: string;
}

/** The pods of a plan, and what each of them adds to it. */
export interface PodsPlan {
  readonly role: Role;
  /** Name of a set of that side, for IPv4 pods. */
  readonly set?: string;
  /** The same for IPv6 pods. */
  readonly set6?: string;
  /** To each IPv4 pod's address, so without a destination. */
  readonly route?: Omit<Route, 'destination'>;
  /** The same for IPv6 pods. */
  readonly route6?: Omit<Route, 'destination'>;
  /** With `{veth}` where the pod's device goes. */
  readonly sysctls: readonly SysctlPlan[];
  readonly list: readonly Pod[];
}

/** The families that a plan is for. */
export function familiesOf(plan: Pick<RedirectionPlan, 'families'>): readonly IpFamily[] {
  return plan.families ?? [4];
}

/** The side of a role. */
export function sideOf(plan: RedirectionPlan, role: Role): SidePlan | undefined {
  return plan.sides.find((side) => side.role === role);
}

/** That of the two addresses which is of this family. */
export function addressIn(
  family: IpFamily,
  where: { readonly ip?: string; readonly ip6?: string },
): string | undefined {
  return [where.ip, where.ip6].find((ip) => ip !== undefined && parseIp(ip).family === family);
}

/** Whether a condition is that an address is in a set. */
export function asksSet(match: Match): match is Extract<Match, { set: string }> {
  return 'set' in match;
}

/** The set that a condition means in this family. @param sets - those of the rule's side */
export function setIn(
  family: IpFamily,
  where: { readonly set?: string; readonly set6?: string },
  sets: readonly SetPlan[],
): SetPlan | undefined {
  return sets.find((set) => set.family === family && (set.name === where.set || set.name === where.set6));
}

/** Whether a rule is there in this family: every address and set that it speaks of has one. */
export function isRuleIn(family: IpFamily, rule: RulePlan, sets: readonly SetPlan[]): boolean {
  const { action } = rule;
  const addressed = 'ip' in action && action.ip !== undefined;
  if (addressed && addressIn(family, action) === undefined) return false;
  return rule.matches.every((match) => {
    if (match.on === 'source' || match.on === 'destination') return addressIn(family, match) !== undefined;
    return !asksSet(match) || setIn(family, match, sets) !== undefined;
  });
}

/** The set that a pod's address goes into, if the plan has one. */
export function podSet(plan: RedirectionPlan, pod: Pick<Pod, 'ip'>): SetPlan | undefined {
  const sets = sideOf(plan, plan.pods.role)?.sets ?? [];
  return setIn(parseIp(pod.ip).family, plan.pods, sets);
}

/** The route that carries traffic for `pod` to the proxy, if the plan has one. */
export function podRoute(plan: RedirectionPlan, pod: Pick<Pod, 'ip'>): Route | undefined {
  const { family } = parseIp(pod.ip);
  const route = family === 4 ? plan.pods.route : plan.pods.route6;
  return route === undefined ? undefined : { ...route, destination: `${pod.ip}/${family === 4 ? 32 : 128}` };
}

/** The kernel parameters that enrolling `pod` sets. A dot in a device's name is written as a slash, as sysctl(8) does. */
export function podSysctls(plan: RedirectionPlan, pod: Pod): SysctlPlan[] {
  const { veth } = pod;
  if (veth === undefined) return [];
  const device = veth.replaceAll('.', '/');
  return plan.pods.sysctls.map(({ name, value }) => ({ name: name.replace('{veth}', device), value }));
}
