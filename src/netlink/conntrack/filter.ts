import { InvalidInputError } from '../../errors/index.ts';
import { canonicalIp } from '../../ip/index.ts';
import type { MessageWriter } from '../message-writer.ts';
import * as c from './constants.ts';
import type { ConntrackEntry } from './entry.ts';
import { type ConntrackTuple, checkTuple, hasPorts, writeTuple } from './tuple.ts';

/** Which connections: those that agree with every field that is given. */
export interface ConntrackFilter {
  readonly family?: 4 | 6;
  readonly original?: Partial<ConntrackTuple>;
  readonly reply?: Partial<ConntrackTuple>;
  readonly mark?: number;
  /** Which bits of the mark are compared. Default: all, where `mark` is given. */
  readonly markMask?: number;
  /** IPS_… bits that must all be set. */
  readonly status?: number;
  readonly zone?: number;
}

/**
 * The filter with its addresses in canonical form and the family that follows from them.
 *
 * @throws {InvalidInputError} `ERR_NETLINK_INVALID`; {@link InvalidIpError} `ERR_IP_ADDRESS`
 */
export function checkConntrackFilter(filter: ConntrackFilter, op: string): ConntrackFilter {
  const invalid = (field: string, message: string) =>
    new InvalidInputError({ code: 'ERR_NETLINK_INVALID', op, field: `filter.${field}`, message });
  for (const field of ['mark', 'markMask', 'status', 'zone'] as const) {
    const value = filter[field];
    const max = field === 'zone' ? 0xffff : 0xffff_ffff;
    if (value === undefined || (Number.isInteger(value) && value >= 0 && value <= max)) continue;
    throw invalid(field, `${value} is no whole number from 0 to ${max}`);
  }
  let family = filter.family;
  for (const side of ['original', 'reply'] as const) {
    const tuple = filter[side];
    const found = tuple === undefined ? undefined : checkTuple(tuple, op, `filter.${side}`);
    if (found !== undefined && family !== undefined && found !== family) {
      throw invalid(side, `is IPv${found} where the filter is IPv${family}`);
    }
    family ??= found;
  }
  return {
    ...filter,
    ...(family === undefined ? {} : { family }),
    ...(filter.original === undefined ? {} : { original: canonical(filter.original) }),
    ...(filter.reply === undefined ? {} : { reply: canonical(filter.reply) }),
  };
}

function canonical(tuple: Partial<ConntrackTuple>): Partial<ConntrackTuple> {
  return {
    ...tuple,
    ...(tuple.source === undefined ? {} : { source: canonicalIp(tuple.source) }),
    ...(tuple.destination === undefined ? {} : { destination: canonicalIp(tuple.destination) }),
  };
}

/**
 * Writes as much of the filter as the kernel applies rightly. One that is too old for a part of it (CTA_FILTER: before 5.8) ignores
 * that part, so {@link matchesConntrack} still has to be asked.
 */
export function writeConntrackFilter(writer: MessageWriter, filter: ConntrackFilter): void {
  const { mark, markMask } = filter;
  if (mark !== undefined || markMask !== undefined) {
    writer.attrU32be(c.CTA_MARK, mark ?? 0).attrU32be(c.CTA_MARK_MASK, markMask ?? 0xffff_ffff);
  }
  // The kernel answers EOPNOTSUPP to a tuple without a family.
  if (filter.family === undefined) return;
  const original = filterable(filter.original, filter.family);
  const reply = filterable(filter.reply, filter.family);
  const originalFlags = filterFlags(original);
  const replyFlags = filterFlags(reply);
  if (originalFlags === 0 && replyFlags === 0) return;
  if (originalFlags !== 0) writeTuple(writer, c.CTA_TUPLE_ORIG, original);
  if (replyFlags !== 0) writeTuple(writer, c.CTA_TUPLE_REPLY, reply);
  writer.nest(c.CTA_FILTER, () => {
    // Host byte order, unlike everything else in nfnetlink.
    writer.attrU32(c.CTA_FILTER_ORIG_FLAGS, originalFlags).attrU32(c.CTA_FILTER_REPLY_FLAGS, replyFlags);
  });
}

/** The part of a tuple that the kernel can compare. */
function filterable(tuple: Partial<ConntrackTuple> | undefined, family: 4 | 6): Partial<ConntrackTuple> {
  if (tuple === undefined) return {};
  const part: { -readonly [K in keyof ConntrackTuple]?: ConntrackTuple[K] } = {};
  // For IPv6 it gives the connections whose address is another one (ctnetlink_filter_match_tuple, seen on 6.18).
  if (family === 4) {
    if (tuple.source !== undefined) part.source = tuple.source;
    if (tuple.destination !== undefined) part.destination = tuple.destination;
  }
  if (tuple.protocol === undefined) return part;
  part.protocol = tuple.protocol;
  if (hasPorts(tuple.protocol)) {
    if (tuple.sourcePort !== undefined) part.sourcePort = tuple.sourcePort;
    if (tuple.destinationPort !== undefined) part.destinationPort = tuple.destinationPort;
  }
  return part;
}

function filterFlags(tuple: Partial<ConntrackTuple>): number {
  return (
    (tuple.source === undefined ? 0 : c.CTA_FILTER_F_CTA_IP_SRC) |
    (tuple.destination === undefined ? 0 : c.CTA_FILTER_F_CTA_IP_DST) |
    (tuple.protocol === undefined ? 0 : c.CTA_FILTER_F_CTA_PROTO_NUM) |
    (tuple.sourcePort === undefined ? 0 : c.CTA_FILTER_F_CTA_PROTO_SRC_PORT) |
    (tuple.destinationPort === undefined ? 0 : c.CTA_FILTER_F_CTA_PROTO_DST_PORT)
  );
}

/** Whether a connection agrees with every field of the filter. */
export function matchesConntrack(entry: ConntrackEntry, filter: ConntrackFilter): boolean {
  if (filter.family !== undefined && entry.family !== filter.family) return false;
  if (filter.zone !== undefined && entry.zone !== filter.zone) return false;
  if (filter.status !== undefined && ((entry.status & filter.status) ^ filter.status) !== 0) return false;
  if (filter.mark !== undefined || filter.markMask !== undefined) {
    const mask = filter.markMask ?? 0xffff_ffff;
    if (((entry.mark ^ (filter.mark ?? 0)) & mask) !== 0) return false;
  }
  return matchesTuple(entry.original, filter.original) && matchesTuple(entry.reply, filter.reply);
}

function matchesTuple(tuple: ConntrackTuple, filter: Partial<ConntrackTuple> | undefined): boolean {
  if (filter === undefined) return true;
  const { icmp } = filter;
  if (icmp !== undefined) {
    const own = tuple.icmp;
    if (own === undefined || own.type !== icmp.type || own.code !== icmp.code || own.id !== icmp.id) return false;
  }
  return (
    (filter.source === undefined || filter.source === tuple.source) &&
    (filter.destination === undefined || filter.destination === tuple.destination) &&
    (filter.protocol === undefined || filter.protocol === tuple.protocol) &&
    (filter.sourcePort === undefined || filter.sourcePort === tuple.sourcePort) &&
    (filter.destinationPort === undefined || filter.destinationPort === tuple.destinationPort)
  );
}
