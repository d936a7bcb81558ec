import {
  Batch,
  type Chain,
  type Expression,
  match,
  type NamedSet,
  NF_IP_PRI_FILTER,
  NF_IP_PRI_MANGLE,
  NF_IP_PRI_NAT_DST,
  NF_IP_PRI_NAT_SRC,
  type Rule,
  statement,
  type Table,
} from '../netlink/nftables/index.ts';
import { invalid } from './error.ts';
import {
  type Action,
  type ChainPlan,
  type Match,
  type RedirectionPlan,
  type Role,
  type RulePlan,
  sideOf,
} from './plan.ts';

/** A side of a plan in nftables' terms. */
export interface NftablesRuleset {
  /** One for each table kind of the plan: `ip ztunnel-mangle`, `ip ztunnel-nat`, … */
  readonly tables: readonly Table[];
  /** In nftables a set belongs to a table, so one that rules of two tables use is there twice, changed in one transaction. */
  readonly sets: readonly NamedSet[];
  readonly chains: readonly Chain[];
  readonly rules: readonly Rule[];
}

/** A listener that is gone: see {@link nftablesRuleset}. */
const DROP_SUFFIX = ' no-listener';
const tableKinds = ['mangle', 'nat', 'filter'] as const;

/**
 * What a side is in nftables. A rule of the plan becomes one rule, its id the comment, with a counter between conditions and
 * action; a tproxy that drops otherwise becomes two, the second with the comment `<id> no-listener`.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` where a rule cannot be said in nftables
 */
export function nftablesRuleset(plan: RedirectionPlan, role: Role): NftablesRuleset {
  const side = sideOf(plan, role);
  const chains: Chain[] = [];
  const rules: Rule[] = [];
  const sets: NamedSet[] = [];
  const ids = new Set<string>();
  for (const chainPlan of side?.chains ?? []) {
    const table = tableOf(plan, chainPlan.table);
    const { name } = chainPlan;
    if (chains.some((chain) => chain.name === name && chain.table.name === table.name)) {
      throw invalid('renderNftables', `${role}.chains`, `${chainPlan.table} ${name} is there twice`);
    }
    chains.push({ table, name, base: baseOf(chainPlan) });
    for (const rule of chainPlan.rules) {
      if (ids.has(rule.id)) throw invalid('renderNftables', `${role}.chains`, `the id ${rule.id} is there twice`);
      ids.add(rule.id);
      for (const rendered of renderRule(rule, chainPlan)) rules.push({ table, chain: name, ...rendered });
      for (const used of setsOf(rule)) {
        const set = side?.sets.find(({ name }) => name === used);
        if (set === undefined) throw invalid('renderNftables', `${rule.id}.matches`, `there is no set ${used}`);
        if (sets.some((known) => known.name === used && known.table.name === table.name)) continue;
        sets.push({ table, name: used, keyType: set.family === 4 ? 'ipv4_addr' : 'ipv6_addr' });
      }
    }
  }
  const kinds = new Set(chains.map((chain) => chain.table.name));
  return { tables: ownedTables(plan).filter(({ name }) => kinds.has(name)), sets, chains, rules };
}

/** Every table that a plan of this name may have, whether or not it needs it now. */
export function ownedTables(plan: Pick<RedirectionPlan, 'name'>): Table[] {
  return tableKinds.map((kind) => tableOf(plan, kind));
}

/**
 * A side of a plan as one transaction: what an earlier plan of this name left is replaced, and no packet meets a part of either.
 * Counters start at zero.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` where a rule cannot be said in nftables
 */
export function renderNftables(plan: RedirectionPlan, role: Role): Batch {
  const { tables, sets, chains, rules } = nftablesRuleset(plan, role);
  const batch = new Batch();
  for (const table of ownedTables(plan)) batch.destroyTable(table);
  for (const table of tables) batch.addTable(table);
  for (const set of sets) {
    batch.addSet(set);
    if (plan.pods.role !== role || plan.pods.set !== set.name) continue;
    batch.addElements(
      set,
      plan.pods.list.map(({ ip, comment }) => (comment === undefined ? { key: ip } : { key: ip, comment })),
    );
  }
  for (const chain of chains) batch.addChain(chain);
  for (const rule of rules) batch.addRule(rule);
  return batch;
}

/** The plan's rule that a rule in the kernel belongs to, by its comment, and whether it is the drop behind a tproxy. */
export function ruleIdOf(comment: string): { readonly id: string; readonly isDrop: boolean } {
  const isDrop = comment.endsWith(DROP_SUFFIX);
  return { id: isDrop ? comment.slice(0, -DROP_SUFFIX.length) : comment, isDrop };
}

function tableOf(plan: Pick<RedirectionPlan, 'name'>, kind: ChainPlan['table']): Table {
  return { family: 'ip', name: `${plan.name}-${kind}` };
}

/** One before the usual place where nothing else may come first: kube-proxy and CNIs stand at the usual one. */
function baseOf({ table, hook, place }: ChainPlan): NonNullable<Chain['base']> {
  const policy = 'accept';
  const ahead = place === 'before-others' ? 1 : 0;
  if (table === 'nat') {
    const isSource = hook === 'postrouting' || hook === 'input';
    return { type: 'nat', hook, priority: (isSource ? NF_IP_PRI_NAT_SRC : NF_IP_PRI_NAT_DST) - ahead, policy };
  }
  if (table === 'filter') return { type: 'filter', hook, priority: NF_IP_PRI_FILTER - ahead, policy };
  // A mark set in output counts for routing only if the chain has the packet routed again.
  if (hook === 'output') {
    const priority = place === 'after-nat' ? NF_IP_PRI_NAT_DST + 10 : NF_IP_PRI_MANGLE;
    return { type: 'route', hook, priority, policy };
  }
  return { type: 'filter', hook, priority: NF_IP_PRI_MANGLE, policy };
}

function renderRule(rule: RulePlan, chain: ChainPlan): { expressions: Expression[]; comment: string }[] {
  const conditions = [...rule.matches.flatMap(renderMatch), ...statement.counter()];
  const rendered = [{ expressions: [...conditions, ...renderAction(rule, chain)], comment: rule.id }];
  if (rule.action.do === 'tproxy' && rule.action.otherwise === 'drop') {
    rendered.push({ expressions: [...conditions, ...statement.drop()], comment: rule.id + DROP_SUFFIX });
  }
  return rendered;
}

function renderMatch(condition: Match): Expression[] {
  switch (condition.on) {
    case 'in-interface':
      return match.iifname(condition.name, condition.not ? '!=' : '==');
    case 'mark':
      return match.mark(condition.value, condition.mask);
    case 'connmark':
      return match.ctMark(condition.value, condition.mask);
    case 'protocol':
      return condition.destinationPort === undefined
        ? match.l4proto(condition.protocol)
        : match.destinationPort(condition.protocol, condition.destinationPort);
    case 'source':
    case 'destination':
      return match[condition.on](condition.ip, condition.not ? '!=' : '==');
    case 'source-set':
      return match.sourceInSet(condition.set);
    case 'destination-set':
      return match.destinationInSet(condition.set);
    case 'source-local':
      return match.sourceIsLocal();
  }
}

function renderAction(rule: RulePlan, chain: ChainPlan): Expression[] {
  const { action } = rule;
  switch (action.do) {
    case 'mark':
      return statement.mark(action.value, action.mask);
    case 'save-mark':
      return statement.ctMark(savedValue(rule, action), action.mask);
    case 'return':
      return statement.return();
    case 'accept':
      return statement.accept();
    case 'drop':
      return statement.drop();
    case 'no-nat':
      return chain.hook === 'postrouting' ? statement.keepSource() : statement.keepDestination();
    case 'dnat':
      return statement.dnat(action.ip, action.port);
    case 'tproxy':
      return [
        ...statement.tproxy(action.ip, action.port),
        ...statement.mark(action.mark.value, action.mark.mask),
        ...statement.accept(),
      ];
  }
}

/** A save needs no second register: the rule has just tested the bits, so what they are is known (node mode, section 5). */
function savedValue(rule: RulePlan, action: Action & { do: 'save-mark' }): number {
  for (const condition of rule.matches) {
    if (condition.on === 'mark' && (condition.mask & action.mask) === action.mask) return condition.value & action.mask;
  }
  throw invalid('renderNftables', rule.id, 'a save-mark needs a mark match on all of the bits that it saves');
}

function setsOf(rule: RulePlan): string[] {
  return rule.matches.flatMap((condition) =>
    condition.on === 'source-set' || condition.on === 'destination-set' ? [condition.set] : [],
  );
}
