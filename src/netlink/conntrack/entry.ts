import { AF_INET, AF_INET6 } from '../../system/index.ts';
import { AttributeReader } from '../attribute-reader.ts';
import * as c from './constants.ts';
import { type ConntrackTuple, readTuple } from './tuple.ts';

/** State of a tracked TCP connection, as `conntrack` prints it. */
export const TCP_CONNTRACK_STATES = [
  'NONE',
  'SYN_SENT',
  'SYN_RECV',
  'ESTABLISHED',
  'FIN_WAIT',
  'CLOSE_WAIT',
  'LAST_ACK',
  'TIME_WAIT',
  'CLOSE',
  'SYN_SENT2',
] as const;
export type TcpConntrackState = (typeof TCP_CONNTRACK_STATES)[number];

/** Names a connection in the table. A {@link ConntrackEntry} is one. */
export interface ConntrackKey {
  /** As the first packet looked, before any NAT. */
  readonly original: ConntrackTuple;
  /** Conntrack zone, default 0. */
  readonly zone?: number;
  /** Tells this connection from a later one with the same tuple. */
  readonly id?: number;
}

/** Packets and bytes of one direction, counted where `net.netfilter.nf_conntrack_acct` is 1. Exact below 2^53. */
export interface ConntrackCounters {
  readonly packets: number;
  readonly bytes: number;
}

/** One tracked connection. */
export interface ConntrackEntry extends ConntrackKey {
  readonly family: 4 | 6;
  /** As the answers are expected to look, after any NAT. */
  readonly reply: ConntrackTuple;
  /** IPS_… bits; {@link conntrackStatusNames} spells them. */
  readonly status: number;
  readonly mark: number;
  /** When it is forgotten, should nothing more come. The kernel counts in seconds. Absent once the entry is offloaded. */
  readonly timeoutSeconds?: number;
  readonly zone: number;
  readonly id: number;
  readonly tcpState?: TcpConntrackState;
  readonly originalCounters?: ConntrackCounters;
  readonly replyCounters?: ConntrackCounters;
}

const STATUS_NAMES: readonly (readonly [number, string])[] = [
  [c.IPS_EXPECTED, 'EXPECTED'],
  [c.IPS_SEEN_REPLY, 'SEEN_REPLY'],
  [c.IPS_ASSURED, 'ASSURED'],
  [c.IPS_CONFIRMED, 'CONFIRMED'],
  [c.IPS_SRC_NAT, 'SRC_NAT'],
  [c.IPS_DST_NAT, 'DST_NAT'],
  [c.IPS_SEQ_ADJUST, 'SEQ_ADJUST'],
  [c.IPS_SRC_NAT_DONE, 'SRC_NAT_DONE'],
  [c.IPS_DST_NAT_DONE, 'DST_NAT_DONE'],
  [c.IPS_DYING, 'DYING'],
  [c.IPS_FIXED_TIMEOUT, 'FIXED_TIMEOUT'],
  [c.IPS_HELPER, 'HELPER'],
  [c.IPS_OFFLOAD, 'OFFLOAD'],
  [c.IPS_HW_OFFLOAD, 'HW_OFFLOAD'],
];

/** `['SEEN_REPLY', 'ASSURED', 'CONFIRMED']` for 14: the kernel's names without IPS_. */
export function conntrackStatusNames(status: number): string[] {
  return STATUS_NAMES.filter(([bit]) => (status & bit) !== 0).map(([, name]) => name);
}

/**
 * Reads the payload of an IPCTNL_MSG_CT_NEW, from its `struct nfgenmsg` on; undefined for a family that is neither IPv4 nor IPv6.
 *
 * @throws {NetlinkError} `ERR_NETLINK_MALFORMED`
 */
export function decodeConntrack(payload: Buffer): ConntrackEntry | undefined {
  const reader = new AttributeReader(payload, 4);
  reader.check();
  const family = payload[0] === AF_INET ? 4 : payload[0] === AF_INET6 ? 6 : undefined;
  if (family === undefined) return undefined;
  let original: ConntrackTuple | undefined;
  let reply: ConntrackTuple | undefined;
  let status = 0;
  let mark = 0;
  let timeoutSeconds: number | undefined;
  let zone = 0;
  let id = 0;
  let tcpState: TcpConntrackState | undefined;
  let originalCounters: ConntrackCounters | undefined;
  let replyCounters: ConntrackCounters | undefined;
  while (reader.next()) {
    switch (reader.type) {
      case c.CTA_TUPLE_ORIG: {
        const read = readTuple(reader.nested());
        original = read.tuple;
        zone = read.zone ?? zone;
        break;
      }
      case c.CTA_TUPLE_REPLY:
        reply = readTuple(reader.nested()).tuple;
        break;
      case c.CTA_STATUS:
        status = reader.u32be();
        break;
      case c.CTA_MARK:
        mark = reader.u32be();
        break;
      case c.CTA_TIMEOUT:
        timeoutSeconds = reader.u32be();
        break;
      case c.CTA_ZONE:
        zone = reader.u16be();
        break;
      case c.CTA_ID:
        id = reader.u32be();
        break;
      case c.CTA_PROTOINFO:
        tcpState = readTcpState(reader.nested());
        break;
      case c.CTA_COUNTERS_ORIG:
        originalCounters = readCounters(reader.nested());
        break;
      case c.CTA_COUNTERS_REPLY:
        replyCounters = readCounters(reader.nested());
        break;
    }
  }
  reader.check();
  if (original === undefined || reply === undefined) return undefined;
  return {
    family,
    original,
    reply,
    status,
    mark,
    zone,
    id,
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    ...(tcpState === undefined ? {} : { tcpState }),
    ...(originalCounters === undefined ? {} : { originalCounters }),
    ...(replyCounters === undefined ? {} : { replyCounters }),
  };
}

function readTcpState(reader: AttributeReader): TcpConntrackState | undefined {
  let state: TcpConntrackState | undefined;
  while (reader.next()) {
    if (reader.type !== c.CTA_PROTOINFO_TCP) continue;
    const tcp = reader.nested();
    while (tcp.next()) if (tcp.type === c.CTA_PROTOINFO_TCP_STATE) state = TCP_CONNTRACK_STATES[tcp.u8()];
  }
  return state;
}

function readCounters(reader: AttributeReader): ConntrackCounters {
  let packets = 0;
  let bytes = 0;
  while (reader.next()) {
    if (reader.type === c.CTA_COUNTERS_PACKETS) packets = reader.u64beNumber();
    else if (reader.type === c.CTA_COUNTERS_BYTES) bytes = reader.u64beNumber();
  }
  return { packets, bytes };
}
