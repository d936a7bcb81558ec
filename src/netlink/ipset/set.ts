import { AF_INET, AF_INET6 } from '../../system/index.ts';
import { AttributeReader } from '../attribute-reader.ts';
import { NLM_F_CREATE, NLM_F_EXCL } from '../constants.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import * as c from './constants.ts';
import { invalid } from './error.ts';
import { type Member, readMember } from './member.ts';
import { attrNet32, beginMessage, checkSetName } from './message.ts';

/** A set of type hash:ip, as it is created. */
export interface AddressSet {
  /** 1 to 31 bytes. */
  readonly name: string;
  readonly family: 4 | 6;
  /** Whether members have room for a comment. Default false. */
  readonly comments?: boolean;
  /** Members that it takes at most. Default 65,536, the kernel's own. */
  readonly maxElements?: number;
  /** Buckets to begin with; grows by itself. A power of two. Default 1,024. */
  readonly hashSize?: number;
}

/** A set as the kernel has it. */
export interface ListedSet {
  readonly name: string;
  /** `hash:ip` for ours. Members of a set of another type are not read. */
  readonly type: string;
  readonly family: 4 | 6;
  readonly comments: boolean;
  readonly maxElements: number;
  readonly hashSize: number;
  /** Rules that use it. */
  readonly references: number;
  /** What it takes of the kernel's memory. */
  readonly memoryBytes: number;
  /** In the kernel's order, which is none. */
  readonly members: readonly Member[];
}

/** The IPSET_CMD_CREATE for a set. @throws {InvalidInputError} `ERR_IPSET_INVALID` naming the field */
export function encodeCreate(op: string, set: AddressSet, existOk: boolean): Buffer {
  checkSetName(op, set.name, 'name');
  if (set.family !== 4 && set.family !== 6) throw invalid(op, 'family', `${set.family} is neither 4 nor 6`);
  for (const field of ['maxElements', 'hashSize'] as const) {
    const value = set[field];
    if (value === undefined || (Number.isInteger(value) && value >= 1 && value <= 0xffff_ffff)) continue;
    throw invalid(op, field, `${value} is no whole number from 1 on`);
  }
  const flags = NLM_F_CREATE | (existOk ? 0 : NLM_F_EXCL);
  const writer = beginMessage(c.IPSET_CMD_CREATE, flags, set.name);
  writer.attrString(c.IPSET_ATTR_TYPENAME, 'hash:ip').attrU8(c.IPSET_ATTR_REVISION, c.HASH_IP_REVISION);
  writer.attrU8(c.IPSET_ATTR_FAMILY, set.family === 4 ? AF_INET : AF_INET6);
  writer.nest(c.IPSET_ATTR_DATA, (data) => {
    if (set.comments) attrNet32(data, c.IPSET_ATTR_CADT_FLAGS, c.IPSET_FLAG_WITH_COMMENT);
    if (set.hashSize !== undefined) attrNet32(data, c.IPSET_ATTR_HASHSIZE, set.hashSize);
    if (set.maxElements !== undefined) attrNet32(data, c.IPSET_ATTR_MAXELEM, set.maxElements);
  });
  return writer.end().finish();
}

type Draft = { -readonly [K in keyof ListedSet]: ListedSet[K] } & { members: Member[] };

/**
 * Reads the answers to IPSET_CMD_LIST. A large set comes in several messages, the first of which describes it.
 *
 * @throws {NetlinkError} `ERR_NETLINK_MALFORMED`
 */
export function decodeSets(messages: readonly NetlinkMessage[]): ListedSet[] {
  const sets = new Map<string, Draft>();
  for (const { payload } of messages) {
    const reader = new AttributeReader(payload, 4);
    let set: Draft | undefined;
    while (reader.next()) {
      if (reader.type === c.IPSET_ATTR_SETNAME) set = draftOf(sets, reader.string());
      else if (set !== undefined) readAttribute(reader, set);
    }
    reader.check();
  }
  return [...sets.values()];
}

function draftOf(sets: Map<string, Draft>, name: string): Draft {
  let set = sets.get(name);
  if (set === undefined) {
    const sizes = { maxElements: 0, hashSize: 0, references: 0, memoryBytes: 0 };
    set = { name, type: '', family: 4, comments: false, ...sizes, members: [] };
    sets.set(name, set);
  }
  return set;
}

function readAttribute(reader: AttributeReader, set: Draft): void {
  if (reader.type === c.IPSET_ATTR_TYPENAME) set.type = reader.string();
  else if (reader.type === c.IPSET_ATTR_FAMILY) set.family = reader.u8() === AF_INET6 ? 6 : 4;
  else if (reader.type === c.IPSET_ATTR_DATA) readHeader(reader.nested(), set);
  else if (reader.type === c.IPSET_ATTR_ADT && set.type === 'hash:ip') {
    const list = reader.nested();
    while (list.next()) set.members.push(readMember(list.nested()));
  }
}

function readHeader(data: AttributeReader, set: Draft): void {
  while (data.next()) {
    if (data.type === c.IPSET_ATTR_MAXELEM) set.maxElements = data.u32be();
    else if (data.type === c.IPSET_ATTR_HASHSIZE) set.hashSize = data.u32be();
    else if (data.type === c.IPSET_ATTR_REFERENCES) set.references = data.u32be();
    else if (data.type === c.IPSET_ATTR_MEMSIZE) set.memoryBytes = data.u32be();
    else if (data.type === c.IPSET_ATTR_CADT_FLAGS) set.comments = (data.u32be() & c.IPSET_FLAG_WITH_COMMENT) !== 0;
  }
}
