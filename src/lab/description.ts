/** A pod: a namespace with one address, cabled to its node. */
export interface LabPod {
  readonly name: string;
  readonly ip: string;
  /** The node's end of its cable. Default `veth` and the name; at most 15 bytes. */
  readonly veth?: string;
  /** Whether its traffic goes by the node's proxy. Default true. */
  readonly enrolled?: boolean;
}

/** Where a node's proxy lives. */
export interface LabZtunnel {
  readonly name: string;
  readonly ip: string;
  readonly veth?: string;
}

/** A node: a namespace that forwards between its pods and the LAN. */
export interface LabNode {
  readonly name: string;
  /** On the LAN. */
  readonly ip: string;
  /** Where its pods' addresses come from: `10.244.1.0/24`. */
  readonly podRange: string;
  /** The pods' router, an address of the node on every cable. */
  readonly gateway: string;
  readonly ztunnel: LabZtunnel;
  readonly pods: readonly LabPod[];
}

/** A ClusterIP and the pod behind it, TCP. */
export interface LabService {
  readonly ip: string;
  readonly port: number;
  readonly endpoint: { readonly ip: string; readonly port: number };
}

/** A host on the LAN that is no part of the cluster; its namespace holds the switch too. */
export interface LabOutside {
  readonly name: string;
  readonly ip: string;
  /** Of the LAN. */
  readonly prefixLength: number;
  /** More addresses of it, which only the nodes' default route leads to. */
  readonly addresses?: readonly string[];
}

/** Nodes, pods and services as a value: what `createLab` builds. IPv4. */
export interface LabDescription {
  /** What namespace names begin with. Default `ambient-`. */
  readonly prefix?: string;
  /** Every pod's address is in here; what leaves it is masqueraded: `10.244.0.0/16`. */
  readonly clusterRange: string;
  readonly nodes: readonly LabNode[];
  readonly outside: LabOutside;
  readonly services: readonly LabService[];
}

export const DEFAULT_PREFIX = 'ambient-';

/**
 * The mesh of the seed articles: sleep and client2 on node A, httpbin on node B behind the ClusterIP 10.96.0.105, and a host outside.
 *
 * @param prefix - what namespace names begin with, default `ambient-`
 */
export function twoNodes(prefix: string = DEFAULT_PREFIX): LabDescription {
  return {
    prefix,
    clusterRange: '10.244.0.0/16',
    nodes: [
      {
        name: 'node-a',
        ip: '172.18.0.2',
        podRange: '10.244.1.0/24',
        gateway: '10.244.1.1',
        ztunnel: { name: 'ztunnel-a', ip: '10.244.1.2', veth: 'vethza' },
        pods: [
          { name: 'sleep', ip: '10.244.1.10' },
          { name: 'client2', ip: '10.244.1.11' },
        ],
      },
      {
        name: 'node-b',
        ip: '172.18.0.3',
        podRange: '10.244.2.0/24',
        gateway: '10.244.2.1',
        ztunnel: { name: 'ztunnel-b', ip: '10.244.2.2', veth: 'vethzb' },
        pods: [{ name: 'httpbin', ip: '10.244.2.10' }],
      },
    ],
    outside: { name: 'outside', ip: '172.18.0.100', prefixLength: 24, addresses: ['203.0.113.10'] },
    services: [{ ip: '10.96.0.105', port: 80, endpoint: { ip: '10.244.2.10', port: 80 } }],
  };
}

/** The namespace of a node, proxy, pod or outside host: the prefix and its name. */
export function namespaceName(description: LabDescription, name: string): string {
  return `${description.prefix ?? DEFAULT_PREFIX}${name}`;
}

/** Every name of a description, the outside host first: what has a namespace. */
export function labNames({ nodes, outside }: LabDescription): string[] {
  return [
    outside.name,
    ...nodes.flatMap(({ name, ztunnel, pods }) => [name, ztunnel.name, ...pods.map((p) => p.name)]),
  ];
}

/** The node's end of a pod's or a proxy's cable. */
export function vethName({ name, veth }: { readonly name: string; readonly veth?: string }): string {
  return veth ?? `veth${name}`;
}
