import { AttributeReader } from '../attribute-reader.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import type { MessageWriter } from '../message-writer.ts';
import { NFTA_TABLE_FLAGS, NFTA_TABLE_NAME } from './constants.ts';
import { type Family, familyName } from './family.ts';

/** A table by its family and name: `ip ztunnel-mangle`. */
export interface Table {
  readonly family: Family;
  readonly name: string;
  /** Its chains are called by no hook until it is woken (`flags dormant`). */
  readonly dormant?: true;
}

const NFT_TABLE_F_DORMANT = 1;

/** The attributes of `add table`, after `struct nfgenmsg`. */
export function encodeTable(table: Table, writer: MessageWriter): void {
  writer.attrString(NFTA_TABLE_NAME, table.name).attrU32be(NFTA_TABLE_FLAGS, table.dormant ? NFT_TABLE_F_DORMANT : 0);
}

/** Reads an NFT_MSG_NEWTABLE; nothing for a family that is not ours. @throws {NetlinkError} `ERR_NETLINK_MALFORMED` */
export function decodeTable(message: NetlinkMessage): Table | undefined {
  const { familyNumber, name, dormant } = decodeAnyTable(message);
  const family = familyName(familyNumber);
  if (family === undefined) return undefined;
  return dormant ? { family, name, dormant } : { family, name };
}

/** As {@link decodeTable}, for a table of any family. */
export function decodeAnyTable(message: NetlinkMessage): { familyNumber: number; name: string; dormant: boolean } {
  const reader = new AttributeReader(message.payload, 4);
  let name = '';
  let flags = 0;
  while (reader.next()) {
    if (reader.type === NFTA_TABLE_NAME) name = reader.string();
    else if (reader.type === NFTA_TABLE_FLAGS) flags = reader.u32be();
  }
  reader.check();
  return { familyNumber: message.payload[0] ?? 0, name, dormant: (flags & NFT_TABLE_F_DORMANT) !== 0 };
}

/** As nft writes it: `ip ztunnel-mangle`. */
export function tableText(table: Table): string {
  return `${table.family} ${table.name}`;
}
