import type { LinkAddress, Rule as PolicyRule, Route } from '../netlink/route/index.ts';

/** Bits of a packet's or connection's mark: those in `mask` are compared or written, and are `value`. */
export interface Mark {
  readonly value: number;
  readonly mask: number;
}

/** Where something of a plan belongs: a name for a network namespace, such as `node` and `ztunnel`. */
export type Role = string;

/**
 * A redirection as a value: everything that makes the kernel hand packets to a proxy. It says nothing of the program that will
 * carry it out; tables and chains are those that the seed articles and iptables know.
 */
export interface RedirectionPlan {
  /** Whose it is: the prefix of the tables it is kept in. A second plan of the same name in a namespace replaces the first. */
  readonly name: string;
  readonly links: readonly LinkPlan[];
  /** Carried out in this order, so the proxy's side comes before the one that sends packets to it. */
  readonly sides: readonly SidePlan[];
  readonly pods: PodsPlan;
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
}

/** A kernel parameter, spelled as sysctl(8) has it. */
export interface SysctlPlan {
  readonly name: string;
  readonly value: string;
}

/** A set of addresses; its members are the plan's pods. */
export interface SetPlan {
  readonly name: string;
  readonly family: 4 | 6;
}

/** A chain that the kernel calls at a hook. */
export interface ChainPlan {
  readonly name: string;
  readonly table: 'mangle' | 'nat' | 'filter';
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
  /**
   * `before-others`: ahead of the chains that other programs have in this table, kube-proxy's above all (trap 9). `after-nat`: a mangle
   * chain of output that sees the destination which NAT left (traps 1 and 2). `beside-others`: wherever the table's own place is.
   */
  readonly place: 'before-others' | 'beside-others' | 'after-nat';
  readonly rules: readonly RulePlan[];
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

/** A condition. `not` turns it around. */
export type Match =
  | { readonly on: 'in-interface'; readonly name: string; readonly not?: boolean }
  | ({ readonly on: 'mark' } & Mark)
  | ({ readonly on: 'connmark' } & Mark)
  | { readonly on: 'protocol'; readonly protocol: 'tcp' | 'udp'; readonly destinationPort?: number }
  | { readonly on: 'source' | 'destination'; readonly ip: string; readonly not?: boolean }
  | { readonly on: 'source-set' | 'destination-set'; readonly set: string }
  /** The source address is one of this namespace's own. */
  | { readonly on: 'source-local' };

/** What is done. Actions other than the marks end the chain for the packet. */
export type Action =
  /** iptables' `--set-xmark value/mask`. Goes on with the next rule. */
  | ({ readonly do: 'mark' } & Mark)
  /** Copies the bits of `mask`, which the rule has just matched, from the packet's mark to the connection's. Goes on. */
  | { readonly do: 'save-mark'; readonly mask: number }
  | { readonly do: 'return' }
  | { readonly do: 'accept' }
  | { readonly do: 'drop' }
  /** In a nat chain: the flow keeps its destination (prerouting) or source (postrouting), whatever later nat chains would say. */
  | { readonly do: 'no-nat' }
  | { readonly do: 'dnat'; readonly ip: string; readonly port: number }
  /** To a transparent socket; `otherwise` says what happens where none listens: iptables drops. */
  | {
      readonly do: 'tproxy';
      readonly ip: string;
      readonly port: number;
      readonly mark: Mark;
      readonly otherwise: 'drop' | 'next-rule';
    };

/** A pod whose traffic goes by the proxy. */
export interface Pod {
  readonly ip: string;
  /** The node's end of its cable. */
  readonly veth: string;
  /** Who it is, for whoever lists the set: at most 127 bytes, a pod UID in Istio. */
  readonly comment?: string;
}

/** The pods of a plan, and what each of them adds to it. */
export interface PodsPlan {
  readonly role: Role;
  /** Name of a set of that side. */
  readonly set: string;
  /** To each pod's address, so without a destination. */
  readonly route: Omit<Route, 'destination'>;
  /** With `{veth}` where the pod's device goes. */
  readonly sysctls: readonly SysctlPlan[];
  /** What connections get that were open before their pod was enrolled, so that they go on undisturbed (trap 3); nothing if left out. */
  readonly spare?: Mark;
  readonly list: readonly Pod[];
}

/** The side of a role. */
export function sideOf(plan: RedirectionPlan, role: Role): SidePlan | undefined {
  return plan.sides.find((side) => side.role === role);
}

/** The route that carries traffic for `pod` to the proxy. */
export function podRoute(plan: RedirectionPlan, pod: Pod): Route {
  return { ...plan.pods.route, destination: `${pod.ip}/32` };
}

/** The kernel parameters that enrolling `pod` sets. A dot in a device's name is written as a slash, as sysctl(8) does. */
export function podSysctls(plan: RedirectionPlan, pod: Pod): SysctlPlan[] {
  const veth = pod.veth.replaceAll('.', '/');
  return plan.pods.sysctls.map(({ name, value }) => ({ name: name.replace('{veth}', veth), value }));
}
