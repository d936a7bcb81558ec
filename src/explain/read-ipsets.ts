import type { Netlink } from '../netlink/index.ts';
import { getSet } from '../netlink/ipset/index.ts';
import type { InstalledRule } from '../netlink/nftables/index.ts';
import {
  AF_INET,
  check,
  FileDescriptor,
  IPPROTO_IP,
  IPPROTO_RAW,
  libc,
  SOCK_CLOEXEC,
  SOCK_RAW,
} from '../system/index.ts';
import { readForeign } from './foreign-expression.ts';
import type { ViewIpset } from './kernel-view.ts';

// <linux/netfilter/ipset/ip_set.h>: the socket option by which iptables turns a set's number into its name
const SO_IP_SET = 83;
const IP_SET_OP_GET_BYINDEX = 7;
const IPSET_PROTOCOL = 7;
const IPSET_MAXNAMELEN = 32;
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

/** Reads ipsets with their addresses. The thread must be in their namespace, as `netlink` is. */
export function readIpsets(netlink: Netlink, numbers: readonly number[]): ViewIpset[] {
  if (numbers.length === 0) return [];
  const socket = check(libc().socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW), 'socket');
  using descriptor = new FileDescriptor(socket, 'ipset');
  return numbers.flatMap((index) => {
    const name = nameOf(descriptor.fd, index);
    const set = name === undefined ? undefined : getSet(netlink, name);
    if (set === undefined) return [];
    const { type, family } = set;
    const members = type === 'hash:ip' ? { members: set.members.map(({ ip }) => ip) } : {};
    return [{ index, name: set.name, type, family, ...members }];
  });
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
