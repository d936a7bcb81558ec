import { AttributeReader, type Netlink, NLM_F_DUMP } from '../netlink/index.ts';
import {
  IPSET_ATTR_ADT,
  IPSET_ATTR_CADT_FLAGS,
  IPSET_ATTR_DATA,
  IPSET_ATTR_FAMILY,
  IPSET_ATTR_IP,
  IPSET_ATTR_TYPENAME,
  IPSET_CMD_LIST,
  IPSET_MAXNAMELEN,
  IPSET_PROTOCOL,
} from '../netlink/ipset/constants.ts';
import { beginMessage } from '../netlink/ipset/message.ts';
import type { InstalledRule } from '../netlink/nftables/index.ts';
import {
  AF_INET,
  AF_INET6,
  check,
  FileDescriptor,
  IPPROTO_IP,
  IPPROTO_RAW,
  libc,
  SOCK_CLOEXEC,
  SOCK_RAW,
} from '../system/index.ts';
import { readForeign } from './foreign-expression.ts';
import type { IpsetMember, ViewIpset } from './kernel-view.ts';

// <linux/netfilter/ipset/ip_set.h>: the socket option by which iptables turns a set's number into its name
const SO_IP_SET = 83;
const IP_SET_OP_GET_BYINDEX = 7;
const NFGENMSG_BYTES = 4;
// Attributes of members and of a set's header, and a flag
const IPSET_ATTR_CIDR = 3;
const IPSET_ATTR_PORT = 4;
const IPSET_ATTR_PROTO = 7;
const IPSET_ATTR_IP2 = 20;
const IPSET_ATTR_CIDR2 = 21;
const IPSET_ATTR_NETMASK = 20;
const IPSET_FLAG_NOMATCH = 4;
/** `ip_set_id_t` of no set. */
const IPSET_INVALID_ID = 0xffff;

/** The numbers of the ipsets that rules ask. */
export function ipsetNumbers(rules: readonly InstalledRule[]): number[] {
  const numbers = new Set<number>();
  for (const { expressions } of rules) {
    for (const expression of expressions) {
      if (expression.type !== 'opaque') continue;
      const foreign = readForeign(expression);
      if (foreign.type === 'match' && foreign.name === 'set' && foreign.info.length >= 4) {
        numbers.add(foreign.info.readUInt16LE(0));
      }
    }
  }
  return [...numbers];
}

/** Reads ipsets with their members. The thread must be in their namespace, as `netlink` is. */
export function readIpsets(netlink: Netlink, numbers: readonly number[]): ViewIpset[] {
  if (numbers.length === 0) return [];
  const socket = check(libc().socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW), 'socket');
  using descriptor = new FileDescriptor(socket, 'ipset');
  return numbers.flatMap((index) => {
    const name = nameOf(descriptor.fd, index);
    return name === undefined ? [] : [{ index, ...readIpset(netlink, name) }];
  });
}

function readIpset(netlink: Netlink, name: string): Omit<ViewIpset, 'index'> {
  const message = beginMessage(IPSET_CMD_LIST, NLM_F_DUMP, name).end().finish();
  let type = '';
  let family: 4 | 6 = 4;
  let netmask: number | undefined;
  const members: IpsetMember[] = [];
  for (const { payload } of netlink.request(message, { op: 'explain.readIpsets' })) {
    const reader = new AttributeReader(payload, NFGENMSG_BYTES);
    while (reader.next()) {
      if (reader.type === IPSET_ATTR_TYPENAME) type = reader.string();
      else if (reader.type === IPSET_ATTR_FAMILY) family = reader.u8() === AF_INET6 ? 6 : 4;
      else if (reader.type === IPSET_ATTR_DATA) netmask ??= netmaskOf(reader.nested());
      else if (reader.type === IPSET_ATTR_ADT) {
        const list = reader.nested();
        while (list.next()) members.push(decodeMember(list.nested(), netmask));
      }
    }
    reader.check();
  }
  return { name, type, family, ...(isReadable(type) ? { members } : {}) };
}

/** Whether a type has addresses, ranges and ports only: `hash:net,port`. */
function isReadable(type: string): boolean {
  return /^(hash|bitmap):(ip|net|port)(,(ip|net|port))*$/.test(type);
}

function netmaskOf(header: AttributeReader): number | undefined {
  while (header.next()) if (header.type === IPSET_ATTR_NETMASK) return header.u8();
  return undefined;
}

function decodeMember(reader: AttributeReader, netmask: number | undefined): IpsetMember {
  const ranges: string[] = [];
  const addresses: [string | undefined, string | undefined] = [undefined, undefined];
  const lengths: [number | undefined, number | undefined] = [netmask, undefined];
  let port: number | undefined;
  let protocol: number | undefined;
  let flags = 0;
  while (reader.next()) {
    if (reader.type === IPSET_ATTR_IP) addresses[0] = addressIn(reader.nested());
    else if (reader.type === IPSET_ATTR_IP2) addresses[1] = addressIn(reader.nested());
    else if (reader.type === IPSET_ATTR_CIDR) lengths[0] = reader.u8();
    else if (reader.type === IPSET_ATTR_CIDR2) lengths[1] = reader.u8();
    else if (reader.type === IPSET_ATTR_PORT) port = reader.u16be();
    else if (reader.type === IPSET_ATTR_PROTO) protocol = reader.u8();
    else if (reader.type === IPSET_ATTR_CADT_FLAGS) flags = reader.u32be();
  }
  for (const [i, address] of addresses.entries()) {
    if (address !== undefined) ranges.push(`${address}/${lengths[i] ?? (address.includes(':') ? 128 : 32)}`);
  }
  return {
    ranges,
    ...(port === undefined ? {} : { port }),
    ...(protocol === undefined ? {} : { protocol }),
    ...((flags & IPSET_FLAG_NOMATCH) === 0 ? {} : { isExcluded: true }),
  };
}

function addressIn(data: AttributeReader): string | undefined {
  return data.next() ? data.ip() : undefined;
}

/** `struct ip_set_req_get_set { unsigned op, version; union { char name[32]; u16 index } }` */
function nameOf(fd: number, index: number): string | undefined {
  const request = Buffer.alloc(8 + IPSET_MAXNAMELEN);
  request.writeUInt32LE(IP_SET_OP_GET_BYINDEX, 0);
  request.writeUInt32LE(IPSET_PROTOCOL, 4);
  request.writeUInt16LE(index, 8);
  const length = Int32Array.of(request.length);
  if (libc().getsockopt(fd, IPPROTO_IP, SO_IP_SET, request, length) !== 0) return undefined;
  const name = request.toString('latin1', 8).replace(/\0.*$/s, '');
  return name === '' || index === IPSET_INVALID_ID ? undefined : name;
}
