import {
  type Chain,
  type InstalledRule,
  listChains,
  listElements,
  listRules,
  listSets,
  listTables,
  type NamedSet,
  type Rule,
  type Table,
} from '../netlink/nftables/index.ts';
import type { Place } from './kernel.ts';
import { type RedirectionPlan, type Role, sideOf } from './plan.ts';
import { elementsOf, type NftablesRuleset, nftablesRuleset, ownedTables, ruleIdOf } from './render-nftables.ts';
import { ruleText } from './render-text.ts';
import type { Difference } from './verify-difference.ts';
import { meaningOf, sameMeaning } from './verify-meaning.ts';

/** How many members of a set are named one by one; the others are counted. */
const NAMED_MEMBERS = 20;

/** Compares a side's tables, sets, chains and rules with the kernel's, rules by what they mean. */
export function verifyRules(plan: RedirectionPlan, { role, netfilter }: Place): Difference[] {
  const ruleset = nftablesRuleset(plan, role);
  const present = new Map(listTables(netfilter).map((table) => [keyOf(table), table]));
  const wanted = new Set(ruleset.tables.map(keyOf));
  const differences: Difference[] = [];
  for (const table of ownedTables(plan)) {
    if (!wanted.has(keyOf(table))) {
      if (present.has(keyOf(table))) differences.push(difference('stray', role, 'table', keyOf(table)));
      continue;
    }
    if (!present.has(keyOf(table))) {
      differences.push(difference('missing', role, 'table', keyOf(table), 'with all of its rules'));
      continue;
    }
    if (present.get(keyOf(table))?.dormant) {
      differences.push(difference('changed', role, 'table', keyOf(table), 'is dormant: no packet meets its rules'));
    }
    const there = {
      sets: listSets(netfilter, table),
      chains: listChains(netfilter, table),
      rules: listRules(netfilter, table),
    };
    for (const set of ruleset.sets) {
      if (keyOf(set.table) !== keyOf(table)) continue;
      const found = there.sets.find(({ name }) => name === set.name);
      const members = () => new Set(listElements(netfilter, set).map(({ key }) => key));
      differences.push(...verifySet(plan, role, set, found, members));
    }
    differences.push(...verifyChains(plan, role, ruleset, table, there));
  }
  return differences;
}

/** `ip ztunnel-mangle` */
function keyOf({ family, name }: Table): string {
  return `${family} ${name}`;
}

function verifySet(
  plan: RedirectionPlan,
  role: Role,
  set: NamedSet,
  found: NamedSet | undefined,
  members: () => Set<string>,
): Difference[] {
  const name = `${keyOf(set.table)} ${set.name}`;
  if (found === undefined) return [difference('missing', role, 'set', name)];
  if (found.keyType !== set.keyType) {
    return [difference('changed', role, 'set', name, `holds ${found.keyType}, not ${set.keyType}`)];
  }
  if (plan.pods.role !== role || (set.name !== plan.pods.set && set.name !== plan.pods.set6)) return [];
  const there = members();
  const missing = elementsOf(plan, role, set.name).flatMap(({ key }) => (there.delete(key) ? [] : [key]));
  return [
    ...membersText('missing', missing, `is not in ${name}: its connections go past the proxy`),
    ...membersText('stray', [...there], `is in ${name}, and no pod of the plan`),
  ].map(({ kind, member, detail }) => difference(kind, role, 'member', member, detail));
}

function membersText(kind: 'missing' | 'stray', members: readonly string[], detail: string) {
  const named = members.slice(0, NAMED_MEMBERS).map((member) => ({ kind, member, detail }));
  const more = members.length - named.length;
  return more === 0 ? named : [...named, { kind, member: `and ${more} more`, detail }];
}

function verifyChains(
  plan: RedirectionPlan,
  role: Role,
  ruleset: NftablesRuleset,
  table: Table,
  there: { readonly chains: readonly Chain[]; readonly rules: readonly InstalledRule[] },
): Difference[] {
  const differences: Difference[] = [];
  const wanted = ruleset.chains.filter((chain) => keyOf(chain.table) === keyOf(table));
  const texts = ruleTexts(plan, role);
  for (const chain of wanted) {
    const name = `${keyOf(table)} ${chain.name}`;
    const found = there.chains.find((other) => other.name === chain.name);
    if (found === undefined) {
      differences.push(difference('missing', role, 'chain', name, 'with all of its rules'));
      continue;
    }
    const base = baseText(found);
    if (base !== baseText(chain)) {
      differences.push(difference('changed', role, 'chain', name, `is ${base}, not ${baseText(chain)}`));
    }
    const expected = ruleset.rules.filter((rule) => keyOf(rule.table) === keyOf(table) && rule.chain === chain.name);
    const installed = there.rules.filter((rule) => rule.chain === chain.name);
    differences.push(...verifyChain(role, name, expected, installed, texts));
  }
  for (const chain of there.chains) {
    if (wanted.some(({ name }) => name === chain.name)) continue;
    differences.push(difference('stray', role, 'chain', `${keyOf(table)} ${chain.name}`));
  }
  return differences;
}

/** One pass: each installed rule is the expected one of its comment, or of its meaning where it has none, or somebody else's. */
function verifyChain(
  role: Role,
  chain: string,
  expected: readonly Rule[],
  installed: readonly InstalledRule[],
  texts: ReadonlyMap<string, string>,
): Difference[] {
  const meanings = installed.map(({ expressions }) => meaningOf(expressions));
  const byComment = new Map<string, number>();
  for (const [at, { comment }] of installed.entries()) {
    if (comment !== undefined && !byComment.has(comment)) byComment.set(comment, at);
  }
  const taken = new Set<number>();
  const differences: Difference[] = [];
  let last = -1;
  for (const rule of expected) {
    const id = rule.comment ?? '';
    const meaning = meaningOf(rule.expressions);
    let at = byComment.get(id);
    if (at === undefined || taken.has(at)) {
      at = meanings.findIndex((other, i) => !taken.has(i) && sameMeaning(other, meaning));
    }
    if (at === -1) {
      const what = texts.get(ruleIdOf(id).id) ?? '';
      differences.push(difference('missing', role, 'rule', id, `in ${chain}: ${what}`));
      continue;
    }
    taken.add(at);
    if (!sameMeaning(meanings[at]!, meaning)) {
      const what = texts.get(ruleIdOf(id).id) ?? '';
      differences.push(difference('changed', role, 'rule', id, `in ${chain}: does not do "${what}" any more`));
    } else if (at < last) {
      differences.push(
        difference('changed', role, 'rule', id, `in ${chain}: comes before a rule that it has to follow`),
      );
    }
    last = Math.max(last, at);
  }
  for (const [at, rule] of installed.entries()) {
    if (taken.has(at)) continue;
    const kind = at < last ? 'in-front' : 'stray';
    const name = `${chain} handle ${rule.handle}${rule.comment === undefined ? '' : ` "${rule.comment}"`}`;
    differences.push(
      difference(kind, role, 'rule', name, [...meanings[at]!.conditions, ...meanings[at]!.actions].join(', ')),
    );
  }
  return differences;
}

function ruleTexts(plan: RedirectionPlan, role: Role): Map<string, string> {
  const chains = sideOf(plan, role)?.chains ?? [];
  return new Map(chains.flatMap(({ rules }) => rules.map((rule) => [rule.id, ruleText(rule)] as const)));
}

function baseText({ base }: Chain): string {
  if (base === undefined) return 'called by other chains only';
  return `${base.type} at ${base.hook}, priority ${base.priority}, policy ${base.policy}`;
}

function difference(
  kind: Difference['kind'],
  role: Role,
  what: Difference['what'],
  name: string,
  detail = '',
): Difference {
  return { kind, role, what, name, detail };
}
