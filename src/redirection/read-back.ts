import type { Netlink } from '../netlink/index.ts';
import { listElements, listRules, type NamedSet, ruleCounter } from '../netlink/nftables/index.ts';
import { Kernel, type Namespaces, rolesOf } from './kernel.ts';
import type { ChainPlan, RedirectionPlan, Role, RulePlan } from './plan.ts';
import { nftablesRuleset, ruleIdOf } from './render-nftables.ts';
import { ruleText } from './render-text.ts';

/** What the kernel has counted for one rule of a plan. */
export interface RuleCount {
  readonly role: Role;
  readonly id: string;
  readonly table: ChainPlan['table'];
  readonly chain: string;
  /** The rule for a person; its counts are of both families together. */
  readonly text: string;
  /** Packets that met all of the rule's conditions, since it was put in force. */
  readonly packets: number;
  readonly bytes: number;
  /** Of a tproxy rule: those that found no listener, and were dropped. They are counted in `packets` too. */
  readonly dropped: number;
  /** False where the kernel has no such rule any more. */
  readonly installed: boolean;
}

/** A redirection as the kernel has it. */
export interface ReadBack {
  /** In the order of the plan. */
  readonly rules: readonly RuleCount[];
  /** Members of the plan's set of pods, sorted as text. */
  readonly pods: readonly string[];
}

/** Reads counters and set members of a plan, whoever put it in force. A role without a namespace counts as not installed. */
export function readBack(plan: RedirectionPlan, namespaces: Namespaces): ReadBack {
  using kernel = new Kernel(namespaces, rolesOf(plan));
  return readBackFrom(plan, kernel);
}

/** As {@link readBack}, by sockets that are open. */
export function readBackFrom(plan: RedirectionPlan, kernel: Kernel): ReadBack {
  const rules: RuleCount[] = [];
  let pods: readonly string[] = [];
  for (const side of plan.sides) {
    const ruleset = nftablesRuleset(plan, side.role);
    const netlink = kernel.find(side.role)?.netfilter;
    const counted = new Map<string, Tally>();
    if (netlink !== undefined) {
      for (const rule of ruleset.tables.flatMap((table) => listRules(netlink, table))) {
        if (rule.comment !== undefined) tally(counted, rule.comment, ruleCounter(rule));
      }
      if (plan.pods.role === side.role) pods = podsIn(netlink, plan, ruleset.sets);
    }
    for (const chain of side.chains) {
      for (const rule of chain.rules) rules.push(count(side.role, chain, rule, counted.get(rule.id)));
    }
  }
  return { rules, pods };
}

/** Each family's set is read once, whichever of the tables that have it. */
function podsIn(netlink: Netlink, { pods }: RedirectionPlan, sets: readonly NamedSet[]): string[] {
  return [pods.set, pods.set6]
    .flatMap((name) => {
      const set = sets.find((candidate) => candidate.name === name);
      return set === undefined ? [] : members(() => listElements(netlink, set));
    })
    .sort();
}

/** How much each rule counted between two readings, for those that counted anything: which rules a packet visited. */
export function countsBetween(before: ReadBack, after: ReadBack): RuleCount[] {
  const earlier = new Map(before.rules.map((rule) => [`${rule.role} ${rule.id}`, rule]));
  return after.rules
    .map((rule) => {
      const { packets = 0, bytes = 0, dropped = 0 } = earlier.get(`${rule.role} ${rule.id}`) ?? {};
      return {
        ...rule,
        packets: rule.packets - packets,
        bytes: rule.bytes - bytes,
        dropped: rule.dropped - dropped,
      };
    })
    .filter(({ packets }) => packets > 0);
}

interface Tally {
  packets: number;
  bytes: number;
  dropped: number;
}

function tally(
  counted: Map<string, Tally>,
  comment: string,
  counter: { packets: number; bytes: number } | undefined,
): void {
  const { id, isDrop } = ruleIdOf(comment);
  const entry = counted.get(id) ?? { packets: 0, bytes: 0, dropped: 0 };
  if (isDrop) entry.dropped += counter?.packets ?? 0;
  else {
    entry.packets += counter?.packets ?? 0;
    entry.bytes += counter?.bytes ?? 0;
  }
  counted.set(id, entry);
}

function count(role: Role, { table, name }: ChainPlan, rule: RulePlan, tallied: Tally | undefined): RuleCount {
  const { packets = 0, bytes = 0, dropped = 0 } = tallied ?? {};
  const installed = tallied !== undefined;
  return { role, id: rule.id, table, chain: name, text: ruleText(rule), packets, bytes, dropped, installed };
}

function members(list: () => { readonly key: string }[]): string[] {
  try {
    return list().map(({ key }) => key);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return [];
    throw error;
  }
}
