/**
 * Sets of addresses that iptables' rules look up, what `ipset` does: create, fill, list, swap, flush, destroy; type hash:ip, IPv4 and
 * IPv6, with comments. (nftables has sets of its own: `netlink/nftables`.)
 *
 * ```ts
 * import { openNetlink } from 'ambient-kit/netlink';
 * import { addMember, createSet, getSet, replaceMembers } from 'ambient-kit/netlink/ipset';
 *
 * using netlink = openNetlink({ family: 'netfilter' });
 * const pods = { name: 'ztunnel-pods-ips', family: 4, comments: true } as const;
 * createSet(netlink, pods, { existOk: true });
 * addMember(netlink, pods.name, { ip: '10.1.0.5', comment: 'default/sleep' });
 * replaceMembers(netlink, pods, [{ ip: '10.1.0.6' }, { ip: '10.1.0.7' }]);  // at once: rules never meet half of it
 * for (const { ip, comment } of getSet(netlink, pods.name)?.members ?? []) console.log(ip, comment);
 * ```
 *
 * Every function sends its requests through a `Netlink` of family `netfilter`, in whose namespace it works, and is done when it
 * returns.
 *
 * @module netlink/ipset
 */

export { IpsetError, type IpsetErrorInit } from './error.ts';
export {
  type AddOptions,
  addMember,
  addMembers,
  createSet,
  type DeleteOptions,
  deleteMember,
  destroySet,
  flushSet,
  getSet,
  type IpsetOptions,
  listSets,
  replaceMembers,
  swapSets,
} from './ipset.ts';
export type { Member } from './member.ts';
export type { AddressSet, ListedSet } from './set.ts';
