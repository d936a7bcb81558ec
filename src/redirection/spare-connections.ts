import { parseIp } from '../ip/index.ts';
import { type ConntrackEntry, conntrackUsage, listConntrack, setConntrackMark } from '../netlink/conntrack/index.ts';
import type { Netlink } from '../netlink/index.ts';
import { NetlinkError } from '../netlink/index.ts';
import { ENOENT } from '../system/index.ts';
import { SKIP_MARK } from './marks.ts';
import type { IpFamily, Mark } from './plan.ts';

/**
 * Asking the kernel for the connections of one pod takes as long as reading about this many: it walks its whole table for each
 * question, twice a pod.
 */
const ENTRIES_A_POD = 2500;

/**
 * Marks the open connections of pods that are about to be enrolled, so that rule 6 leaves them alone: without it they would be reset,
 * outgoing and incoming (trap 3). Connections that a rule has marked already keep their mark.
 *
 * @returns how many were marked
 */
export function spareConnections(netlink: Netlink, ips: readonly string[], spare: Mark): number {
  if (ips.length === 0) return 0;
  const wanted = new Set(ips);
  const entries =
    conntrackUsage(netlink).entries > ips.length * ENTRIES_A_POD
      ? ips.flatMap((ip) => connectionsOf(netlink, ip))
      : familiesAmong(ips).flatMap((family) => listConntrack(netlink, { family }));
  let marked = 0;
  for (const entry of entries) {
    const { original, reply } = entry;
    if (!wanted.has(original.source) && !wanted.has(reply.source)) continue;
    if ((entry.mark & SKIP_MARK.mask) !== 0) continue;
    try {
      setConntrackMark(netlink, entry, { mark: spare.value, mask: spare.mask });
      marked++;
    } catch (error) {
      // It ended meanwhile.
      if (!(error instanceof NetlinkError) || error.errno !== ENOENT) throw error;
    }
  }
  return marked;
}

/** By either end: `reply.source` is the pod for connections to it, also for those that came by a service's address. */
function connectionsOf(netlink: Netlink, ip: string): ConntrackEntry[] {
  const { family } = parseIp(ip);
  return [
    ...listConntrack(netlink, { family, original: { source: ip } }),
    ...listConntrack(netlink, { family, reply: { source: ip } }),
  ];
}

function familiesAmong(ips: readonly string[]): IpFamily[] {
  return [...new Set(ips.map((ip) => parseIp(ip).family))];
}
