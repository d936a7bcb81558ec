import { currentNamespace, type NetworkNamespace, readSysctl } from '../netns/index.ts';
import { SystemError } from '../system/index.ts';

/**
 * The congestion control for connections between the proxy and pods of its own node, made in this namespace (undefined: the thread's): `reno` where the
 * namespace's own is BBR, undefined (its own) elsewhere. They cross a veth pair, which neither loses nor queues, so that BBR's pacing,
 * a timer for each 64 KiB, costs as much again as moving the bytes, and wins nothing. Connections between nodes keep what their
 * operator chose.
 */
export function localCongestionControl(namespace: NetworkNamespace | undefined): string | undefined {
  using own = namespace === undefined ? currentNamespace() : undefined;
  try {
    return readSysctl(namespace ?? own!, 'net.ipv4.tcp_congestion_control').startsWith('bbr') ? 'reno' : undefined;
  } catch (error) {
    // A /proc without sys, in a container: then nobody can say.
    if (error instanceof SystemError) return undefined;
    throw error;
  }
}
