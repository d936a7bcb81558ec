import { AF_UNSPEC } from '../../system/index.ts';
import { AttributeReader } from '../attribute-reader.ts';
import { NLM_F_DUMP } from '../constants.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import * as c from './constants.ts';
import type { NamespaceReference } from './link-model.ts';

// <linux/net_namespace.h>
const RTM_NEWNSID = 88;
const RTM_GETNSID = 90;
const RTGENMSG_BYTES = 4;
const NETNSA_NSID = 1;
const NETNSA_FD = 3;

/**
 * The numbers by which a namespace knows other namespaces, for each link whose other end is in one (IFLA_LINK_NETNSID), by the link's
 * index. The kernel gives out a number the first time that it is asked for.
 */
export function linkNamespaceIds(netlink: Netlink): Map<number, number> {
  const writer = new MessageWriter().begin(c.RTM_GETLINK, NLM_F_DUMP);
  writer.bytes(new Uint8Array(c.IFINFOMSG_BYTES)).attrU32(c.IFLA_EXT_MASK, c.RTEXT_FILTER_SKIP_STATS);
  const ids = new Map<number, number>();
  for (const { type, payload } of netlink.request(writer.end().finish(), { op: 'route.linkNamespaceIds' })) {
    if (type !== c.RTM_NEWLINK) continue;
    const reader = new AttributeReader(payload, c.IFINFOMSG_BYTES);
    while (reader.next()) if (reader.type === c.IFLA_LINK_NETNSID) ids.set(payload.readInt32LE(4), reader.s32());
    reader.check();
  }
  return ids;
}

/** The number by which the socket's namespace knows another one; undefined where it does not. */
export function namespaceId(netlink: Netlink, namespace: NamespaceReference): number | undefined {
  const writer = new MessageWriter({ initialBytes: 64 }).begin(RTM_GETNSID, 0);
  writer.u8(AF_UNSPEC).u8(0).u16(0).attrU32(NETNSA_FD, namespace.fd);
  for (const { type, payload } of netlink.request(writer.end().finish(), { op: 'route.namespaceId' })) {
    if (type !== RTM_NEWNSID) continue;
    const reader = new AttributeReader(payload, RTGENMSG_BYTES);
    while (reader.next()) {
      // -1: none has been given out.
      if (reader.type === NETNSA_NSID) return reader.s32() < 0 ? undefined : reader.s32();
    }
  }
  return undefined;
}
