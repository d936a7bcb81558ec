/**
 * The connection tracking table, what `conntrack` does: list with a filter, look one up, write marks, delete.
 *
 * ```ts
 * import { openNetlink } from 'ambient-kit/netlink';
 * import { conntrackStatusNames, listConntrack, setConntrackMarks } from 'ambient-kit/netlink/conntrack';
 *
 * using netlink = openNetlink({ family: 'netfilter' });
 * for (const { original, mark, status } of listConntrack(netlink, { mark: 0x210, markMask: 0x210 })) {
 *   console.log(original.source, '→', original.destination, mark.toString(16), conntrackStatusNames(status));
 * }
 * // Before a pod is enrolled: its open connections stay outside of the mesh.
 * setConntrackMarks(netlink, { original: { source: '10.1.0.5' } }, { mark: 0x220, mask: 0x220 });
 * ```
 *
 * Every function sends its requests through a `Netlink` of family `netfilter`, in whose namespace it works, and is done when it
 * returns. Bad input throws `ERR_NETLINK_INVALID` or `ERR_IP_ADDRESS` with the field's path, and changes nothing.
 *
 * @module netlink/conntrack
 */

export {
  addConntrack,
  type ConntrackMark,
  type ConntrackOptions,
  type ConntrackSpec,
  conntrackUsage,
  deleteConntrack,
  getConntrack,
  listConntrack,
  setConntrackMark,
  setConntrackMarks,
} from './conntrack.ts';
export {
  IPS_ASSURED,
  IPS_CONFIRMED,
  IPS_DST_NAT,
  IPS_DYING,
  IPS_SEEN_REPLY,
  IPS_SRC_NAT,
} from './constants.ts';
export {
  type ConntrackCounters,
  type ConntrackEntry,
  type ConntrackKey,
  conntrackStatusNames,
  TCP_CONNTRACK_STATES,
  type TcpConntrackState,
} from './entry.ts';
export type { ConntrackFilter } from './filter.ts';
export type { ConntrackTuple } from './tuple.ts';
