import { parseCidr, parseIp } from '../ip/index.ts';
import { openNetlink } from '../netlink/index.ts';
import {
  Batch,
  type Expression,
  match,
  NF_IP_PRI_NAT_DST,
  NF_IP_PRI_NAT_SRC,
  statement,
} from '../netlink/nftables/index.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import type { LabDescription } from './description.ts';

/** The table of a node that stands for kube-proxy and the CNI plugin. */
export const CLUSTER_TABLE = { family: 'ip', name: 'kube-proxy' } as const;

const NFT_PAYLOAD_NETWORK_HEADER = 1;
const NFT_CMP_EQ = 0;
const NFT_CMP_NEQ = 1;

/**
 * What a cluster has on every node without a mesh: DNAT from each ClusterIP to its pod where iptables' KUBE-SERVICES has it
 * (prerouting and output, priority dstnat), and the CNI's masquerade of what leaves the pods' range. Each rule counts, and has a
 * comment to be found by.
 */
export function installClusterNetwork({ services, clusterRange }: LabDescription, namespace: NetworkNamespace): void {
  using netlink = openNetlink({ family: 'netfilter', namespace });
  const table = CLUSTER_TABLE;
  const batch = new Batch().addTable(table);
  for (const hook of ['prerouting', 'output'] as const) {
    batch.addChain({ table, name: hook, base: { type: 'nat', hook, priority: NF_IP_PRI_NAT_DST, policy: 'accept' } });
    for (const { ip, port, endpoint } of services) {
      const expressions = [
        ...match.destination(ip),
        ...match.destinationPort('tcp', port),
        ...statement.counter(),
        ...statement.dnat(endpoint.ip, endpoint.port),
      ];
      batch.addRule({ table, chain: hook, expressions, comment: `${ip}:${port}` });
    }
  }
  const base = { type: 'nat', hook: 'postrouting', priority: NF_IP_PRI_NAT_SRC, policy: 'accept' } as const;
  batch.addChain({ table, name: 'postrouting', base });
  const expressions = [
    ...inRange('source', clusterRange, NFT_CMP_EQ),
    ...inRange('destination', clusterRange, NFT_CMP_NEQ),
    ...statement.counter(),
    ...statement.masquerade(),
  ];
  batch.addRule({ table, chain: 'postrouting', expressions, comment: 'masquerade' });
  batch.commit(netlink);
}

/** `ip saddr & mask == network`, at the address's place in the IPv4 header. */
function inRange(which: 'source' | 'destination', range: string, op: 0 | 1): Expression[] {
  const { text, prefixLength } = parseCidr(range);
  const network = Buffer.alloc(4);
  network.writeInt32BE(parseIp(text.slice(0, text.indexOf('/'))).w3);
  const mask = Buffer.alloc(4);
  mask.writeUInt32BE(prefixLength === 0 ? 0 : (0xffff_ffff << (32 - prefixLength)) >>> 0);
  const offset = which === 'source' ? 12 : 16;
  return [
    { type: 'payload', dreg: 1, base: NFT_PAYLOAD_NETWORK_HEADER, offset, length: 4 },
    { type: 'bitwise', sreg: 1, dreg: 1, mask, xor: Buffer.alloc(4) },
    { type: 'cmp', sreg: 1, op, value: network },
  ];
}
