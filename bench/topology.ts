import { createLab, type Lab, type LabDescription } from '../src/lab/index.ts';
import { openNetlink } from '../src/netlink/index.ts';
import { Batch, match, NF_IP_PRI_NAT_DST, statement } from '../src/netlink/nftables/index.ts';
import { addRoute } from '../src/netlink/route/index.ts';
import { type NetworkNamespace, writeSysctl } from '../src/netns/index.ts';

/** Pods of the bench: p1 asks, p2 answers on the same node, p3 on the other one. */
export const PODS = [
  { name: 'p1', node: 'node-1', ip: '10.244.1.10' },
  { name: 'p2', node: 'node-1', ip: '10.244.1.11' },
  { name: 'p3', node: 'node-2', ip: '10.244.2.10' },
] as const;
export type PodName = (typeof PODS)[number]['name'];

/** The kernel parameter that new sockets of a namespace go by. */
export const CONGESTION_CONTROL = 'net.ipv4.tcp_congestion_control';

/** What every pod's address is in. */
export const POD_ADDRESSES = '10.244.0.0/16';

export const OUTSIDE_IP = '172.18.0.100';

/** All of it is p3 too: an address that no tunnel leads to yet, as often as one is needed. */
const MANY_ADDRESSES = '10.244.128.0/17';
/** How many addresses {@link manyAddress} has. */
export const MANY_ADDRESSES_COUNT = 32_000;

/** SO_MARK of the proxies' own sockets: 1337, facts section 7.2. */
export const PROXY_MARK = 0x539;
/** Facts section 7.1. */
export const OUTBOUND_PORT = 15001;
export const INBOUND_PORT = 15008;

/** The n-th of p3's further addresses. */
export function manyAddress(n: number): string {
  if (!(n >= 0 && n < MANY_ADDRESSES_COUNT)) throw new RangeError(`p3 has no address number ${n}`);
  return `10.244.${128 + (n >> 8)}.${n & 255}`;
}

export function podIp(name: PodName): string {
  return PODS.find((pod) => pod.name === name)!.ip;
}

/**
 * Two nodes with their pods and a host outside, made anew for each peer, so that peers can take turns without being restarted.
 *
 * @param redirected - whether what pods open goes to port 15001, as with istio-cni inside the pod
 * @param congestionControl - of every host's TCP; undefined: what this machine's has
 * @returns owned by the caller, who closes it
 */
export async function createTopology(
  prefix: string,
  redirected: boolean,
  congestionControl: string | undefined,
  signal: AbortSignal,
): Promise<Lab> {
  const lab = await createLab(describe(prefix), { redirect: false, signal });
  try {
    for (const { name } of PODS) {
      const namespace = lab.namespace(name);
      tune(namespace, congestionControl);
      if (redirected) redirectOutbound(namespace);
    }
    tune(lab.namespace('outside'), congestionControl);
    routeManyAddresses(lab);
    return lab;
  } catch (error) {
    lab.closeSync();
    throw error;
  }
}

function describe(prefix: string): LabDescription {
  const node = (name: string, ip: string, third: number) => ({
    name,
    ip,
    podRange: `10.244.${third}.0/24`,
    gateway: `10.244.${third}.1`,
    // Here the proxies live in the pods; a lab has a place for them on each node all the same.
    ztunnel: { name: `ztunnel-${third}`, ip: `10.244.${third}.2` },
    pods: PODS.filter((pod) => pod.node === name).map((pod) => ({ name: pod.name, ip: pod.ip, enrolled: false })),
  });
  return {
    prefix,
    clusterRange: POD_ADDRESSES,
    nodes: [node('node-1', '172.18.0.2', 1), node('node-2', '172.18.0.3', 2)],
    outside: { name: 'outside', ip: OUTSIDE_IP, prefixLength: 24 },
    services: [],
  };
}

/** Ports enough for a new connection per request, and nothing remembered of old ones that a round could run into. */
function tune(namespace: NetworkNamespace, congestionControl: string | undefined): void {
  if (congestionControl !== undefined) writeSysctl(namespace, CONGESTION_CONTROL, congestionControl);
  writeSysctl(namespace, 'net.ipv4.ip_local_port_range', '16384 65535');
  writeSysctl(namespace, 'net.ipv4.tcp_tw_reuse', 1);
  // Tens of thousands of connections in seconds: what waits for late packets of the last ones would refuse the next.
  writeSysctl(namespace, 'net.ipv4.tcp_max_tw_buckets', 0);
  writeSysctl(namespace, 'net.netfilter.nf_conntrack_tcp_timeout_time_wait', 1);
}

/** What ztunnel's own script for a proxy beside one workload installs (facts section 7.5): TCP that is not the proxy's, not to lo. */
function redirectOutbound(namespace: NetworkNamespace): void {
  using netlink = openNetlink({ family: 'netfilter', namespace });
  const table = { family: 'ip', name: 'bench' } as const;
  const chain = 'output';
  new Batch()
    .addTable(table)
    .addChain({
      table,
      name: chain,
      base: { type: 'nat', hook: 'output', priority: NF_IP_PRI_NAT_DST, policy: 'accept' },
    })
    .addRule({ table, chain, expressions: [...match.mark(PROXY_MARK, 0xfff), ...statement.return()] })
    .addRule({
      table,
      chain,
      expressions: [...match.oifname('lo', '!='), ...match.l4proto('tcp'), ...statement.redirect(OUTBOUND_PORT)],
    })
    .commit(netlink);
}

function routeManyAddresses(lab: Lab): void {
  using near = openNetlink({ family: 'route', namespace: lab.namespace('node-1') });
  addRoute(near, { destination: MANY_ADDRESSES, gateway: lab.node('node-2').ip });
  using far = openNetlink({ family: 'route', namespace: lab.namespace('node-2') });
  addRoute(far, { destination: MANY_ADDRESSES, gateway: podIp('p3') });
  using pod = openNetlink({ family: 'route', namespace: lab.namespace('p3') });
  addRoute(pod, { destination: MANY_ADDRESSES, type: 'local', device: 'lo', table: 255 });
}
