import type { Netlink } from '../netlink/index.ts';
import {
  Batch,
  type Chain,
  type Element,
  type InstalledRule,
  listChains,
  listElements,
  listRules,
  listSets,
  listTables,
  type NamedSet,
  type Table,
} from '../netlink/nftables/index.ts';
import type { Place } from './kernel.ts';
import type { RedirectionPlan } from './plan.ts';
import { ownedTables, renderNftables } from './render-nftables.ts';
import type { Transaction } from './transaction.ts';

/** What there was in a plan's own tables, so that it can be put back. */
export interface RulesSnapshot {
  readonly tables: readonly Table[];
  readonly sets: readonly { readonly set: NamedSet; readonly elements: readonly Element[] }[];
  readonly chains: readonly Chain[];
  readonly rules: readonly InstalledRule[];
}

/** Reads the tables that a plan of this name owns. */
export function readRules(netlink: Netlink, plan: Pick<RedirectionPlan, 'name'>): RulesSnapshot {
  const present = new Set(listTables(netlink, 'ip').map(({ name }) => name));
  const tables = ownedTables(plan).filter(({ name }) => present.has(name));
  return {
    tables,
    sets: tables
      .flatMap((table) => listSets(netlink, table))
      .map((set) => ({ set, elements: listElements(netlink, set) })),
    chains: tables.flatMap((table) => listChains(netlink, table)),
    rules: tables.flatMap((table) => listRules(netlink, table)),
  };
}

/** One transaction that makes the tables what the snapshot says, counters included. */
export function restoreRules(plan: Pick<RedirectionPlan, 'name'>, snapshot: RulesSnapshot): Batch {
  const batch = new Batch();
  for (const table of ownedTables(plan)) batch.destroyTable(table);
  for (const table of snapshot.tables) batch.addTable(table);
  for (const { set, elements } of snapshot.sets) batch.addSet(set).addElements(set, elements);
  for (const chain of snapshot.chains) batch.addChain(chain);
  for (const rule of snapshot.rules) batch.addRule(rule);
  return batch;
}

/** Puts a side's sets, chains and rules in force, by one transaction. */
export function applyRules(transaction: Transaction, place: Place, plan: RedirectionPlan, before: RulesSnapshot): void {
  transaction.step(
    place.role,
    () => renderNftables(plan, place.role).commit(place.netfilter),
    () => restoreRules(plan, before).commit(place.netfilter),
  );
}
