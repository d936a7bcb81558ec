import type { Rule as PolicyRule, Route } from '../netlink/route/index.ts';
import { checkNodeModeOptions } from './check-options.ts';
import { CONNSKIP_MARK, ORG_SRC_RET_MARK, OUTBOUND_MARK, PROXYRET_MARK, SKIP_MARK, TPROXY_MARK } from './marks.ts';
import { nodeChains } from './node-mode-node.ts';
import { NODE_ROLE, type NodeModeOptions, PODS_SET, ZTUNNEL_ROLE } from './node-mode-options.ts';
import { proxyChains } from './node-mode-proxy.ts';
import type { LinkPlan, Mark, RedirectionPlan, SidePlan } from './plan.ts';

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

/**
 * The node-level redirection of Istio 1.18 to 1.20, in the form seen working: facts section 7.6 with the cures of the traps
 * (node mode, traps 1 to 13). The node must forward (`net.ipv4.ip_forward=1`) and route to its pods' devices by its main table.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the option
 */
export function nodeMode(options: NodeModeOptions): RedirectionPlan {
  checkNodeModeOptions(options);
  const node: SidePlan = {
    role: NODE_ROLE,
    addresses: [
      { device: NETWORKS.in.node, ip: NETWORKS.in.nodeIp, prefixLength: 30 },
      { device: NETWORKS.out.node, ip: NETWORKS.out.nodeIp, prefixLength: 30 },
    ],
    sysctls: nodeSysctls(options.ztunnelVeth),
    routes: nodeRoutes(options),
    policyRules: [
      { family: 4, priority: 100, ...selector(SKIP_MARK), goto: MAIN_RULE_PRIORITY },
      { family: 4, priority: 101, ...selector(OUTBOUND_MARK), table: OUTBOUND_TABLE },
      { family: 4, priority: 102, ...selector(PROXYRET_MARK), table: PROXY_TABLE },
      { family: 4, priority: 103, table: INBOUND_TABLE },
    ],
    sets: [{ name: PODS_SET, family: 4 }],
    chains: nodeChains(options, tunnelPort(options)),
  };
  const proxy: SidePlan = {
    role: ZTUNNEL_ROLE,
    addresses: [
      { device: NETWORKS.in.proxy, ip: NETWORKS.in.proxyIp, prefixLength: 30 },
      { device: NETWORKS.out.proxy, ip: NETWORKS.out.proxyIp, prefixLength: 30 },
    ],
    sysctls: proxySysctls(options),
    // Every address is this namespace's own for a packet with one of the two marks.
    routes: [{ destination: '0.0.0.0/0', type: 'local', device: 'lo', table: INBOUND_TABLE }],
    policyRules: [
      { family: 4, priority: 20000, ...selector(TPROXY_MARK), table: INBOUND_TABLE },
      { family: 4, priority: 20003, ...selector(ORG_SRC_RET_MARK), table: INBOUND_TABLE },
    ],
    sets: [],
    chains: proxyChains(options),
  };
  return {
    name: options.name ?? 'ztunnel',
    links: links(options),
    sides: [proxy, node],
    pods: {
      role: NODE_ROLE,
      set: PODS_SET,
      route: { table: INBOUND_TABLE, gateway: NETWORKS.in.proxyIp, device: NETWORKS.in.node, source: options.hostIp },
      sysctls: [
        { name: 'net.ipv4.conf.{veth}.rp_filter', value: '0' },
        // Trap 12: a gateway that answers by proxy ARP would do so after up to 0.8 s.
        { name: 'net.ipv4.neigh.{veth}.proxy_delay', value: '0' },
      ],
      spare: CONNSKIP_MARK,
      list: options.pods ?? [],
    },
  };
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

function nodeRoutes({ ztunnelIp, ztunnelVeth }: NodeModeOptions): Route[] {
  const toProxy = (table: number): Route => ({
    destination: `${ztunnelIp}/32`,
    device: ztunnelVeth,
    scope: 'link',
    table,
  });
  return [
    toProxy(INBOUND_TABLE),
    toProxy(OUTBOUND_TABLE),
    { destination: '0.0.0.0/0', gateway: NETWORKS.out.proxyIp, device: NETWORKS.out.node, table: OUTBOUND_TABLE },
    toProxy(PROXY_TABLE),
    { destination: '0.0.0.0/0', gateway: ztunnelIp, device: ztunnelVeth, onlink: true, table: PROXY_TABLE },
  ];
}
