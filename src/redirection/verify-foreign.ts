import { readFileSync } from 'node:fs';
import { AttributeReader } from '../netlink/index.ts';
import {
  type Chain,
  type Expression,
  listChains,
  listRules,
  listTables,
  type Rule,
  type Table,
} from '../netlink/nftables/index.ts';
import { decodeLegacyTable, isLegacy } from '../netlink/nftables/legacy-table.ts';
import { readLegacyTable } from '../netlink/nftables/read-legacy-tables.ts';
import { listRules as listPolicyRules, type Rule as PolicyRule } from '../netlink/route/index.ts';
import { samePolicyRule } from './apply-routes.ts';
import type { Place } from './kernel.ts';
import { type RedirectionPlan, type Role, type SidePlan, sideOf } from './plan.ts';
import { nftablesRuleset, ownedTables } from './render-nftables.ts';
import { policyRuleText } from './render-text.ts';
import type { Difference } from './verify-difference.ts';

const NFT_META_MARK = 3;
const NFT_CT_MARK = 3;
const NFT_REG_VERDICT = 0;
// enum nft_target_attributes of <linux/netfilter/nf_tables_compat.h>
const NFTA_TARGET_NAME = 1;
const NFTA_TARGET_INFO = 3;
const ALL_BITS = 0xffffffff;
// <linux/netfilter/xt_connmark.h>
const XT_CONNMARK_SET = 0;
const XT_CONNMARK_RESTORE = 2;
const XT_NAT_TARGETS = new Set(['DNAT', 'SNAT', 'MASQUERADE', 'REDIRECT', 'NETMAP']);
/** Which tables of iptables-legacy there are is in these files of /proc/net. */
const LEGACY_TABLES = [
  [4, 'iptables', 'ip_tables_names'],
  [6, 'ip6tables', 'ip6_tables_names'],
] as const;
/** How iptables-nft names its tables. */
const IPTABLES_TABLES = new Set(['raw', 'mangle', 'nat', 'filter', 'security']);

/** Whether `rule` of another program can decide before ours do, given that its chain runs first; in a few words why, else nothing. */
function interference(rule: Rule, kind: 'nat' | 'marks', ourBits: number): string | undefined {
  const bits = new Map<number, number>();
  for (const expression of rule.expressions) {
    if (expression.type === 'bitwise') {
      const mask = wordOf(expression.mask);
      bits.set(expression.dreg, (~mask | wordOf(expression.xor)) >>> 0);
    } else if ('dreg' in expression && typeof expression.dreg === 'number') bits.set(expression.dreg, ALL_BITS);
    const why =
      kind === 'nat' ? natOf(expression) : marksOf(expression, (register) => bits.get(register) ?? ALL_BITS, ourBits);
    if (why !== undefined) return why;
  }
  return undefined;
}

function natOf(expression: Expression): string | undefined {
  if (expression.type === 'nat') return `${expression.kind} settles the flow before the plan does`;
  if (expression.type === 'redirect' || expression.type === 'masquerade') {
    return `${expression.type} settles the flow before the plan does`;
  }
  const target = xtTarget(expression)?.name;
  return target !== undefined && XT_NAT_TARGETS.has(target)
    ? `${target} settles the flow before the plan does`
    : undefined;
}

function marksOf(expression: Expression, changed: (register: number) => number, ourBits: number): string | undefined {
  if (expression.type === 'tproxy') return 'tproxy takes packets before the plan does';
  const isMark = expression.type === 'meta' && 'sreg' in expression && expression.key === NFT_META_MARK;
  const isConnmark = expression.type === 'ct' && 'sreg' in expression && expression.key === NFT_CT_MARK;
  if (isMark || isConnmark) {
    const hit = (changed(expression.sreg) & ourBits) >>> 0;
    return hit === 0
      ? undefined
      : `writes ${isMark ? 'mark' : 'connmark'} bits 0x${hit.toString(16)}, which are the plan’s`;
  }
  const target = xtTarget(expression);
  if (target === undefined) return undefined;
  if (target.name === 'TPROXY') return 'TPROXY takes packets before the plan does';
  const hit = (xtMarkBits(target) & ourBits) >>> 0;
  return hit === 0 ? undefined : `${target.name} writes bits 0x${hit.toString(16)}, which are the plan’s`;
}

/** Which bits of a mark, the packet's or the connection's, a target changes. */
function xtMarkBits({ name, info }: { readonly name: string; readonly info: Buffer }): number {
  // struct xt_mark_tginfo2: value, then the bits that are changed.
  if (name === 'MARK' && info.length >= 8) return info.readUInt32LE(0) | info.readUInt32LE(4);
  // struct xt_connmark_tginfo1: ctmark, ctmask, nfmask, mode; to restore is to write the packet's mark.
  if (name !== 'CONNMARK' || info.length < 13) return 0;
  if (info[12] === XT_CONNMARK_RESTORE) return info.readUInt32LE(8);
  return info[12] === XT_CONNMARK_SET ? info.readUInt32LE(0) | info.readUInt32LE(4) : info.readUInt32LE(4);
}

/** The xtables target that iptables-nft has wrapped in an expression. */
function xtTarget(expression: Expression): { readonly name: string; readonly info: Buffer } | undefined {
  if (expression.type !== 'opaque' || expression.name !== 'target') return undefined;
  const data = Buffer.from(expression.data);
  const reader = new AttributeReader(data, 0);
  let name = '';
  let info: Buffer = Buffer.alloc(0);
  while (reader.next()) {
    if (reader.type === NFTA_TARGET_NAME) name = reader.string();
    else if (reader.type === NFTA_TARGET_INFO) info = Buffer.from(reader.bytes());
  }
  return { name, info };
}

function wordOf(bytes: Uint8Array): number {
  return bytes.length < 4 ? 0 : Buffer.from(bytes).readUInt32LE(0);
}

/** Every bit of a mark that a side's rules and policy rules read or write. */
function markBits(side: SidePlan | undefined): number {
  let bits = 0;
  for (const { fwmark, fwmask = ALL_BITS } of side?.policyRules ?? []) if (fwmark !== undefined) bits |= fwmask;
  for (const { matches, action } of side?.chains.flatMap(({ rules }) => rules) ?? []) {
    for (const match of matches) if (match.on === 'mark' || match.on === 'connmark') bits |= match.mask;
    if (action.do === 'mark' || action.do === 'connmark') bits |= action.mask;
    else if (action.do === 'tproxy') bits |= action.mark.mask;
  }
  return bits >>> 0;
}

/**
 * Chains of other programs that meet a packet before the plan's, and hold a rule that settles what the plan is to settle (trap 9):
 * those of nftables, of iptables-nft and of iptables-legacy. At the same priority the kernel calls the chain first that was
 * registered last, which nobody can read back: such a chain counts as in front, since it may be.
 *
 * @returns what is in front; and in words what cannot be judged, or not be helped
 */
export function foreignChains(plan: RedirectionPlan, place: Place): { differences: Difference[]; notes: string[] } {
  const { role } = place;
  const { chains: ours } = nftablesRuleset(plan, role);
  const ourBits = markBits(sideOf(plan, role));
  const differences: Difference[] = [];
  const { tables, unread } = foreignTables(plan, place);
  for (const { table, chains, rules } of tables) {
    const ahead = chains.flatMap((chain) => {
      const behind = ours.find((our) => isAhead(chain, our));
      return behind === undefined ? [] : [{ chain, behind }];
    });
    if (ahead.length === 0) continue;
    const rulesOf = Map.groupBy(rules(), ({ chain }) => chain);
    const called = chains.flatMap(({ name, base }) => (base === undefined ? [name] : []));
    for (const { chain, behind } of ahead) {
      const kind = behind.base?.type === 'nat' ? 'nat' : 'marks';
      const found = firstInterference(chain.name, { rulesOf, called }, kind, ourBits);
      if (found === undefined) continue;
      differences.push(inFront(role, table, chain, behind, found));
    }
  }
  const notes = unread.map(
    (table) => `${role}: ${table} could not be read: whether one of its rules stands in front is not known`,
  );
  if (ours.some(({ table }) => table.name.endsWith('-filter'))) notes.push(...droppingPolicies(role, tables));
  return { differences, notes };
}

/** An accept of the plan does not overrule them. */
function droppingPolicies(role: Role, tables: readonly ForeignTable[]): string[] {
  return tables.flatMap(({ table, chains }) =>
    chains
      .filter(({ base }) => base?.hook === 'forward' && base.policy === 'drop')
      .map(
        ({ name }) =>
          `${role}: ${keyOf(table)} ${name} drops what it does not accept itself: traffic of pods needs a rule there, both ways`,
      ),
  );
}

interface ForeignTable {
  readonly table: Table;
  readonly chains: readonly Chain[];
  /** Read where they are needed only: kube-proxy has thousands. */
  readonly rules: () => readonly Rule[];
}

function foreignTables(plan: RedirectionPlan, { namespace, netfilter }: Place) {
  const owned = new Set(ownedTables(plan).map(keyOf));
  const tables: ForeignTable[] = listTables(netfilter)
    .filter((table) => !table.dormant && !owned.has(keyOf(table)))
    .map((table) => ({ table, chains: listChains(netfilter, table), rules: () => listRules(netfilter, table) }));
  const unread: string[] = [];
  namespace.run(() => {
    for (const [family, tool, file] of LEGACY_TABLES) {
      for (const name of readNames(`/proc/thread-self/net/${file}`)) {
        const read = readLegacyTable(family, name);
        if (read === undefined) unread.push(`${tool}-legacy -t ${name}`);
        else {
          const { chains, rules } = decodeLegacyTable(read);
          if (chains[0] !== undefined) tables.push({ table: chains[0].table, chains, rules: () => rules });
        }
      }
    }
  });
  return { tables, unread };
}

function inFront(role: Role, table: Table, chain: Chain, behind: Chain, found: Found): Difference {
  const by = isLegacy(table) ? ' of iptables-legacy' : isOfIptables(table) ? ' of iptables-nft' : '';
  const order =
    chain.base?.priority === behind.base?.priority
      ? `has priority ${chain.base?.priority} as ${behind.name} has, and may come first`
      : `comes before ${behind.name} (priority ${chain.base?.priority}, not ${behind.base?.priority})`;
  return {
    kind: 'in-front',
    role,
    what: 'chain',
    name: `${keyOf(table)} ${chain.name}`,
    detail: `this chain${by} ${order}; in ${found.chain}: ${found.why}`,
  };
}

function isOfIptables({ family, name }: Table): boolean {
  return (family === 'ip' || family === 'ip6') && IPTABLES_TABLES.has(name);
}

function isAhead({ table, base }: Chain, our: Chain): boolean {
  if (table.family !== our.table.family && table.family !== 'inet') return false;
  if (base === undefined || our.base === undefined || base.hook !== our.base.hook) return false;
  const same = (base.type === 'nat') === (our.base.type === 'nat');
  return same && base.priority <= our.base.priority;
}

interface Found {
  readonly chain: string;
  readonly why: string;
}

interface Within {
  readonly rulesOf: ReadonlyMap<string, readonly Rule[]>;
  /** Chains that no hook calls. */
  readonly called: readonly string[];
}

/** Follows jumps, each chain once. Where a verdict map jumps, as kube-proxy's does, to every chain that can be jumped to. */
function firstInterference(
  start: string,
  { rulesOf, called }: Within,
  kind: 'nat' | 'marks',
  ourBits: number,
): Found | undefined {
  const seen = new Set([start]);
  for (const chain of seen) {
    for (const rule of rulesOf.get(chain) ?? []) {
      const why = interference(rule, kind, ourBits);
      if (why !== undefined) return { chain, why };
      for (const expression of rule.expressions) {
        // A set grows while it is walked, and the walk meets what was added.
        if (expression.type === 'immediate' && 'verdict' in expression && 'chain' in expression.verdict) {
          seen.add(expression.verdict.chain);
        } else if (expression.type === 'lookup' && expression.dreg === NFT_REG_VERDICT) {
          for (const name of called) seen.add(name);
        }
      }
    }
  }
  return undefined;
}

/** Policy rules of others that are asked before the last of the plan's: of one priority the kernel asks the older first. */
export function foreignPolicyRules(side: SidePlan, { role, route }: Place): Difference[] {
  const differences: Difference[] = [];
  for (const family of [4, 6] as const) {
    const ours = side.policyRules.filter((rule) => rule.family === family);
    if (ours.length === 0) continue;
    const listed = listPolicyRules(route, { family });
    const isOurs = (rule: PolicyRule) => ours.some((our) => samePolicyRule(rule, our));
    const last = Math.max(...ours.map(({ priority }) => priority ?? 0));
    // Where the plan's own is gone, it would come back behind the others of its priority.
    const end = listed.findLastIndex((rule) => rule.priority === last && isOurs(rule));
    for (const rule of end === -1 ? listed.filter(({ priority }) => priority <= last) : listed.slice(0, end)) {
      if (isLocal(rule) || isOurs(rule)) continue;
      const detail = `is asked before ${last}, and what it routes the plan does not`;
      differences.push({ kind: 'in-front', role, what: 'policy-rule', name: policyRuleText(rule), detail });
    }
  }
  return differences;
}

/** The kernel's own first rule. */
function isLocal({ priority, table, fwmark }: PolicyRule): boolean {
  return priority === 0 && table === 255 && fwmark === undefined;
}

function readNames(path: string): string[] {
  try {
    return readFileSync(path, 'latin1').split('\n').filter(Boolean);
  } catch {
    // No such backend, or hidden from us.
    return [];
  }
}

function keyOf({ family, name }: Table): string {
  return `${family} ${name}`;
}
