import { AttributeReader } from '../attribute-reader.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import type { MessageWriter } from '../message-writer.ts';
import {
  NFTA_SET_FLAGS,
  NFTA_SET_ID,
  NFTA_SET_KEY_LEN,
  NFTA_SET_KEY_TYPE,
  NFTA_SET_NAME,
  NFTA_SET_TABLE,
  NFTA_SET_USERDATA,
  NFTNL_UDATA_SET_KEYBYTEORDER,
} from './constants.ts';
import { familyName } from './family.ts';
import type { Table } from './table.ts';

/** What a set holds. The numbers are nft's own (`<datatype.h>`): the kernel stores them for whoever lists the set. */
export type KeyType = 'ipv4_addr' | 'ipv6_addr' | 'inet_service';

const keyTypes: Readonly<Record<KeyType, { readonly number: number; readonly bytes: number }>> = {
  ipv4_addr: { number: 7, bytes: 4 },
  ipv6_addr: { number: 8, bytes: 16 },
  inet_service: { number: 13, bytes: 2 },
};
const keyTypeNames = new Map(Object.entries(keyTypes).map(([name, { number }]) => [number, name as KeyType]));

/** nft's `enum byteorder`: how to print the keys. All of ours are in network byte order. */
const BYTEORDER_BIG_ENDIAN = 2;

/** A named set of single keys, without intervals, timeouts or maps. */
export interface NamedSet {
  readonly table: Table;
  readonly name: string;
  readonly keyType: KeyType;
}

/** Bytes of one key. */
export function keyLength(keyType: KeyType): number {
  return keyTypes[keyType].bytes;
}

/**
 * The attributes of `add set`, after `struct nfgenmsg`, in nft's order.
 *
 * @param id - any number that no other set of the transaction has
 */
export function encodeSet(set: NamedSet, id: number, writer: MessageWriter): void {
  const { number, bytes } = keyTypes[set.keyType];
  writer.attrString(NFTA_SET_TABLE, set.table.name).attrString(NFTA_SET_NAME, set.name);
  writer.attrU32be(NFTA_SET_FLAGS, 0).attrU32be(NFTA_SET_KEY_TYPE, number).attrU32be(NFTA_SET_KEY_LEN, bytes);
  writer.attrU32be(NFTA_SET_ID, id);
  writer.attrBytes(NFTA_SET_USERDATA, Uint8Array.of(NFTNL_UDATA_SET_KEYBYTEORDER, 4, BYTEORDER_BIG_ENDIAN, 0, 0, 0));
}

/**
 * Reads an NFT_MSG_NEWSET; nothing for a family or a key type that is not ours.
 *
 * @throws {NetlinkError} `ERR_NETLINK_MALFORMED`
 */
export function decodeSet(message: NetlinkMessage): NamedSet | undefined {
  const family = familyName(message.payload[0] ?? 0);
  const reader = new AttributeReader(message.payload, 4);
  let table = '';
  let name = '';
  let keyType: KeyType | undefined;
  while (reader.next()) {
    if (reader.type === NFTA_SET_TABLE) table = reader.string();
    else if (reader.type === NFTA_SET_NAME) name = reader.string();
    else if (reader.type === NFTA_SET_KEY_TYPE) keyType = keyTypeNames.get(reader.u32be());
  }
  reader.check();
  if (family === undefined || keyType === undefined) return undefined;
  return { table: { family, name: table }, name, keyType };
}
