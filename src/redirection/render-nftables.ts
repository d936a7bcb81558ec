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
  NF_IP_PRI_RAW,
  type Rule,
  statement,
  type Table,
} from '../netlink/nftables/index.ts';
import { checkRules } from './check-rules.ts';
import { invalid } from './error.ts';
import {
  type Action,
  addressIn,
  asksSet,
  type ChainPlan,
  familiesOf,
  type IpFamily,
  isRuleIn,
  type Match,
  podSet,
  type RedirectionPlan,
  type Role,
  type RulePlan,
  type SetPlan,
  setIn,
  sideOf,
} from './plan.ts';

/** A side of a plan in nftables' terms. */
export interface NftablesRuleset {
  /** One for each family and table kind of the plan: `ip ztunnel-mangle`, `ip6 ztunnel-mangle`, … */
  readonly tables: readonly Table[];
  /** In nftables a set belongs to a table, so one that rules of two tables use is there twice, changed in one transaction. */
  readonly sets: readonly NamedSet[];
  readonly chains: readonly Chain[];
  readonly rules: readonly Rule[];
}

/** A listener that is gone: see {@link nftablesRuleset}. */
const DROP_SUFFIX = ' no-listener';
const tableKinds = ['raw', 'mangle', 'nat', 'filter'] as const;
const tableFamilies = ['ip', 'ip6'] as const;

/**
 * What a side is in nftables. A rule of the plan becomes one rule a family, its id the comment, with a counter between conditions
 * and action; a tproxy that drops otherwise becomes two, the second with the comment `<id> no-listener`.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` where a rule cannot be said in nftables
 */
export function nftablesRuleset(plan: RedirectionPlan, role: Role): NftablesRuleset {
  const side = sideOf(plan, role);
  if (side === undefined) return { tables: [], sets: [], chains: [], rules: [] };
  checkRules('renderNftables', plan, role);
  const chains: Chain[] = [];
  const rules: Rule[] = [];
  const sets = new Map<string, NamedSet>();
  for (const family of familiesOf(plan)) {
    for (const chainPlan of side.chains) {
      const table = tableOf(plan, family, chainPlan.table);
      const { name } = chainPlan;
      chains.push({ table, name, base: baseOf(chainPlan) });
      for (const rule of chainPlan.rules) {
        if (!isRuleIn(family, rule, side.sets)) continue;
        for (const rendered of renderRule(rule, { chain: chainPlan, family, sets: side.sets })) {
          rules.push({ table, chain: name, ...rendered });
        }
        for (const set of setsOf(rule, family, side.sets)) {
          const keyType = set.family === 4 ? 'ipv4_addr' : 'ipv6_addr';
          sets.set(`${table.family} ${table.name} ${set.name}`, { table, name: set.name, keyType });
        }
      }
    }
  }
  const used = new Set(chains.map(({ table }) => `${table.family} ${table.name}`));
  const tables = ownedTables(plan).filter(({ family, name }) => used.has(`${family} ${name}`));
  return { tables, sets: [...sets.values()], chains, rules };
}

/** Every table that a plan of this name may have, whether or not it needs it now. */
export function ownedTables(plan: Pick<RedirectionPlan, 'name'>): Table[] {
  return tableFamilies.flatMap((family) => tableKinds.map((kind) => ({ family, name: `${plan.name}-${kind}` })));
}

/**
 * A side of a plan as one transaction: what an earlier plan of this name left is replaced, and no packet meets a part of either.
 * Counters start at zero.
 *
 * @param earlier - the tables of an earlier plan; by default all that it may have had
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` where a rule cannot be said in nftables
 */
export function renderNftables(
  plan: RedirectionPlan,
  role: Role,
  earlier: readonly Table[] = ownedTables(plan),
): Batch {
  const { tables, sets, chains, rules } = nftablesRuleset(plan, role);
  const batch = new Batch();
  for (const table of earlier) batch.destroyTable(table);
  for (const table of tables) batch.addTable(table);
  for (const set of sets) batch.addSet(set).addElements(set, elementsOf(plan, role, set.name));
  for (const chain of chains) batch.addChain(chain);
  for (const rule of rules) batch.addRule(rule);
  return batch;
}

/** The members of a set of a side: the plan's pods of its family, or none. */
export function elementsOf(plan: RedirectionPlan, role: Role, set: string): { key: string; comment?: string }[] {
  if (plan.pods.role !== role || (set !== plan.pods.set && set !== plan.pods.set6)) return [];
  return plan.pods.list
    .filter((pod) => podSet(plan, pod)?.name === set)
    .map(({ ip, comment }) => (comment === undefined ? { key: ip } : { key: ip, comment }));
}

/** The plan's rule that a rule in the kernel belongs to, by its comment, and whether it is the drop behind a tproxy. */
export function ruleIdOf(comment: string): { readonly id: string; readonly isDrop: boolean } {
  const isDrop = comment.endsWith(DROP_SUFFIX);
  return { id: isDrop ? comment.slice(0, -DROP_SUFFIX.length) : comment, isDrop };
}

/** What a tproxy rule's drop is called in the kernel. */
export function dropComment(id: string): string {
  return id + DROP_SUFFIX;
}

/** The table of a plan for one family and kind. */
export function tableOf(plan: Pick<RedirectionPlan, 'name'>, family: IpFamily, kind: ChainPlan['table']): Table {
  return { family: family === 4 ? 'ip' : 'ip6', name: `${plan.name}-${kind}` };
}

/** One before the usual place where nothing else may come first: kube-proxy and CNIs stand at the usual one. */
export function baseOf({ table, hook, place }: ChainPlan): NonNullable<Chain['base']> {
  const policy = 'accept';
  const ahead = place === 'before-others' ? 1 : 0;
  if (table === 'nat') {
    const usual = isSourceNat({ hook }) ? NF_IP_PRI_NAT_SRC : NF_IP_PRI_NAT_DST;
    return { type: 'nat', hook, priority: usual - ahead, policy };
  }
  if (table === 'filter') return { type: 'filter', hook, priority: NF_IP_PRI_FILTER - ahead, policy };
  if (table === 'raw') return { type: 'filter', hook, priority: NF_IP_PRI_RAW, policy };
  // A mark set in output counts for routing only if the chain has the packet routed again.
  if (hook === 'output') {
    const priority = place === 'after-nat' ? NF_IP_PRI_NAT_DST + 10 : NF_IP_PRI_MANGLE;
    return { type: 'route', hook, priority, policy };
  }
  return { type: 'filter', hook, priority: NF_IP_PRI_MANGLE, policy };
}

/** Where a rule is rendered: families differ in addresses, hooks in what NAT is called. */
interface Surroundings {
  readonly chain: ChainPlan;
  readonly family: IpFamily;
  readonly sets: readonly SetPlan[];
}

function renderRule(rule: RulePlan, where: Surroundings): { expressions: Expression[]; comment: string }[] {
  const conditions = [...rule.matches.flatMap((match) => renderMatch(match, where)), ...statement.counter()];
  const rendered = [{ expressions: [...conditions, ...renderAction(rule, where)], comment: rule.id }];
  if (rule.action.do === 'tproxy' && rule.action.otherwise === 'drop') {
    rendered.push({ expressions: [...conditions, ...statement.drop()], comment: dropComment(rule.id) });
  }
  return rendered;
}

function renderMatch(condition: Match, { family, sets }: Surroundings): Expression[] {
  const comparison = 'not' in condition && condition.not ? '!=' : '==';
  switch (condition.on) {
    case 'in-interface':
      return match.iifname(condition.name, comparison);
    case 'out-interface':
      return match.oifname(condition.name, comparison);
    case 'mark':
      return match.mark(condition.value, condition.mask, comparison);
    case 'connmark':
      return match.ctMark(condition.value, condition.mask, comparison);
    case 'protocol': {
      const { protocol, destinationPort, sourcePort } = condition;
      if (destinationPort !== undefined) return match.destinationPort(protocol, destinationPort, comparison);
      if (sourcePort !== undefined) return match.sourcePort(protocol, sourcePort, comparison);
      return match.l4proto(protocol);
    }
    case 'source':
    case 'destination':
      return match[condition.on](addressIn(family, condition)!, comparison);
    case 'source-set':
      return match.sourceInSet(setIn(family, condition, sets)!.name, family);
    case 'destination-set':
      return match.destinationInSet(setIn(family, condition, sets)!.name, family);
    case 'original-source-set':
      return match.originalSourceInSet(setIn(family, condition, sets)!.name, family);
    case 'reply-source-set':
      return match.replySourceInSet(setIn(family, condition, sets)!.name, family);
    case 'tcp-syn':
      return match.tcpSyn();
    case 'source-local':
      return match.sourceIsLocal();
    case 'own-socket':
      return match.hasSocket();
    case 'established':
      return match.ctState('established', 'related');
  }
}

function renderAction(rule: RulePlan, { chain, family }: Surroundings): Expression[] {
  const { action } = rule;
  switch (action.do) {
    case 'mark':
      return statement.mark(action.value, action.mask);
    case 'connmark':
      return statement.ctMark(action.value, action.mask);
    case 'save-mark':
      return statement.ctMark(savedValue(rule, action), action.mask);
    case 'restore-mark':
      return statement.restoreMark();
    case 'zone':
      return statement.ctZone(action.zone);
    case 'return':
      return statement.return();
    case 'accept':
      return statement.accept();
    case 'drop':
      return statement.drop();
    case 'no-nat':
      return isSourceNat(chain) ? statement.keepSource(family) : statement.keepDestination(family);
    case 'redirect':
      return statement.redirect(action.port);
    case 'dnat':
      return statement.dnat(addressIn(family, action)!, action.port);
    case 'snat':
      return statement.snat(addressIn(family, action)!);
    case 'tproxy': {
      const ip = addressIn(family, action);
      return [
        ...(ip === undefined ? statement.tproxyPort(action.port, family) : statement.tproxy(ip, action.port)),
        ...statement.mark(action.mark.value, action.mark.mask),
        ...statement.accept(),
      ];
    }
  }
}

/** Whether NAT changes the source here, not the destination. */
export function isSourceNat({ hook }: Pick<ChainPlan, 'hook'>): boolean {
  return hook === 'postrouting' || hook === 'input';
}

/**
 * The bits that a save-mark writes. It needs no second register: the rule has just tested them, so what they are is known (node
 * mode, section 5).
 */
export function savedValue(rule: RulePlan, action: Action & { do: 'save-mark' }): number {
  for (const condition of rule.matches) {
    if (condition.on === 'mark' && !condition.not && (action.mask & ~condition.mask) === 0) {
      return (condition.value & action.mask) >>> 0;
    }
  }
  throw invalid('renderNftables', rule.id, 'a save-mark needs a mark match on all of the bits that it saves');
}

function setsOf(rule: RulePlan, family: IpFamily, sets: readonly SetPlan[]): SetPlan[] {
  return rule.matches.flatMap((condition) => (asksSet(condition) ? [setIn(family, condition, sets)!] : []));
}
