import { InvalidInputError } from '../../errors/index.ts';
import { AF_INET, AF_INET6, AF_UNSPEC, ENOENT } from '../../system/index.ts';
import { AttributeReader } from '../attribute-reader.ts';
import { NFNETLINK_V0, NFNL_SUBSYS_CTNETLINK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from '../constants.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import { NetlinkError } from '../netlink-error.ts';
import * as c from './constants.ts';
import {
  type ConntrackEntry,
  type ConntrackKey,
  decodeConntrack,
  TCP_CONNTRACK_STATES,
  type TcpConntrackState,
} from './entry.ts';
import { type ConntrackFilter, checkConntrackFilter, matchesConntrack, writeConntrackFilter } from './filter.ts';
import { type ConntrackTuple, checkCompleteTuple, writeTuple } from './tuple.ts';

/** Options of every call. */
export interface ConntrackOptions {
  readonly signal?: AbortSignal | undefined;
}

/** New value of a connection's mark. */
export interface ConntrackMark {
  readonly mark: number;
  /** Which bits are written; the others stay. Default: all. */
  readonly mask?: number;
}

/** A connection to be put into the table by hand: {@link addConntrack}. A {@link ConntrackEntry} is one. */
export interface ConntrackSpec extends ConntrackKey {
  /** Default: `original` the other way round. */
  readonly reply?: ConntrackTuple;
  /** Default 30. */
  readonly timeoutSeconds?: number;
  readonly mark?: number;
  /** TCP only. Default ESTABLISHED. */
  readonly tcpState?: TcpConntrackState;
}

/**
 * Connections of the namespace, filtered by the kernel as far as it can and here for the rest. A full table of 262,144 is 60 MB of
 * answers, more with IPv6 or counters: the socket needs a `maxReplyBytes` to match, or the call a filter.
 *
 * @throws {InvalidInputError} for the filter; {@link NetlinkError} `ERR_NETLINK_REPLY_LIMIT`
 */
export function listConntrack(
  netlink: Netlink,
  filter: ConntrackFilter = {},
  options: ConntrackOptions = {},
): ConntrackEntry[] {
  const op = 'conntrack.list';
  const checked = checkConntrackFilter(filter, op);
  const entries: ConntrackEntry[] = [];
  for (const { type, payload } of netlink.request(encodeListConntrack(checked), { op, ...options })) {
    const entry = type === messageType(c.IPCTNL_MSG_CT_NEW) ? decodeConntrack(payload) : undefined;
    if (entry !== undefined && matchesConntrack(entry, checked)) entries.push(entry);
  }
  return entries;
}

/** The dump request for a checked filter. */
export function encodeListConntrack(filter: ConntrackFilter): Buffer {
  const writer = begin(c.IPCTNL_MSG_CT_GET, NLM_F_DUMP, filter.family);
  writeConntrackFilter(writer, filter);
  return writer.end().finish();
}

/** One connection; undefined where it is not tracked. */
export function getConntrack(
  netlink: Netlink,
  key: ConntrackKey,
  options: ConntrackOptions = {},
): ConntrackEntry | undefined {
  const op = 'conntrack.get';
  const request = beginKey(c.IPCTNL_MSG_CT_GET, 0, key, op).end().finish();
  try {
    const answer = netlink.request(request, { op, ...options })[0];
    return answer === undefined ? undefined : decodeConntrack(answer.payload);
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === ENOENT) return undefined;
    throw error;
  }
}

/** @throws {InvalidInputError}; {@link NetlinkError} `EEXIST` */
export function addConntrack(netlink: Netlink, entry: ConntrackSpec, options: ConntrackOptions = {}): void {
  const op = 'conntrack.add';
  netlink.request(encodeAddConntrack(entry, op), { op, ...options });
}

/** The IPCTNL_MSG_CT_NEW that makes `entry`. @throws {InvalidInputError} */
export function encodeAddConntrack(entry: ConntrackSpec, op: string): Buffer {
  const writer = beginKey(c.IPCTNL_MSG_CT_NEW, NLM_F_CREATE | NLM_F_EXCL, entry, op);
  const reply = entry.reply ?? reversed(entry.original);
  checkCompleteTuple(reply, op, 'reply');
  writeTuple(writer, c.CTA_TUPLE_REPLY, reply);
  writer.attrU32be(c.CTA_TIMEOUT, whole(entry.timeoutSeconds ?? 30, 0x7fff_ffff, op, 'timeoutSeconds'));
  if (entry.mark !== undefined) writer.attrU32be(c.CTA_MARK, whole(entry.mark, 0xffff_ffff, op, 'mark'));
  if (entry.original.protocol === 6) {
    const state = TCP_CONNTRACK_STATES.indexOf(entry.tcpState ?? 'ESTABLISHED');
    if (state < 0) throw invalid(op, 'tcpState', `is none of ${TCP_CONNTRACK_STATES.join(', ')}`);
    writer.nest(c.CTA_PROTOINFO, () =>
      writer.nest(c.CTA_PROTOINFO_TCP, () => {
        // IP_CT_TCP_FLAG_SACK_PERM and _BE_LIBERAL, value and mask: nothing is known of the sequence numbers.
        const liberal = Uint8Array.of(10, 10);
        writer
          .attrU8(c.CTA_PROTOINFO_TCP_STATE, state)
          .attrBytes(c.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, liberal)
          .attrBytes(c.CTA_PROTOINFO_TCP_FLAGS_REPLY, liberal);
      }),
    );
  }
  return writer.end().finish();
}

/** Writes a connection's mark. @throws {InvalidInputError}; {@link NetlinkError} `ENOENT` where it is not tracked */
export function setConntrackMark(
  netlink: Netlink,
  key: ConntrackKey,
  change: ConntrackMark,
  options: ConntrackOptions = {},
): void {
  const op = 'conntrack.setMark';
  netlink.request(encodeSetMark(key, change, op), { op, ...options });
}

/** The IPCTNL_MSG_CT_NEW that changes a mark. @throws {InvalidInputError} */
export function encodeSetMark(key: ConntrackKey, change: ConntrackMark, op: string): Buffer {
  const writer = beginKey(c.IPCTNL_MSG_CT_NEW, 0, key, op);
  writer.attrU32be(c.CTA_MARK, whole(change.mark, 0xffff_ffff, op, 'change.mark'));
  if (change.mask !== undefined) {
    writer.attrU32be(c.CTA_MARK_MASK, whole(change.mask, 0xffff_ffff, op, 'change.mask'));
  }
  return writer.end().finish();
}

/**
 * Writes the mark of every connection that the filter matches, as `conntrack -U -s POD -m 0x220/0x220`. One that ends meanwhile is
 * passed over.
 *
 * @returns how many were written
 */
export function setConntrackMarks(
  netlink: Netlink,
  filter: ConntrackFilter,
  change: ConntrackMark,
  options: ConntrackOptions = {},
): number {
  let written = 0;
  for (const entry of listConntrack(netlink, filter, options)) {
    try {
      setConntrackMark(netlink, entry, change, options);
      written++;
    } catch (error) {
      if (!(error instanceof NetlinkError) || error.errno !== ENOENT) throw error;
    }
  }
  return written;
}

/**
 * Forgets one connection: its next packet is new.
 *
 * @throws {InvalidInputError}; {@link NetlinkError} `ENOENT` where it is not tracked, unless `missingOk`
 */
export function deleteConntrack(
  netlink: Netlink,
  key: ConntrackKey,
  options: ConntrackOptions & { readonly missingOk?: boolean } = {},
): void {
  const op = 'conntrack.delete';
  // The tuple is checked to be there: without one the kernel empties the whole table.
  const writer = beginKey(c.IPCTNL_MSG_CT_DELETE, 0, key, op);
  if (key.id !== undefined) writer.attrU32be(c.CTA_ID, whole(key.id, 0xffff_ffff, op, 'key.id'));
  try {
    netlink.request(writer.end().finish(), { op, signal: options.signal });
  } catch (error) {
    const isMissing = error instanceof NetlinkError && error.errno === ENOENT;
    if (options.missingOk !== true || !isMissing) throw error;
  }
}

/** How many connections are tracked, and how many there is room for (`net.netfilter.nf_conntrack_max`). */
export function conntrackUsage(netlink: Netlink, options: ConntrackOptions = {}): { entries: number; limit: number } {
  const request = begin(c.IPCTNL_MSG_CT_GET_STATS, 0, undefined).end().finish();
  const usage = { entries: 0, limit: 0 };
  for (const { payload } of netlink.request(request, { op: 'conntrack.usage', ...options })) {
    const reader = new AttributeReader(payload, 4);
    while (reader.next()) {
      if (reader.type === c.CTA_STATS_GLOBAL_ENTRIES) usage.entries = reader.u32be();
      else if (reader.type === c.CTA_STATS_GLOBAL_MAX_ENTRIES) usage.limit = reader.u32be();
    }
    reader.check();
  }
  return usage;
}

function messageType(message: number): number {
  return (NFNL_SUBSYS_CTNETLINK << 8) | message;
}

/** nlmsghdr and `struct nfgenmsg`. */
function begin(message: number, flags: number, family: 4 | 6 | undefined): MessageWriter {
  const writer = new MessageWriter().begin(messageType(message), flags);
  return writer
    .u8(family === 4 ? AF_INET : family === 6 ? AF_INET6 : AF_UNSPEC)
    .u8(NFNETLINK_V0)
    .u16be(0);
}

function beginKey(message: number, flags: number, key: ConntrackKey, op: string): MessageWriter {
  const writer = begin(message, flags, checkCompleteTuple(key.original, op, 'original'));
  writeTuple(writer, c.CTA_TUPLE_ORIG, key.original);
  if (key.zone !== undefined && key.zone !== 0) writer.attrU16be(c.CTA_ZONE, whole(key.zone, 0xffff, op, 'zone'));
  return writer;
}

function reversed(tuple: ConntrackTuple): ConntrackTuple {
  const { source, destination, protocol, sourcePort, destinationPort, icmp } = tuple;
  return {
    source: destination,
    destination: source,
    protocol,
    ...(destinationPort === undefined ? {} : { sourcePort: destinationPort }),
    ...(sourcePort === undefined ? {} : { destinationPort: sourcePort }),
    ...(icmp === undefined ? {} : { icmp: { ...icmp, type: ICMP_ANSWERS.get(icmp.type) ?? icmp.type } }),
  };
}

/** Echo, of ICMP and ICMPv6: the request's answer and back. */
const ICMP_ANSWERS: ReadonlyMap<number, number> = new Map([
  [8, 0],
  [0, 8],
  [128, 129],
  [129, 128],
]);

function whole(value: number, max: number, op: string, field: string): number {
  if (Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw invalid(op, field, `${value} is no whole number from 0 to ${max}`);
}

function invalid(op: string, field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_NETLINK_INVALID', op, field, message });
}
