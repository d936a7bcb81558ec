import { AttributeReader, MessageWriter, type Netlink, NLM_F_DUMP } from '../netlink/index.ts';
import { NFT_MSG_GETTABLE, NFTA_TABLE_FLAGS, NFTA_TABLE_NAME } from '../netlink/nftables/constants.ts';
import { beginMessage, familyName } from '../netlink/nftables/family.ts';
import type { Table } from '../netlink/nftables/index.ts';

const NFPROTO_UNSPEC = 0;
const NFGENMSG_BYTES = 4;
/** Its chains are not registered. */
const NFT_TABLE_F_DORMANT = 1;
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
  for (const { payload } of netlink.request(writer.end().finish(), { op: 'explain.readTables' })) {
    const reader = new AttributeReader(payload, NFGENMSG_BYTES);
    let name = '';
    let flags = 0;
    while (reader.next()) {
      if (reader.type === NFTA_TABLE_NAME) name = reader.string();
      else if (reader.type === NFTA_TABLE_FLAGS) flags = reader.u32be();
    }
    reader.check();
    if ((flags & NFT_TABLE_F_DORMANT) !== 0) continue;
    const number = payload[0] ?? 0;
    const family = familyName(number);
    const other = OTHERS.get(number);
    if (family !== undefined) tables.push({ family, name });
    else if (other !== undefined) unseen.push(`the nftables table ${other} ${name}`);
  }
  return { tables, unseen };
}
