import type { Rule as PolicyRule, Route } from '../netlink/route/index.ts';
import { checkNodeModeOptions } from './check-options.ts';
import { ORG_SRC_RET_MARK, OUTBOUND_MARK, PROXY_MARK, PROXYRET_MARK, SKIP_MARK, TPROXY_MARK } from './marks.ts';
import { nodeChains } from './node-mode-node.ts';
import { NODE_ROLE, type NodeModeOptions, PODS_SET, PODS_SET6, podsSet, ZTUNNEL_ROLE } from './node-mode-options.ts';
import { INBOUND_HBONE_PORT, proxyChains } from './node-mode-proxy.ts';
import type { IpFamily, LinkPlan, Mark, RedirectionPlan, SidePlan } from './plan.ts';

/** Routing tables of facts section 7.6. */
export const INBOUND_TABLE = 100;
export const OUTBOUND_TABLE = 101;
export const PROXY_TABLE = 102;
/** Where `goto` of rule 100 leads: the kernel's own rule for the main table. */
const MAIN_RULE_PRIORITY = 32766;
const GENEVE_PORT = 6081;

const NETWORKS = {
  in: { node: 'istioin', proxy: 'pistioin', nodeIp: '192.168.126.1', proxyIp: '192.168.126.2', vni: 1000 },
  out: { node: 'istioout', proxy: 'pistioout', nodeIp: '192.168.127.1', proxyIp: '192.168.127.2', vni: 1001 },
} as const;
/** The same two in IPv6: this library's own choice, under the prefix that Istio uses for the probes. */
const NETWORKS6 = {
  in: { nodeIp: 'fd16:9254:7127:126::1', proxyIp: 'fd16:9254:7127:126::2' },
  out: { nodeIp: 'fd16:9254:7127:127::1', proxyIp: 'fd16:9254:7127:127::2' },
} as const;

/**
 * The node-level redirection of Istio 1.18 to 1.20, in the form seen working: facts section 7.6 with the cures of the traps
 * (node mode, traps 1 to 13). The node must forward (`net.ipv4.ip_forward=1`) and route to its pods' devices by its main table.
 *
 * What was open before its pod was enrolled goes on past the proxy, either way and idle or not, by rules between 13 and 14 (trap 3):
 * they ask connection tracking, which has to have seen both ends speak. A connection whose SYN is repeated after enrolment is
 * captured. Where nothing tracked connections before (no kube-proxy, no NAT), put the plan in force without pods, and enrol them
 * when their connections have been used once more. iptables cannot ask whose a connection is: by {@link renderIptables} every
 * connection that is under way and not captured, of pods that are not enrolled too, passes by policy rules behind 100.
 *
 * The original knew IPv4 only. With `hostIp6` and `ztunnelIp6` every chain, rule, policy rule and route is there for IPv6 as well, by
 * the same marks and numbers; set {@link PODS_SET6} and the IPv6 addresses of istioin and istioout are this library's own. The node
 * must then forward IPv6 too (`net.ipv6.conf.all.forwarding=1`).
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the option
 */
export function nodeMode(options: NodeModeOptions): RedirectionPlan {
  checkNodeModeOptions(options);
  const families: readonly IpFamily[] = options.ztunnelIp6 === undefined ? [4] : [4, 6];
  const node: SidePlan = {
    role: NODE_ROLE,
    addresses: addresses(families, 'node'),
    sysctls: nodeSysctls(options.ztunnelVeth),
    routes: nodeRoutes(options),
    policyRules: families.flatMap((family) => [
      { family, priority: 100, ...selector(SKIP_MARK), goto: MAIN_RULE_PRIORITY },
      { family, priority: 101, ...selector(OUTBOUND_MARK), table: OUTBOUND_TABLE },
      { family, priority: 102, ...selector(PROXYRET_MARK), table: PROXY_TABLE },
      { family, priority: 103, table: INBOUND_TABLE },
    ]),
    sets: families.map((family) => ({ name: family === 4 ? PODS_SET : PODS_SET6, family })),
    chains: nodeChains(options, tunnelPort(options)),
  };
  const proxy: SidePlan = {
    role: ZTUNNEL_ROLE,
    addresses: addresses(families, 'proxy'),
    sysctls: proxySysctls(options),
    // Every address is this namespace's own for a packet with one of the two marks.
    routes: families.map((family) => ({
      destination: family === 4 ? '0.0.0.0/0' : '::/0',
      type: 'local',
      device: 'lo',
      table: INBOUND_TABLE,
    })),
    policyRules: families.flatMap((family) => [
      { family, priority: 20000, ...selector(TPROXY_MARK), table: INBOUND_TABLE },
      { family, priority: 20003, ...selector(ORG_SRC_RET_MARK), table: INBOUND_TABLE },
    ]),
    sets: [],
    chains: proxyChains(options),
  };
  const device = NETWORKS.in.node;
  const { hostIp, hostIp6 } = options;
  return {
    name: options.name ?? 'ztunnel',
    families,
    links: links(options),
    sides: [proxy, node],
    pods: {
      role: NODE_ROLE,
      ...podsSet(options),
      route: { table: INBOUND_TABLE, gateway: NETWORKS.in.proxyIp, device, source: hostIp },
      ...(hostIp6 === undefined
        ? {}
        : { route6: { table: INBOUND_TABLE, gateway: NETWORKS6.in.proxyIp, device, source: hostIp6 } }),
      sysctls: [
        { name: 'net.ipv4.conf.{veth}.rp_filter', value: '0' },
        // Trap 12: a gateway that answers by proxy ARP would do so after up to 0.8 s.
        { name: 'net.ipv4.neigh.{veth}.proxy_delay', value: '0' },
      ],
      list: options.pods ?? [],
    },
    captured: { connmark: PROXY_MARK, tunnelPort: INBOUND_HBONE_PORT },
  };
}

function addresses(families: readonly IpFamily[], end: 'node' | 'proxy'): SidePlan['addresses'] {
  return families.flatMap((family) =>
    (['in', 'out'] as const).map((direction) => {
      const device = NETWORKS[direction][end];
      if (family === 4) return { device, ip: NETWORKS[direction][`${end}Ip`], prefixLength: 30 };
      return { device, ip: NETWORKS6[direction][`${end}Ip`], prefixLength: 126, noDad: true };
    }),
  );
}

function selector({ value, mask }: Mark): Pick<PolicyRule, 'fwmark' | 'fwmask'> {
  return { fwmark: value, fwmask: mask };
}

function tunnelPort({ tunnel }: NodeModeOptions): number {
  return tunnel?.kind === 'geneve' ? (tunnel.port ?? GENEVE_PORT) : GENEVE_PORT;
}

function links(options: NodeModeOptions): LinkPlan[] {
  const plans: LinkPlan[] = [{ kind: 'existing', role: ZTUNNEL_ROLE, name: 'lo' }];
  for (const network of [NETWORKS.in, NETWORKS.out]) {
    if (options.tunnel?.kind !== 'geneve') {
      const peer = { role: ZTUNNEL_ROLE, name: network.proxy };
      plans.push({ kind: 'veth', role: NODE_ROLE, name: network.node, peer });
      continue;
    }
    const common = { kind: 'geneve', id: network.vni, port: tunnelPort(options) } as const;
    plans.push({ ...common, role: NODE_ROLE, name: network.node, remote: options.ztunnelIp });
    plans.push({ ...common, role: ZTUNNEL_ROLE, name: network.proxy, remote: options.hostIp });
  }
  return plans;
}

/** Trap 5: the way back of a pod's packet is another than the one it came by. Trap 6: the proxy sends with the node's own address. */
function nodeSysctls(ztunnelVeth: string): SidePlan['sysctls'] {
  const devices = [ztunnelVeth, NETWORKS.in.node, NETWORKS.out.node].map((name) => name.replaceAll('.', '/'));
  return [
    ...['all', 'default', ...devices].map((name) => ({ name: `net.ipv4.conf.${name}.rp_filter`, value: '0' })),
    ...devices.map((name) => ({ name: `net.ipv4.conf.${name}.accept_local`, value: '1' })),
  ];
}

function proxySysctls(options: NodeModeOptions): SidePlan['sysctls'] {
  const [first, last] = options.proxyPorts ?? [10240, 32767];
  const device = (options.ztunnelDevice ?? 'eth0').replaceAll('.', '/');
  const devices = ['all', 'default', device, NETWORKS.in.proxy, NETWORKS.out.proxy];
  return [
    ...devices.map((name) => ({ name: `net.ipv4.conf.${name}.rp_filter`, value: '0' })),
    { name: 'net.ipv4.ip_local_port_range', value: `${first} ${last}` },
  ];
}

function nodeRoutes({ ztunnelIp, ztunnelIp6, ztunnelVeth }: NodeModeOptions): Route[] {
  const toProxy = (table: number): Route => ({
    destination: `${ztunnelIp}/32`,
    device: ztunnelVeth,
    scope: 'link',
    table,
  });
  const toProxy6 = (table: number): Route => ({ destination: `${ztunnelIp6}/128`, device: ztunnelVeth, table });
  const out = { device: NETWORKS.out.node, table: OUTBOUND_TABLE };
  const back = { device: ztunnelVeth, onlink: true, table: PROXY_TABLE };
  const routes = [
    toProxy(INBOUND_TABLE),
    toProxy(OUTBOUND_TABLE),
    { destination: '0.0.0.0/0', gateway: NETWORKS.out.proxyIp, ...out },
    toProxy(PROXY_TABLE),
    { destination: '0.0.0.0/0', gateway: ztunnelIp, ...back },
  ];
  if (ztunnelIp6 === undefined) return routes;
  return [
    ...routes,
    toProxy6(INBOUND_TABLE),
    toProxy6(OUTBOUND_TABLE),
    { destination: '::/0', gateway: NETWORKS6.out.proxyIp, ...out },
    toProxy6(PROXY_TABLE),
    { destination: '::/0', gateway: ztunnelIp6, ...back },
  ];
}
