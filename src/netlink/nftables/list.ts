import { NLM_F_DUMP } from '../constants.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import { type Chain, decodeChain } from './chain.ts';
import {
  NFT_MSG_GETCHAIN,
  NFT_MSG_GETRULE,
  NFT_MSG_GETSET,
  NFT_MSG_GETSETELEM,
  NFT_MSG_GETTABLE,
  NFTA_RULE_TABLE,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_ELEM_LIST_TABLE,
  NFTA_SET_TABLE,
} from './constants.ts';
import { decodeElements, type Element } from './element.ts';
import type { Counter } from './expressions/index.ts';
import { beginMessage, type Family, familyNumber } from './family.ts';
import { decodeRule, type InstalledRule } from './rule.ts';
import { decodeSet, type NamedSet } from './set.ts';
import { decodeTable, type Table } from './table.ts';

const NFPROTO_UNSPEC = 0;

/** The tables of the namespace, of one family or of all that this library has a name for. */
export function listTables(netlink: Netlink, family?: Family): Table[] {
  return ours(dump(netlink, NFT_MSG_GETTABLE, family).map(decodeTable));
}

/** The chains of one table. */
export function listChains(netlink: Netlink, table: Table): Chain[] {
  const chains = ours(dump(netlink, NFT_MSG_GETCHAIN, table.family).map(decodeChain));
  // The kernel's dump of chains knows no filter but the family.
  return chains.filter((chain) => chain.table.name === table.name);
}

/** The rules of one table, in the order they run in within each chain. None where there is no such table. */
export function listRules(netlink: Netlink, table: Table): InstalledRule[] {
  const messages = dump(netlink, NFT_MSG_GETRULE, table.family, (writer) => {
    writer.attrString(NFTA_RULE_TABLE, table.name);
  });
  return ours(messages.map(decodeRule)).filter((rule) => rule.table.name === table.name);
}

/** The named sets of one table whose key type this library knows. */
export function listSets(netlink: Netlink, table: Table): NamedSet[] {
  const messages = dump(netlink, NFT_MSG_GETSET, table.family, (writer) => {
    writer.attrString(NFTA_SET_TABLE, table.name);
  });
  return ours(messages.map(decodeSet)).filter((set) => set.table.name === table.name);
}

/** The elements of one set, in the kernel's order, which is none. @throws {NetlinkError} `ENOENT` where there is no such set */
export function listElements(netlink: Netlink, set: NamedSet): Element[] {
  const messages = dump(netlink, NFT_MSG_GETSETELEM, set.table.family, (writer) => {
    writer.attrString(NFTA_SET_ELEM_LIST_TABLE, set.table.name).attrString(NFTA_SET_ELEM_LIST_SET, set.name);
  });
  return messages.flatMap((message) => decodeElements(message, set.keyType));
}

/** What the first counter of a rule has counted; nothing for a rule without one. */
export function ruleCounter(rule: InstalledRule): Counter | undefined {
  return rule.expressions.find((expression): expression is Counter => expression.type === 'counter');
}

function dump(
  netlink: Netlink,
  type: number,
  family?: Family,
  attributes?: (writer: MessageWriter) => void,
): NetlinkMessage[] {
  const writer = new MessageWriter({ initialBytes: 256 });
  beginMessage(writer, type, NLM_F_DUMP, family === undefined ? NFPROTO_UNSPEC : familyNumber(family, 'family'));
  attributes?.(writer);
  return netlink.request(writer.end().finish(), { op: 'nftables.list' });
}

function ours<T>(items: readonly (T | undefined)[]): T[] {
  return items.filter((item) => item !== undefined);
}
