import { AmbientError } from '../errors/index.ts';
import { listConntrack } from '../netlink/conntrack/index.ts';
import { MessageWriter, type Netlink, NetlinkError, NFNL_SUBSYS_IPSET, openNetlink } from '../netlink/index.ts';
import { NFT_REG_1 } from '../netlink/nftables/constants.ts';
import { IP_CT_DIR_ORIGINAL, NFT_CT_SRC_IP } from '../netlink/nftables/expressions/ct.ts';
import {
  Batch,
  type Chain,
  type Expression,
  match,
  NftablesError,
  statement,
  type Table,
} from '../netlink/nftables/index.ts';
import { addLink, addRule } from '../netlink/route/index.ts';
import { currentNamespace } from '../netns/index.ts';
import { runInNewNamespace } from '../netns/network-namespace.ts';
import { EACCES, EPERM } from '../system/index.ts';
import { type Feature, type FeatureState, features, type KernelFeatures } from './probe-features.ts';

// <linux/netfilter/ipset/ip_set.h>
const IPSET_CMD_PROTOCOL = 1;
const IPSET_ATTR_PROTOCOL = 1;
const IPSET_PROTOCOL = 6;
// nft_socket: TRANSPARENT into register 1.
const isTransparent: Expression[] = [
  { type: 'socket', key: 0, dreg: 1 },
  { type: 'cmp', sreg: 1, op: 0, value: Uint8Array.of(1) },
];
/** Since Linux 4.17. */
const openedBySomebody: Expression[] = [
  { type: 'ct', key: NFT_CT_SRC_IP, dreg: NFT_REG_1, direction: IP_CT_DIR_ORIGINAL },
];

interface Scratch {
  readonly route: Netlink;
  readonly netfilter: Netlink;
}

/**
 * Finds out what the kernel has by trying each feature in a network namespace of its own, which is gone afterwards: versions say
 * little, since distributions leave options out and put features back. Loads modules as a side effect, as using them would.
 *
 * @throws {SystemError} `EPERM` without CAP_SYS_ADMIN
 * @throws {NetlinkError} `EPERM` without CAP_NET_ADMIN
 */
export function probe(): KernelFeatures {
  return runInNewNamespace(() => {
    using here = currentNamespace();
    using route = openNetlink({ family: 'route', namespace: here });
    using netfilter = openNetlink({ family: 'netfilter', namespace: here });
    const scratch = { route, netfilter };
    const names = Object.keys(features) as Feature[];
    return Object.fromEntries(names.map((name) => [name, stateOf(() => attempts[name](scratch))])) as Record<
      Feature,
      FeatureState
    >;
  });
}

let probed: KernelFeatures | undefined;

/** As {@link probe}, asked once in the life of the process: a module that is loaded later is not seen. */
export function probeOnce(): KernelFeatures {
  probed ??= probe();
  return probed;
}

function stateOf(attempt: () => void): FeatureState {
  try {
    attempt();
    return { available: true };
  } catch (error) {
    const errno = error instanceof NftablesError || error instanceof NetlinkError ? error.errno : undefined;
    // Whoever may not try learns nothing.
    if (errno === undefined || errno === EPERM || errno === EACCES) throw error;
    const kernel = error instanceof NftablesError ? error.kernel : AmbientError.is(error) ? error.code : String(error);
    return { available: false, kernel };
  }
}

const attempts: Readonly<Record<Feature, (scratch: Scratch) => void>> = {
  nftables: (scratch) => tryRule(scratch, 'ip', 'filter', 'prerouting', statement.counter()),
  'nftables-ipv6': (scratch) => tryRule(scratch, 'ip6', 'filter', 'prerouting', statement.counter()),
  set: ({ netfilter }) => {
    const table = tableOf('ip');
    const set = { table, name: 'probe', keyType: 'ipv4_addr' } as const;
    const { chain, rule } = hooked(table, 'filter', 'prerouting', match.sourceInSet(set.name));
    const element = { key: '192.0.2.1', comment: 'probe' };
    new Batch().addTable(table).addSet(set).addElements(set, [element]).addChain(chain).addRule(rule).commit(netfilter);
    new Batch().deleteTable(table).commit(netfilter);
  },
  tproxy: (scratch) =>
    tryRule(scratch, 'ip', 'filter', 'prerouting', [...match.l4proto('tcp'), ...statement.tproxy('127.0.0.1', 15001)]),
  'tproxy-ipv6': (scratch) =>
    tryRule(scratch, 'ip6', 'filter', 'prerouting', [...match.l4proto('tcp'), ...statement.tproxy('::1', 15001)]),
  socket: (scratch) => tryRule(scratch, 'ip', 'filter', 'prerouting', isTransparent),
  ct: (scratch) =>
    tryRule(scratch, 'ip', 'filter', 'prerouting', [
      ...match.ctState('established'),
      ...openedBySomebody,
      ...statement.ctMark(1, 1),
    ]),
  'ct-zone': (scratch) => tryRule(scratch, 'ip', 'filter', 'prerouting', statement.ctZone(1), -300),
  nat: (scratch) => tryRule(scratch, 'ip', 'nat', 'prerouting', statement.keepDestination()),
  redirect: (scratch) =>
    tryRule(scratch, 'ip', 'nat', 'prerouting', [...match.l4proto('tcp'), ...statement.redirect(15001)]),
  masquerade: (scratch) => tryRule(scratch, 'ip', 'nat', 'postrouting', statement.masquerade()),
  fib: (scratch) => tryRule(scratch, 'ip', 'filter', 'prerouting', match.sourceIsLocal()),
  'route-chain': (scratch) => tryRule(scratch, 'ip', 'route', 'output', statement.mark(1, 1)),
  'policy-routing': ({ route }) => addRule(route, { family: 4, priority: 100, fwmark: 1, fwmask: 1, table: 100 }),
  'policy-routing-ipv6': ({ route }) => addRule(route, { family: 6, priority: 100, fwmark: 1, fwmask: 1, table: 100 }),
  conntrack: ({ netfilter }) => {
    listConntrack(netfilter, { family: 4 });
  },
  ipset: ({ netfilter }) => {
    const writer = new MessageWriter().begin((NFNL_SUBSYS_IPSET << 8) | IPSET_CMD_PROTOCOL, 0);
    // struct nfgenmsg: AF_UNSPEC, NFNETLINK_V0, resource 0.
    writer.u8(0).u8(0).u16be(0).attrU8(IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL);
    netfilter.request(writer.end().finish(), { op: 'redirection.probe' });
  },
  veth: ({ route }) => addLink(route, { kind: 'veth', name: 'probe-veth', peer: { name: 'probe-peer' } }),
  geneve: ({ route }) => addLink(route, { kind: 'geneve', name: 'probe-geneve', id: 1, remote: '192.0.2.1' }),
  vxlan: ({ route }) => addLink(route, { kind: 'vxlan', name: 'probe-vxlan', id: 1, remote: '192.0.2.1' }),
  bridge: ({ route }) => addLink(route, { kind: 'bridge', name: 'probe-bridge' }),
  dummy: ({ route }) => addLink(route, { kind: 'dummy', name: 'probe-dummy' }),
};

function tableOf(family: 'ip' | 'ip6'): Table {
  return { family, name: 'ambient-probe' };
}

/** A table with one rule, loaded and taken away. */
function tryRule(
  { netfilter }: Scratch,
  family: 'ip' | 'ip6',
  type: 'filter' | 'nat' | 'route',
  hook: 'prerouting' | 'output' | 'postrouting',
  expressions: readonly Expression[],
  priority = 0,
): void {
  const table = tableOf(family);
  const { chain, rule } = hooked(table, type, hook, expressions, priority);
  new Batch().addTable(table).addChain(chain).addRule(rule).commit(netfilter);
  new Batch().deleteTable(table).commit(netfilter);
}

function hooked(
  table: Table,
  type: 'filter' | 'nat' | 'route',
  hook: 'prerouting' | 'output' | 'postrouting',
  expressions: readonly Expression[],
  priority = 0,
) {
  const chain: Chain = { table, name: 'probe', base: { type, hook, priority, policy: 'accept' } };
  return { chain, rule: { table, chain: chain.name, expressions } };
}
