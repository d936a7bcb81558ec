import { MessageWriter, type Netlink, NLM_F_DUMP } from '../netlink/index.ts';
import { NFT_MSG_GETTABLE } from '../netlink/nftables/constants.ts';
import { beginMessage, familyName } from '../netlink/nftables/family.ts';
import type { Table } from '../netlink/nftables/index.ts';
import { decodeAnyTable } from '../netlink/nftables/table.ts';

const NFPROTO_UNSPEC = 0;
/** Families whose tables IP packets meet as well, and that this library does not look at. */
const OTHERS = new Map([
  [5, 'netdev'],
  [7, 'bridge'],
]);

/** The tables that are walked, and those that are not and may decide too. */
export function readTables(netlink: Netlink): { tables: Table[]; unseen: string[] } {
  const writer = new MessageWriter({ initialBytes: 64 });
  beginMessage(writer, NFT_MSG_GETTABLE, NLM_F_DUMP, NFPROTO_UNSPEC);
  const tables: Table[] = [];
  const unseen: string[] = [];
  for (const message of netlink.request(writer.end().finish(), { op: 'explain.readTables' })) {
    const { familyNumber, name, dormant } = decodeAnyTable(message);
    // Its chains are not registered.
    if (dormant) continue;
    const family = familyName(familyNumber);
    const other = OTHERS.get(familyNumber);
    if (family !== undefined) tables.push({ family, name });
    else if (other !== undefined) unseen.push(`the nftables table ${other} ${name}`);
  }
  return { tables, unseen };
}
