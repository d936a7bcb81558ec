/** Something that a kernel has or has not. */
export interface FeatureDescription {
  /** For a person. */
  readonly what: string;
  /** What has to be set when the kernel is built; most make a module of their own. */
  readonly kernelOption: string;
  /** What to do where it is missing. */
  readonly instead: string;
}

const OTHER_TUNNEL = 'where the proxy is on the node itself, take veth (`tunnel: { kind: "veth" }`)';
const IPTABLES = 'load the plan as iptables text (`renderIptables`)';

/** What plans are made of, by name. */
export const features = {
  nftables: { what: 'nftables for IPv4', kernelOption: 'CONFIG_NF_TABLES_IPV4', instead: IPTABLES },
  'nftables-ipv6': {
    what: 'nftables for IPv6',
    kernelOption: 'CONFIG_NF_TABLES_IPV6',
    instead: 'plan for IPv4 alone (`ipv6: false`)',
  },
  set: { what: 'named sets of addresses', kernelOption: 'CONFIG_NF_TABLES (nft_set_hash)', instead: IPTABLES },
  tproxy: {
    what: 'TPROXY for IPv4',
    kernelOption: 'CONFIG_NFT_TPROXY, CONFIG_NF_TPROXY_IPV4',
    instead: 'redirect inside the pods (`podMode()` without `inbound: "tproxy"`)',
  },
  'tproxy-ipv6': {
    what: 'TPROXY for IPv6',
    kernelOption: 'CONFIG_NFT_TPROXY, CONFIG_NF_TPROXY_IPV6',
    instead: 'redirect inside the pods (`podMode()` without `inbound: "tproxy"`), or IPv4 alone',
  },
  socket: { what: 'the socket match', kernelOption: 'CONFIG_NFT_SOCKET', instead: 'mark connections instead' },
  ct: {
    what: 'marks, states and ends of connections',
    kernelOption: 'CONFIG_NFT_CT, CONFIG_NF_CONNTRACK_MARK',
    instead: 'nothing: without them later packets cannot be told from first ones',
  },
  'ct-zone': {
    what: 'conntrack zones',
    kernelOption: 'CONFIG_NF_CONNTRACK_ZONES',
    instead: 'leave DNS alone (`captureDns: false`)',
  },
  nat: { what: 'NAT', kernelOption: 'CONFIG_NFT_NAT', instead: IPTABLES },
  redirect: {
    what: 'REDIRECT',
    kernelOption: 'CONFIG_NFT_REDIR',
    instead: 'take TPROXY (`podMode({ inbound: "tproxy" })`) for what comes in',
  },
  masquerade: { what: 'masquerading', kernelOption: 'CONFIG_NFT_MASQ', instead: 'snat to an address' },
  fib: {
    what: 'the fib match',
    kernelOption: 'CONFIG_NFT_FIB_IPV4, CONFIG_NFT_FIB_IPV6',
    instead: 'leave the node’s own traffic out by its destination (`hostTraffic: "after-nat"`)',
  },
  'route-chain': {
    what: 'chains that have a packet routed again',
    kernelOption: 'CONFIG_NF_TABLES (type route)',
    instead: IPTABLES,
  },
  'policy-routing': {
    what: 'policy rules by mark',
    kernelOption: 'CONFIG_IP_MULTIPLE_TABLES',
    instead: 'redirect inside the pods (`podMode()` with `inbound: "redirect"`)',
  },
  'policy-routing-ipv6': {
    what: 'policy rules by mark for IPv6',
    kernelOption: 'CONFIG_IPV6_MULTIPLE_TABLES',
    instead: 'plan for IPv4 alone (`ipv6: false`)',
  },
  conntrack: {
    what: 'connection tracking over netlink',
    kernelOption: 'CONFIG_NF_CT_NETLINK',
    instead: 'redirect pods as they start, and `remove()` without draining: no plan needs it',
  },
  ipset: {
    what: 'ipset',
    kernelOption: 'CONFIG_IP_SET, CONFIG_IP_SET_HASH_IP',
    instead: 'nothing is needed: only the iptables rendering uses it',
  },
  veth: { what: 'veth links', kernelOption: 'CONFIG_VETH', instead: 'take geneve (`tunnel: { kind: "geneve" }`)' },
  geneve: { what: 'geneve links', kernelOption: 'CONFIG_GENEVE', instead: OTHER_TUNNEL },
  vxlan: { what: 'vxlan links', kernelOption: 'CONFIG_VXLAN', instead: OTHER_TUNNEL },
  bridge: { what: 'bridges', kernelOption: 'CONFIG_BRIDGE', instead: 'no plan needs them' },
  dummy: { what: 'dummy links', kernelOption: 'CONFIG_DUMMY', instead: 'no plan needs them' },
} as const satisfies Record<string, FeatureDescription>;

export type Feature = keyof typeof features;

/** Whether there is a feature, and if not, what the kernel said. */
export type FeatureState = { readonly available: true } | { readonly available: false; readonly kernel: string };

/** What a kernel has. */
export type KernelFeatures = Readonly<Record<Feature, FeatureState>>;
