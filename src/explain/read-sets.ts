import { AttributeReader, MessageWriter, type Netlink, NFNL_SUBSYS_NFTABLES, NLM_F_DUMP } from '../netlink/index.ts';
import { readVerdict } from '../netlink/nftables/expressions/verdict.ts';
import type { Table, Verdict } from '../netlink/nftables/index.ts';
import { NFPROTO_IPV4, NFPROTO_IPV6 } from './kernel-numbers.ts';
import type { ViewElement, ViewSet } from './kernel-view.ts';

// <linux/netfilter/nf_tables.h>
const NFT_MSG_GETSET = 10;
const NFT_MSG_GETSETELEM = 13;
const NFTA_SET_TABLE = 1;
const NFTA_SET_NAME = 2;
const NFTA_SET_FLAGS = 3;
const NFTA_SET_KEY_LEN = 5;
const NFTA_SET_DESC = 9;
const NFTA_SET_DESC_CONCAT = 2;
const NFTA_SET_FIELD_LEN = 1;
const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_FLAGS = 3;
const NFTA_SET_ELEM_EXPR = 7;
const NFTA_SET_ELEM_KEY_END = 10;
const NFTA_SET_ELEM_EXPRESSIONS = 11;
const NFTA_EXPR_NAME = 1;
const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFT_SET_ELEM_INTERVAL_END = 1;
const NFT_SET_ELEM_CATCHALL = 2;
const NFT_SET_INTERVAL = 4;
const NFT_SET_OBJECT = 64;
const NFT_SET_CONCAT = 128;

const NFGENMSG_BYTES = 4;
const NFPROTO_INET = 1;
const FAMILIES = { ip: NFPROTO_IPV4, ip6: NFPROTO_IPV6, inet: NFPROTO_INET } as const;

/** Expressions of an element that count and decide nothing. */
const COUNTING = new Set(['counter', 'last']);

/** Every set and map of a table with its elements, anonymous ones too: as much of it as deciding about a key takes. */
export function readSets(netlink: Netlink, table: Table): ViewSet[] {
  const messages = dump(netlink, table, NFT_MSG_GETSET, (writer) => writer.attrString(NFTA_SET_TABLE, table.name));
  return messages.flatMap(({ payload }) => {
    const set = decodeSet(payload);
    if (set.table !== table.name) return [];
    const { elements, areConditional } = readElements(netlink, table, set.name);
    return [{ ...set, table, elements, ...(areConditional ? { kind: 'other' as const } : {}) }];
  });
}

function decodeSet(payload: Buffer): Omit<ViewSet, 'table' | 'elements'> & { table: string } {
  const reader = new AttributeReader(payload, NFGENMSG_BYTES);
  let table = '';
  let name = '';
  let flags = 0;
  let keyBytes = 0;
  const fieldBytes: number[] = [];
  while (reader.next()) {
    if (reader.type === NFTA_SET_TABLE) table = reader.string();
    else if (reader.type === NFTA_SET_NAME) name = reader.string();
    else if (reader.type === NFTA_SET_FLAGS) flags = reader.u32be();
    else if (reader.type === NFTA_SET_KEY_LEN) keyBytes = reader.u32be();
    else if (reader.type === NFTA_SET_DESC) {
      const description = reader.nested();
      while (description.next()) {
        if (description.type === NFTA_SET_DESC_CONCAT) fieldBytes.push(...decodeFields(description.nested()));
      }
    }
  }
  reader.check();
  const hasRanges = (flags & NFT_SET_INTERVAL) !== 0;
  const isConcatenation = (flags & NFT_SET_CONCAT) !== 0 || fieldBytes.length > 1;
  const isOther = (flags & NFT_SET_OBJECT) !== 0 || (hasRanges && isConcatenation && fieldBytes.length === 0);
  const kind = isOther ? 'other' : !hasRanges ? 'keys' : isConcatenation ? 'fields' : 'ranges';
  return { table, name, kind, keyBytes, ...(kind === 'fields' ? { fieldBytes } : {}) };
}

function decodeFields(list: AttributeReader): number[] {
  const lengths: number[] = [];
  while (list.next()) {
    const field = list.nested();
    while (field.next()) if (field.type === NFTA_SET_FIELD_LEN) lengths.push(field.u32be());
  }
  return lengths;
}

function readElements(netlink: Netlink, table: Table, set: string) {
  const messages = dump(netlink, table, NFT_MSG_GETSETELEM, (writer) => {
    writer.attrString(NFTA_SET_ELEM_LIST_TABLE, table.name).attrString(NFTA_SET_ELEM_LIST_SET, set);
  });
  const elements: ViewElement[] = [];
  let areConditional = false;
  for (const { payload } of messages) {
    const reader = new AttributeReader(payload, NFGENMSG_BYTES);
    while (reader.next()) {
      if (reader.type !== NFTA_SET_ELEM_LIST_ELEMENTS) continue;
      const list = reader.nested();
      while (list.next()) {
        if (list.type !== NFTA_LIST_ELEM) continue;
        const { element, isConditional } = decodeElement(list.nested());
        elements.push(element);
        areConditional ||= isConditional;
      }
    }
    reader.check();
  }
  // Of a range's two ends, the kernel gives the end first.
  elements.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : Number(b.end) - Number(a.end)));
  return { elements, areConditional };
}

function decodeElement(reader: AttributeReader): { element: ViewElement; isConditional: boolean } {
  let key = '';
  let last: string | undefined;
  let flags = 0;
  let isConditional = false;
  let data: { value: string } | { verdict: Verdict } | undefined;
  while (reader.next()) {
    if (reader.type === NFTA_SET_ELEM_KEY) key = keyOf(reader);
    else if (reader.type === NFTA_SET_ELEM_KEY_END) last = keyOf(reader);
    else if (reader.type === NFTA_SET_ELEM_FLAGS) flags = reader.u32be();
    else if (reader.type === NFTA_SET_ELEM_DATA) data = dataOf(reader.nested());
    else if (reader.type === NFTA_SET_ELEM_EXPR) isConditional ||= decides(reader.nested());
    else if (reader.type === NFTA_SET_ELEM_EXPRESSIONS) {
      const list = reader.nested();
      while (list.next()) isConditional ||= decides(list.nested());
    }
  }
  const element: ViewElement = {
    key,
    end: (flags & NFT_SET_ELEM_INTERVAL_END) !== 0,
    ...(last === undefined ? {} : { last }),
    ...((flags & NFT_SET_ELEM_CATCHALL) === 0 ? {} : { isRest: true }),
    ...data,
  };
  return { element, isConditional };
}

/** An element may have a `limit` of its own, which decides whether it is found. */
function decides(expression: AttributeReader): boolean {
  while (expression.next()) if (expression.type === NFTA_EXPR_NAME) return !COUNTING.has(expression.string());
  return false;
}

function dataOf(data: AttributeReader): { value: string } | { verdict: Verdict } | undefined {
  while (data.next()) {
    if (data.type === NFTA_DATA_VALUE) return { value: Buffer.from(data.bytes()).toString('hex') };
    if (data.type === NFTA_DATA_VERDICT) return { verdict: readVerdict(data.nested()) };
  }
  return undefined;
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
