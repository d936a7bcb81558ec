import { setTimeout as sleep } from 'node:timers/promises';
import { CLUSTER_TABLE, type ImaginedPacket, type Lab, lookupRoute, type RouteDecision } from '../../lab/index.ts';
import { type ConntrackEntry, conntrackStatusNames, listConntrack } from '../../netlink/conntrack/index.ts';
import { type Netlink, openNetlink } from '../../netlink/index.ts';
import { listRules, ruleCounter } from '../../netlink/nftables/index.ts';
import { countsBetween, type ReadBack } from '../../redirection/index.ts';

const IPPROTO_TCP = 6;
/** Longer than a delayed ACK: counters that stay still for so long have seen the last packet of an exchange. */
const QUIET_MS = 50;
const MAX_QUIET_ROUNDS = 20;

/** A rule that packets visited, with how many did. */
export interface RuleVisit {
  /** Whose redirection it is: a node's, or in pod mode a pod's too. */
  readonly node: string;
  /** In which of its namespaces: `node` or `ztunnel`, in pod mode `host` or `pod`. */
  readonly role: string;
  readonly id: string;
  readonly table: string;
  readonly chain: string;
  readonly rule: string;
  readonly packets: number;
}

/** Every counter of every node and pod at one moment. */
export interface Counters {
  readonly redirections: ReadonlyMap<string, ReadBack>;
  /** Packets that each kube-proxy rule of a node translated: `node-a prerouting 10.96.0.105:80`. */
  readonly clusterNat: ReadonlyMap<string, number>;
}

/** A tracked connection as a program would like to read it. */
export interface ConntrackEvidence {
  /** A node or a pod. */
  readonly node: string;
  readonly original: string;
  readonly reply: string;
  readonly state: string;
  readonly status: readonly string[];
  readonly mark: string;
}

/** Which connection to look for, by its first packet. */
export interface FlowQuery {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort?: number;
  readonly destinationPort: number;
}

/** Reads the kernel's side of nodes and pods: counters, routing decisions, tracked connections. */
export class Observer implements Disposable {
  readonly #lab: Lab;
  readonly #route = new Map<string, Netlink>();
  readonly #netfilter = new Map<string, Netlink>();

  constructor(lab: Lab) {
    this.#lab = lab;
    for (const { name, pods } of lab.description.nodes) {
      for (const at of [name, ...pods.map((pod) => pod.name)]) {
        const namespace = lab.namespace(at);
        this.#route.set(at, openNetlink({ family: 'route', namespace }));
        this.#netfilter.set(at, openNetlink({ family: 'netfilter', namespace }));
      }
    }
  }

  counters(): Counters {
    const redirections = new Map<string, ReadBack>();
    const clusterNat = new Map<string, number>();
    for (const [name, redirection] of this.#lab.redirections) redirections.set(name, redirection.readBack());
    for (const { name } of this.#lab.description.nodes) {
      for (const rule of listRules(this.#netfilter.get(name)!, CLUSTER_TABLE)) {
        clusterNat.set(`${name} ${rule.chain} ${rule.comment}`, ruleCounter(rule)?.packets ?? 0);
      }
    }
    return { redirections, clusterNat };
  }

  /** As {@link counters}, once they have stopped moving. */
  async settled(signal: AbortSignal): Promise<Counters> {
    let last = this.counters();
    for (let round = 0; round < MAX_QUIET_ROUNDS; round++) {
      await sleep(QUIET_MS, undefined, { signal });
      const now = this.counters();
      if (visitsBetween(last, now).length === 0) return now;
      last = now;
    }
    return last;
  }

  /** Where a node or a pod would send a packet, now. */
  route(node: string, packet: ImaginedPacket): RouteDecision {
    return lookupRoute(this.#route.get(node)!, packet);
  }

  /** Connections that a node or a pod tracks. */
  connections(node: string, flow: FlowQuery): ConntrackEvidence[] {
    const filter = { family: 4, original: { ...flow, protocol: IPPROTO_TCP } } as const;
    return listConntrack(this.#netfilter.get(node)!, filter).map((entry) => describeEntry(node, entry));
  }

  close(): void {
    for (const netlink of [...this.#route.values(), ...this.#netfilter.values()]) netlink.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The rules of the redirections that counted anything between two readings, node by node in the plan's order. */
export function visitsBetween(before: Counters, after: Counters): RuleVisit[] {
  const visits: RuleVisit[] = [];
  for (const [node, now] of after.redirections) {
    for (const count of countsBetween(before.redirections.get(node)!, now)) {
      const { role, id, table, chain, text, packets } = count;
      visits.push({ node, role, id, table, chain, rule: text, packets });
    }
  }
  return visits;
}

/** How many connections of a node kube-proxy sent on from `service` to its pod between two readings. */
export function clusterNatBetween(
  before: Counters,
  after: Counters,
  where: { readonly node: string; readonly hook: 'prerouting' | 'output' },
  service: string,
): number {
  const key = `${where.node} ${where.hook} ${service}`;
  return (after.clusterNat.get(key) ?? 0) - (before.clusterNat.get(key) ?? 0);
}

/** As `ip route get` says it. */
export function routeDecisionText({ table, local, device, gateway }: RouteDecision): string {
  const name = table === 254 ? 'main' : table === 255 ? 'local' : String(table);
  return `table ${name}:${local ? ' local' : ''}${gateway === undefined ? '' : ` via ${gateway}`} dev ${device ?? '?'}`;
}

export function hexMark(mark: number): string {
  return `0x${mark.toString(16)}`;
}

function describeEntry(node: string, entry: ConntrackEntry): ConntrackEvidence {
  const flow = ({ source, sourcePort, destination, destinationPort }: ConntrackEntry['original']) =>
    `${source}:${sourcePort} > ${destination}:${destinationPort}`;
  return {
    node,
    original: flow(entry.original),
    reply: flow(entry.reply),
    state: entry.tcpState ?? '',
    status: conntrackStatusNames(entry.status),
    mark: hexMark(entry.mark),
  };
}
