import { readFileSync } from 'node:fs';
import { canonicalIp } from '../ip/index.ts';
import { type ConntrackEntry, listConntrack } from '../netlink/conntrack/index.ts';
import { openNetlink } from '../netlink/index.ts';
import { listChains, listRules } from '../netlink/nftables/index.ts';
import { decodeLegacyTable, type LegacyChains } from '../netlink/nftables/legacy-table.ts';
import { readLegacyTable } from '../netlink/nftables/read-legacy-tables.ts';
import { listAddresses, listLinks, listRules as listPolicyRules, listRoutes } from '../netlink/route/index.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import { IPPROTO_TCP, IPPROTO_UDP } from '../system/index.ts';
import type { DeviceSettings, KernelView, Listener } from './kernel-view.ts';
import { checkPacket, type Packet } from './packet.ts';
import { ipsetNumbers, readIpsets } from './read-ipsets.ts';
import { parseListeners } from './read-listeners.ts';
import { readSets } from './read-sets.ts';
import { readTables } from './read-tables.ts';

/** How {@link readKernelView} reads. */
export interface ReadKernelViewOptions {
  /** Only connections of this packet are read, not the whole table. */
  readonly packet?: Packet;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads what decides about packets in a namespace. Synchronous, some dozen dumps one after another: a change made meanwhile by somebody
 * else may be seen in part. Changes nothing; the namespace stays the caller's.
 *
 * @throws {SystemError} where the namespace cannot be entered; `NetlinkError`, such as `EPERM` without CAP_NET_ADMIN;
 *   InvalidInputError for the packet
 */
export function readKernelView(namespace: NetworkNamespace, options: ReadKernelViewOptions = {}): KernelView {
  const { packet, signal } = options;
  if (packet !== undefined) checkPacket(packet);
  signal?.throwIfAborted();
  using netfilter = openNetlink({ family: 'netfilter', namespace });
  using route = openNetlink({ family: 'route', namespace });
  const { tables, unseen } = readTables(netfilter);
  const links = listLinks(route);
  const { legacy, unread, ...proc } = namespace.run(() => readProc(links.map(({ name }) => name)));
  const rules = tables.flatMap((table) => listRules(netfilter, table));
  rules.push(...legacy.flatMap((table) => table.rules));
  const ipsets = ipsetNumbers(rules);
  return {
    chains: [...tables.flatMap((table) => listChains(netfilter, table)), ...legacy.flatMap(({ chains }) => chains)],
    rules,
    ipsets: namespace.run(() => readIpsets(netfilter, ipsets)),
    unseen: [...unread, ...unseen],
    sets: tables.flatMap((table) => readSets(netfilter, table)),
    policyRules: listPolicyRules(route),
    routes: listRoutes(route),
    links,
    addresses: listAddresses(route),
    connections: connectionsOf(packet, (filter) => listConntrack(netfilter, filter, { signal })),
    ...proc,
  };
}

/** In either direction: the packet may be an answer. */
function connectionsOf(
  packet: Packet | undefined,
  list: (filter: Parameters<typeof listConntrack>[1]) => ConntrackEntry[],
): ConntrackEntry[] {
  if (packet === undefined) return list({});
  const { sourcePort, destinationPort } = packet;
  if (sourcePort === undefined || destinationPort === undefined) return [];
  const tuple = {
    source: canonicalIp(packet.source),
    destination: canonicalIp(packet.destination),
    protocol: packet.protocol === 'tcp' ? IPPROTO_TCP : IPPROTO_UDP,
    sourcePort,
    destinationPort,
  };
  return [...list({ original: tuple }), ...list({ reply: tuple })];
}

/** What only /proc has, read inside the namespace. */
function readProc(
  devices: readonly string[],
): Pick<KernelView, 'devices' | 'forwarding6' | 'listeners'> & { legacy: LegacyChains[]; unread: string[] } {
  const conf = (family: 'ipv4' | 'ipv6', device: string, name: string) =>
    Number(read(`/proc/sys/net/${family}/conf/${device}/${name}`) || 0);
  const settings: Record<string, DeviceSettings> = {};
  const all = (name: string) => conf('ipv4', 'all', name);
  const [reversePathFilter, acceptLocal, sourceValidMark] = ['rp_filter', 'accept_local', 'src_valid_mark'].map(all);
  for (const device of devices) {
    settings[device] = {
      reversePathFilter: Math.max(reversePathFilter!, conf('ipv4', device, 'rp_filter')),
      // IN_DEV_ORCONF and IN_DEV_MAXCONF of <linux/inetdevice.h>; forwarding is the device's own.
      acceptLocal: acceptLocal === 1 || conf('ipv4', device, 'accept_local') === 1,
      sourceValidMark: sourceValidMark === 1 || conf('ipv4', device, 'src_valid_mark') === 1,
      forwarding: conf('ipv4', device, 'forwarding') === 1,
    };
  }
  const listeners: Listener[] = (['tcp', 'udp'] as const).flatMap((protocol) => [
    ...parseListeners(read(`/proc/thread-self/net/${protocol}`), protocol, 4),
    ...parseListeners(read(`/proc/thread-self/net/${protocol}6`), protocol, 6),
  ]);
  const legacy: LegacyChains[] = [];
  const unread: string[] = [];
  for (const family of ['ip', 'ip6'] as const) {
    for (const name of read(`/proc/thread-self/net/${family}_tables_names`).split('\n')) {
      if (name === '') continue;
      const table = readLegacyTable(family === 'ip' ? 4 : 6, name);
      if (table === undefined) unread.push(`the table ${family} ${name} of iptables-legacy, which could not be read`);
      else legacy.push(decodeLegacyTable(table));
    }
  }
  // kube-proxy in IPVS mode: the addresses of services are this namespace's own, and input sends them on.
  if (/^(TCP|UDP|FWM) /m.test(read('/proc/thread-self/net/ip_vs'))) unread.push('the services of IPVS');
  return {
    devices: settings,
    forwarding6: conf('ipv6', 'all', 'forwarding') === 1,
    listeners,
    legacy,
    unread,
  };
}

/** Empty where the kernel has no such file: no IPv6, no iptables-legacy. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
