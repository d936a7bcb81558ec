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
import { keepConnections } from './keep-connections.ts';
import type { Place } from './kernel.ts';
import { hasTcpSockets } from './open-connections.ts';
import { type RedirectionPlan, sideOf } from './plan.ts';
import { nftablesRuleset, ownedTables, renderNftables } from './render-nftables.ts';
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
  const tables = presentTables(netlink, plan);
  return {
    tables,
    sets: tables
      .flatMap((table) => listSets(netlink, table))
      .map((set) => ({ set, elements: listElements(netlink, set) })),
    chains: tables.flatMap((table) => listChains(netlink, table)),
    rules: tables.flatMap((table) => listRules(netlink, table)),
  };
}

/** Those of a plan's own tables that are there, as they are. */
export function presentTables(netlink: Netlink, plan: Pick<RedirectionPlan, 'name'>): Table[] {
  const owned = new Set(ownedTables(plan).map(tableText));
  return listTables(netlink).filter((table) => owned.has(tableText(table)));
}

function tableText({ family, name }: Table): string {
  return `${family} ${name}`;
}

/**
 * One transaction that makes the tables what the snapshot says, counters included.
 *
 * @param touched - what there may be now: a kernel without IPv6 has no `ip6` tables, not even to take away
 */
export function restoreRules(touched: readonly Table[], snapshot: RulesSnapshot): Batch {
  const batch = new Batch();
  for (const table of touched) batch.destroyTable(table);
  for (const table of snapshot.tables) batch.addTable(table);
  for (const { set, elements } of snapshot.sets) batch.addSet(set).addElements(set, elements);
  for (const chain of snapshot.chains) batch.addChain(chain);
  for (const rule of snapshot.rules) batch.addRule(rule);
  return batch;
}

/** Puts a side's sets, chains and rules in force, by one transaction. */
export function applyRules(transaction: Transaction, place: Place, plan: RedirectionPlan, before: RulesSnapshot): void {
  const { tables } = nftablesRuleset(plan, place.role);
  const isFirst = before.tables.length === 0 && tables.length > 0;
  const hasWhatToKeep = () => transaction.look(`${place.role}: sockets`, () => hasTcpSockets(place.namespace));
  // The tables that keep connections cost a wait of the kernel's when they are gone again: a pod that is starting has none to keep.
  const keeps = isFirst && sideOf(plan, place.role)?.keepsOpenConnections === true && hasWhatToKeep();
  const tracking = keeps ? keepConnections(transaction, place, plan) : [];
  transaction.step(
    place.role,
    () => renderNftables(plan, place.role, [...before.tables, ...tracking]).commit(place.netfilter),
    () => restoreRules([...before.tables, ...tables], before).commit(place.netfilter),
  );
}
