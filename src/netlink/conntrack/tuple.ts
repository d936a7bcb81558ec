import { InvalidInputError } from '../../errors/index.ts';
import { ipBytes, parseIp } from '../../ip/index.ts';
import { IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP } from '../../system/index.ts';
import type { AttributeReader } from '../attribute-reader.ts';
import type { MessageWriter } from '../message-writer.ts';
import * as c from './constants.ts';

export const IPPROTO_ICMPV6 = 58;
const IPPROTO_DCCP = 33;
const IPPROTO_SCTP = 132;
const IPPROTO_UDPLITE = 136;

/** One direction of a connection, as its packets look. */
export interface ConntrackTuple {
  readonly source: string;
  readonly destination: string;
  /** Number of the transport protocol: 6 for TCP. */
  readonly protocol: number;
  /** TCP, UDP, SCTP, DCCP and UDP-Lite. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** ICMP and ICMPv6. */
  readonly icmp?: { readonly type: number; readonly code: number; readonly id: number };
}

/** Whether a protocol has ports. */
export function hasPorts(protocol: number): boolean {
  return (
    protocol === IPPROTO_TCP ||
    protocol === IPPROTO_UDP ||
    protocol === IPPROTO_SCTP ||
    protocol === IPPROTO_DCCP ||
    protocol === IPPROTO_UDPLITE
  );
}

/**
 * The family of a tuple, of which every field is checked.
 *
 * @param path - where the tuple is in the caller's input
 * @throws {InvalidInputError} `ERR_NETLINK_INVALID`; {@link InvalidIpError} `ERR_IP_ADDRESS`
 */
export function checkTuple(tuple: Partial<ConntrackTuple>, op: string, path: string): 4 | 6 | undefined {
  const invalid = (field: string, message: string) =>
    new InvalidInputError({ code: 'ERR_NETLINK_INVALID', op, field: `${path}.${field}`, message });
  const number = (value: number | undefined, max: number, field: string) => {
    if (value === undefined || (Number.isInteger(value) && value >= 0 && value <= max)) return;
    throw invalid(field, `${value} is no whole number from 0 to ${max}`);
  };
  number(tuple.protocol, 255, 'protocol');
  number(tuple.sourcePort, 65535, 'sourcePort');
  number(tuple.destinationPort, 65535, 'destinationPort');
  number(tuple.icmp?.type, 255, 'icmp.type');
  number(tuple.icmp?.code, 255, 'icmp.code');
  number(tuple.icmp?.id, 65535, 'icmp.id');
  const source = tuple.source === undefined ? undefined : parseIp(tuple.source, `${path}.source`).family;
  const destination =
    tuple.destination === undefined ? undefined : parseIp(tuple.destination, `${path}.destination`).family;
  if (source !== undefined && destination !== undefined && source !== destination) {
    throw invalid('destination', `is IPv${destination}, the source IPv${source}`);
  }
  return source ?? destination;
}

/**
 * A tuple that names a connection: complete for its protocol.
 *
 * @throws {InvalidInputError} `ERR_NETLINK_INVALID`
 */
export function checkCompleteTuple(tuple: ConntrackTuple, op: string, path: string): 4 | 6 {
  const family = checkTuple(tuple, op, path);
  const missing = (field: string) =>
    new InvalidInputError({ code: 'ERR_NETLINK_INVALID', op, field: `${path}.${field}`, message: 'is needed' });
  if (tuple.source === undefined || family === undefined) throw missing('source');
  if (tuple.destination === undefined) throw missing('destination');
  if (tuple.protocol === undefined) throw missing('protocol');
  if (hasPorts(tuple.protocol)) {
    if (tuple.sourcePort === undefined) throw missing('sourcePort');
    if (tuple.destinationPort === undefined) throw missing('destinationPort');
  }
  return family;
}

/** Writes CTA_TUPLE_ORIG or CTA_TUPLE_REPLY with the fields there are; {@link checkTuple} has seen them. */
export function writeTuple(writer: MessageWriter, type: number, tuple: Partial<ConntrackTuple>): void {
  writer.nest(type, () => {
    if (tuple.source !== undefined || tuple.destination !== undefined) {
      writer.nest(c.CTA_TUPLE_IP, () => {
        writeAddress(writer, tuple.source, c.CTA_IP_V4_SRC, c.CTA_IP_V6_SRC);
        writeAddress(writer, tuple.destination, c.CTA_IP_V4_DST, c.CTA_IP_V6_DST);
      });
    }
    const { protocol, sourcePort, destinationPort, icmp } = tuple;
    if (protocol === undefined) return;
    writer.nest(c.CTA_TUPLE_PROTO, () => {
      writer.attrU8(c.CTA_PROTO_NUM, protocol);
      if (sourcePort !== undefined) writer.attrU16be(c.CTA_PROTO_SRC_PORT, sourcePort);
      if (destinationPort !== undefined) writer.attrU16be(c.CTA_PROTO_DST_PORT, destinationPort);
      if (icmp !== undefined && protocol === IPPROTO_ICMP) {
        writer.attrU16be(c.CTA_PROTO_ICMP_ID, icmp.id);
        writer.attrU8(c.CTA_PROTO_ICMP_TYPE, icmp.type).attrU8(c.CTA_PROTO_ICMP_CODE, icmp.code);
      } else if (icmp !== undefined && protocol === IPPROTO_ICMPV6) {
        writer.attrU16be(c.CTA_PROTO_ICMPV6_ID, icmp.id);
        writer.attrU8(c.CTA_PROTO_ICMPV6_TYPE, icmp.type).attrU8(c.CTA_PROTO_ICMPV6_CODE, icmp.code);
      }
    });
  });
}

function writeAddress(writer: MessageWriter, text: string | undefined, v4: number, v6: number): void {
  if (text === undefined) return;
  const ip = parseIp(text);
  writer.attrBytes(ip.family === 4 ? v4 : v6, ipBytes(ip));
}

/** Reads what is inside CTA_TUPLE_ORIG or CTA_TUPLE_REPLY, and CTA_TUPLE_ZONE where a direction has a zone of its own. */
export function readTuple(reader: AttributeReader): { tuple: ConntrackTuple; zone: number | undefined } {
  const tuple: { -readonly [K in keyof ConntrackTuple]: ConntrackTuple[K] } = {
    source: '',
    destination: '',
    protocol: 0,
  };
  let zone: number | undefined;
  while (reader.next()) {
    if (reader.type === c.CTA_TUPLE_IP) {
      const ip = reader.nested();
      while (ip.next()) {
        const text = ip.ip();
        if (ip.type === c.CTA_IP_V4_SRC || ip.type === c.CTA_IP_V6_SRC) tuple.source = text;
        else if (ip.type === c.CTA_IP_V4_DST || ip.type === c.CTA_IP_V6_DST) tuple.destination = text;
      }
    } else if (reader.type === c.CTA_TUPLE_PROTO) readProtocol(reader.nested(), tuple);
    else if (reader.type === c.CTA_TUPLE_ZONE) zone = reader.u16be();
  }
  return { tuple, zone };
}

function readProtocol(
  reader: AttributeReader,
  tuple: { -readonly [K in keyof ConntrackTuple]: ConntrackTuple[K] },
): void {
  const icmp = { type: -1, code: 0, id: 0 };
  while (reader.next()) {
    switch (reader.type) {
      case c.CTA_PROTO_NUM:
        tuple.protocol = reader.u8();
        break;
      case c.CTA_PROTO_SRC_PORT:
        tuple.sourcePort = reader.u16be();
        break;
      case c.CTA_PROTO_DST_PORT:
        tuple.destinationPort = reader.u16be();
        break;
      case c.CTA_PROTO_ICMP_ID:
      case c.CTA_PROTO_ICMPV6_ID:
        icmp.id = reader.u16be();
        break;
      case c.CTA_PROTO_ICMP_TYPE:
      case c.CTA_PROTO_ICMPV6_TYPE:
        icmp.type = reader.u8();
        break;
      case c.CTA_PROTO_ICMP_CODE:
      case c.CTA_PROTO_ICMPV6_CODE:
        icmp.code = reader.u8();
        break;
    }
  }
  if (icmp.type >= 0) tuple.icmp = icmp;
}
