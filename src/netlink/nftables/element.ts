import { formatIp, ipBytes, ipFromBytes, parseIp } from '../../ip/index.ts';
import { AttributeReader } from '../attribute-reader.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import type { MessageWriter } from '../message-writer.ts';
import {
  NFTA_DATA_VALUE,
  NFTA_LIST_ELEM,
  NFTA_SET_ELEM_KEY,
  NFTA_SET_ELEM_LIST_ELEMENTS,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_ELEM_LIST_SET_ID,
  NFTA_SET_ELEM_LIST_TABLE,
  NFTA_SET_ELEM_USERDATA,
  NFTNL_UDATA_SET_ELEM_COMMENT,
} from './constants.ts';
import { readValue } from './data.ts';
import { invalid } from './error.ts';
import { type KeyType, keyLength, type NamedSet } from './set.ts';
import { decodeComment, encodeComment } from './userdata.ts';

/** One member of a set. */
export interface Element {
  /** An address, or a port number in text, as the set's key type has it. */
  readonly key: string;
  /** At most 127 bytes; what `nft list` shows as `comment "…"`. */
  readonly comment?: string;
}

/** An element ready to be written: checked, and of known size. */
export interface EncodedElement {
  readonly key: Uint8Array;
  readonly userdata: Uint8Array | undefined;
  /** What it adds to a list of elements: headers of element, key and value, padding included. */
  readonly bytes: number;
}

/**
 * @param field - where the element is in the caller's value, for the error: `elements[3]`
 * @throws {InvalidInputError} `ERR_NFTABLES_INVALID` for a key of another type, or a comment that does not fit
 */
export function prepareElement(element: Element, keyType: KeyType, field: string): EncodedElement {
  const key = keyBytes(element.key, keyType, `${field}.key`);
  const padded = (key.length + 3) & ~3;
  if (element.comment === undefined) return { key, userdata: undefined, bytes: 12 + padded };
  const userdata = encodeComment(NFTNL_UDATA_SET_ELEM_COMMENT, element.comment, `${field}.comment`);
  return { key, userdata, bytes: 16 + padded + ((userdata.length + 3) & ~3) };
}

/** The attributes of one `add element` or `delete element`, after `struct nfgenmsg`, in nft's order. */
export function encodeElements(
  set: NamedSet,
  setId: number | undefined,
  elements: readonly EncodedElement[],
  start: number,
  end: number,
  writer: MessageWriter,
): void {
  writer.attrString(NFTA_SET_ELEM_LIST_TABLE, set.table.name).attrString(NFTA_SET_ELEM_LIST_SET, set.name);
  if (setId !== undefined) writer.attrU32be(NFTA_SET_ELEM_LIST_SET_ID, setId);
  writer.nest(NFTA_SET_ELEM_LIST_ELEMENTS, (list) => {
    for (let i = start; i < end; i++) writeElement(list, elements[i]!);
  });
}

function writeElement(list: MessageWriter, { key, userdata }: EncodedElement): void {
  list.nest(NFTA_LIST_ELEM, (inner) => {
    inner.nest(NFTA_SET_ELEM_KEY, (data) => {
      data.attrBytes(NFTA_DATA_VALUE, key);
    });
    if (userdata !== undefined) inner.attrBytes(NFTA_SET_ELEM_USERDATA, userdata);
  });
}

/** Reads the elements of an NFT_MSG_NEWSETELEM. @throws {NetlinkError} `ERR_NETLINK_MALFORMED` */
export function decodeElements(message: NetlinkMessage, keyType: KeyType): Element[] {
  const reader = new AttributeReader(message.payload, 4);
  const elements: Element[] = [];
  while (reader.next()) {
    if (reader.type !== NFTA_SET_ELEM_LIST_ELEMENTS) continue;
    const list = reader.nested();
    while (list.next()) elements.push(decodeElement(list.nested(), keyType));
  }
  reader.check();
  return elements;
}

function decodeElement(reader: AttributeReader, keyType: KeyType): Element {
  let key = '';
  let comment: string | undefined;
  while (reader.next()) {
    if (reader.type === NFTA_SET_ELEM_KEY) key = keyText(readValue(reader), keyType);
    else if (reader.type === NFTA_SET_ELEM_USERDATA)
      comment = decodeComment(NFTNL_UDATA_SET_ELEM_COMMENT, reader.bytes());
  }
  return comment === undefined ? { key } : { key, comment };
}

function keyBytes(key: string, keyType: KeyType, field: string): Uint8Array {
  if (keyType === 'inet_service') {
    const port = Number(key);
    if (!Number.isInteger(port) || port < 0 || port > 0xffff) throw invalid(field, `${JSON.stringify(key)} is no port`);
    return Uint8Array.of(port >> 8, port & 0xff);
  }
  const bytes = ipBytes(parseIp(key, field));
  if (bytes.length !== keyLength(keyType)) throw invalid(field, `${key} is no ${keyType}`);
  return bytes;
}

function keyText(bytes: Uint8Array, keyType: KeyType): string {
  if (bytes.length !== keyLength(keyType)) return '';
  return keyType === 'inet_service' ? String((bytes[0]! << 8) | bytes[1]!) : formatIp(ipFromBytes(bytes));
}
