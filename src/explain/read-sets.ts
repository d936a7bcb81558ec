import { AttributeReader, MessageWriter, type Netlink, NFNL_SUBSYS_NFTABLES, NLM_F_DUMP } from '../netlink/index.ts';
import type { Table } from '../netlink/nftables/index.ts';
import { NFPROTO_IPV4, NFPROTO_IPV6 } from './kernel-numbers.ts';
import type { ViewElement, ViewSet } from './kernel-view.ts';

// <linux/netfilter/nf_tables.h>
const NFT_MSG_GETSET = 10;
const NFT_MSG_GETSETELEM = 13;
const NFTA_SET_TABLE = 1;
const NFTA_SET_NAME = 2;
const NFTA_SET_FLAGS = 3;
const NFTA_SET_KEY_LEN = 5;
const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_FLAGS = 3;
const NFTA_SET_ELEM_KEY_END = 10;
const NFTA_DATA_VALUE = 1;
const NFT_SET_ELEM_INTERVAL_END = 1;
const NFT_SET_INTERVAL = 4;
const NFT_SET_MAP = 8;
const NFT_SET_OBJECT = 64;
const NFT_SET_CONCAT = 128;

const NFGENMSG_BYTES = 4;
const NFPROTO_INET = 1;
const FAMILIES = { ip: NFPROTO_IPV4, ip6: NFPROTO_IPV6, inet: NFPROTO_INET } as const;

/** Every set of a table with its elements, anonymous ones too: as much of it as deciding about a key takes. */
export function readSets(netlink: Netlink, table: Table): ViewSet[] {
  const messages = dump(netlink, table, NFT_MSG_GETSET, (writer) => writer.attrString(NFTA_SET_TABLE, table.name));
  return messages.flatMap(({ payload }) => {
    const set = decodeSet(payload);
    return set.table === table.name ? [{ ...set, table, elements: readElements(netlink, table, set.name) }] : [];
  });
}

function decodeSet(payload: Buffer): { table: string; name: string; kind: ViewSet['kind']; keyBytes: number } {
  const reader = new AttributeReader(payload, NFGENMSG_BYTES);
  let table = '';
  let name = '';
  let flags = 0;
  let keyBytes = 0;
  while (reader.next()) {
    if (reader.type === NFTA_SET_TABLE) table = reader.string();
    else if (reader.type === NFTA_SET_NAME) name = reader.string();
    else if (reader.type === NFTA_SET_FLAGS) flags = reader.u32be();
    else if (reader.type === NFTA_SET_KEY_LEN) keyBytes = reader.u32be();
  }
  reader.check();
  const isMap = (flags & (NFT_SET_MAP | NFT_SET_OBJECT)) !== 0;
  const hasRanges = (flags & NFT_SET_INTERVAL) !== 0;
  const isOther = isMap || (hasRanges && (flags & NFT_SET_CONCAT) !== 0);
  return { table, name, kind: isOther ? 'other' : hasRanges ? 'ranges' : 'keys', keyBytes };
}

function readElements(netlink: Netlink, table: Table, set: string): ViewElement[] {
  const messages = dump(netlink, table, NFT_MSG_GETSETELEM, (writer) => {
    writer.attrString(NFTA_SET_ELEM_LIST_TABLE, table.name).attrString(NFTA_SET_ELEM_LIST_SET, set);
  });
  const elements: ViewElement[] = [];
  for (const { payload } of messages) {
    const reader = new AttributeReader(payload, NFGENMSG_BYTES);
    while (reader.next()) {
      if (reader.type !== NFTA_SET_ELEM_LIST_ELEMENTS) continue;
      const list = reader.nested();
      while (list.next()) if (list.type === NFTA_LIST_ELEM) elements.push(...decodeElement(list.nested()));
    }
    reader.check();
  }
  // Of a range's two ends, the kernel gives the end first.
  return elements.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : Number(b.end) - Number(a.end)));
}

function decodeElement(reader: AttributeReader): ViewElement[] {
  let key = '';
  let last: string | undefined;
  let flags = 0;
  while (reader.next()) {
    if (reader.type === NFTA_SET_ELEM_KEY) key = keyOf(reader);
    else if (reader.type === NFTA_SET_ELEM_KEY_END) last = keyOf(reader);
    else if (reader.type === NFTA_SET_ELEM_FLAGS) flags = reader.u32be();
  }
  const element = { key, end: (flags & NFT_SET_ELEM_INTERVAL_END) !== 0 };
  return last === undefined ? [element] : [element, { key: last, end: true }];
}

function keyOf(reader: AttributeReader): string {
  const data = reader.nested();
  while (data.next()) if (data.type === NFTA_DATA_VALUE) return Buffer.from(data.bytes()).toString('hex');
  return '';
}

function dump(netlink: Netlink, { family }: Table, type: number, attributes: (writer: MessageWriter) => void) {
  const writer = new MessageWriter({ initialBytes: 256 }).begin((NFNL_SUBSYS_NFTABLES << 8) | type, NLM_F_DUMP);
  writer.u8(FAMILIES[family]).u8(0).u16be(0);
  attributes(writer);
  return netlink.request(writer.end().finish(), { op: 'explain.readSets' });
}
