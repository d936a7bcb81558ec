import type { Pod } from './plan.ts';

/** What {@link nodeMode} is told. */
export interface NodeModeOptions {
  /** The node's address, which its own connections to pods come from. */
  readonly hostIp: string;
  /** The proxy's own address. */
  readonly ztunnelIp: string;
  /** The node's and the proxy's IPv6 addresses, both or none: with them IPv6 is redirected too, which the original never did. */
  readonly hostIp6?: string;
  readonly ztunnelIp6?: string;
  /** The node's end of the proxy's cable. */
  readonly ztunnelVeth: string;
  /** The proxy's end of it. Default `eth0`. */
  readonly ztunnelDevice?: string;
  /** The enrolled pods of this node, one entry an address. More come and go by `addPod` and `removePod`. */
  readonly pods?: readonly Pod[];
  /**
   * What istioin and istioout are made of. Default veth pairs, which need the proxy on the node's own machine; geneve is what Istio
   * used, where the kernel has it. `port` is its UDP port, default 6081.
   */
  readonly tunnel?: { readonly kind: 'veth' } | { readonly kind: 'geneve'; readonly port?: number };
  /** DNS queries of pods go to port 15053 of the proxy. Default false. */
  readonly captureDns?: boolean;
  /**
   * How connections of the node itself to its pods are kept from the proxy (traps 1 and 2). `after-nat`, the default, looks at the
   * destination behind kube-proxy's NAT; `local-source` looks at the source address only, and fits iptables too.
   */
  readonly hostTraffic?: 'after-nat' | 'local-source';
  /** First and last local port of the proxy's connections; must not meet the pods' own range (trap 8). Default 10240 to 32767. */
  readonly proxyPorts?: readonly [first: number, last: number];
  /** Prefix of tables and chains. Default `ztunnel`. */
  readonly name?: string;
}

/** The set of enrolled pods, by the name that the articles show. */
export const PODS_SET = 'ztunnel-pods-ips';
/** Its IPv6 twin, which the articles do not have. */
export const PODS_SET6 = 'ztunnel-pods-ips-v6';
/** An address and, where the plan is for IPv6 too, its twin. */
export function both(ip: string, ip6: string | undefined): { readonly ip: string; readonly ip6?: string } {
  return ip6 === undefined ? { ip } : { ip, ip6 };
}

/** The set of enrolled pods, in a condition. */
export function podsSet({ ztunnelIp6 }: NodeModeOptions): { readonly set: string; readonly set6?: string } {
  return ztunnelIp6 === undefined ? { set: PODS_SET } : { set: PODS_SET, set6: PODS_SET6 };
}

/** Roles of a node-mode plan: give a namespace for each. */
export const NODE_ROLE = 'node';
export const ZTUNNEL_ROLE = 'ztunnel';
