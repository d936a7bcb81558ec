/**
 * nftables without `nft`: tables, chains, named sets and rules as plain objects, one atomic transaction, and everything read back
 * with its counters.
 *
 * ```ts
 * import { openNetlink } from 'ambient-kit/netlink';
 * import { Batch, listRules, match, ruleCounter, statement } from 'ambient-kit/netlink/nftables';
 *
 * using netlink = openNetlink({ family: 'netfilter' });
 * const table = { family: 'ip', name: 'example' } as const;
 * new Batch()
 *   .addTable(table)
 *   .addChain({ table, name: 'in', base: { type: 'filter', hook: 'input', priority: 0, policy: 'accept' } })
 *   .addRule({ table, chain: 'in', expressions: [...match.destinationPort('tcp', 80), ...statement.counter()], comment: 'web' })
 *   .commit(netlink);
 * for (const rule of listRules(netlink, table)) console.log(rule.comment, ruleCounter(rule)?.packets);
 * ```
 *
 * @module netlink/nftables
 */

export { Batch, type BatchOptions } from './batch.ts';
export {
  type BaseChain,
  type Chain,
  type Hook,
  NF_IP_PRI_FILTER,
  NF_IP_PRI_MANGLE,
  NF_IP_PRI_NAT_DST,
  NF_IP_PRI_NAT_SRC,
  NF_IP_PRI_RAW,
} from './chain.ts';
export { messageDebugText, ruleDebugText } from './debug-text.ts';
export type { Element } from './element.ts';
export { NftablesError, type NftablesErrorInit } from './error.ts';
export type * from './expressions/index.ts';
export type { Family } from './family.ts';
export { listChains, listElements, listRules, listSets, listTables, ruleCounter } from './list.ts';
export { type Comparison, match } from './match.ts';
export type { InstalledRule, Rule } from './rule.ts';
export type { KeyType, NamedSet } from './set.ts';
export { statement } from './statement.ts';
export type { Table } from './table.ts';
