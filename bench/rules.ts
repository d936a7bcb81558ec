import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { openNetlink } from '../src/netlink/index.ts';
import { addAddress, addLink, setLink } from '../src/netlink/route/index.ts';
import { createNamespace, deleteNamespace, type NetworkNamespace, writeSysctl } from '../src/netns/index.ts';
import { apply, hostProbes, nodeMode, type Pod, podMode, probe, type Redirection } from '../src/redirection/index.ts';
import { connect, listen } from '../src/socket/index.ts';
import { type Spread, spread } from './statistics.ts';

/** The row of these figures: no load, no peers. */
export const RULES_ROW = 'rules';

/** One figure of the redirection: by the clock, and to an absolute target. */
export interface RulesLine extends Spread {
  readonly figure: string;
  readonly unit: 'ms' | 's';
  /** One a round, each the median of what the round did several times. */
  readonly values: readonly number[];
  /** The median is to stay below. */
  readonly target: number;
  /** Undefined in the short form, which does less. */
  readonly isMet: boolean | undefined;
}

export interface RulesOptions {
  readonly rounds: number;
  readonly isShort: boolean;
  /** Of the namespaces' names. */
  readonly prefix: string;
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

const OPEN_CONNECTIONS = 10;
const NODE = { hostIp: '172.18.0.2', ztunnelIp: '192.0.2.2', ztunnelVeth: 'vethza' } as const;

/** What an operator waits for when pods come and go. Needs no proxy, and neither peers nor loads. */
export async function measureRules(options: RulesOptions): Promise<RulesLine[]> {
  const { rounds, isShort, signal, onProgress } = options;
  const times = isShort ? 5 : 30;
  const enrolled = isShort ? 1000 : 10_000;
  const pods = isShort ? 25 : 250;
  const kernel = probe();
  const figures = [
    { figure: `apply of a pod's plan, ${OPEN_CONNECTIONS} connections open`, unit: 'ms', target: 10 },
    { figure: `addPod beside ${enrolled.toLocaleString('en-US')} pods`, unit: 'ms', target: 1 },
    { figure: `removePod beside ${enrolled.toLocaleString('en-US')} pods`, unit: 'ms', target: 1 },
    { figure: `${pods} pods of a node enrolled, node mode`, unit: 's', target: 3 },
    { figure: `${pods} pods of a node enrolled, pod mode`, unit: 's', target: 3 },
  ] as const;
  const values: number[][] = figures.map(() => []);
  const nodeModeOf = (node: NetworkNamespace, ztunnel: NetworkNamespace, list: readonly Pod[]) =>
    apply(nodeMode({ ...NODE, pods: list }), { node, ztunnel }, { kernel });
  const step = async (what: string) => {
    onProgress(what);
    await turn();
    signal.throwIfAborted();
  };
  for (let round = 0; round < rounds; round++) {
    const about = `round ${round + 1} of ${rounds}: rules,`;
    await step(`${about} one pod`);
    values[0]!.push(await podApply(options, times, (pod) => apply(podMode(), { pod }, { kernel })));
    await step(`${about} ${enrolled} pods`);
    await withNode(options, 1, (node, ztunnel) => {
      const list = Array.from({ length: enrolled }, (_, i) => podAt(i, 'pod0'));
      using redirection = nodeModeOf(node, ztunnel, list);
      const { added, removed } = membership(redirection, node, times * 10);
      values[1]!.push(added);
      values[2]!.push(removed);
    });
    await step(`${about} enrolling ${pods} pods on the node`);
    await withNode(options, pods, (node, ztunnel) => {
      using redirection = nodeModeOf(node, ztunnel, []);
      values[3]!.push(
        elapsedMs(() => {
          redirection.addPods(Array.from({ length: pods }, (_, i) => podAt(i, `pod${i}`)));
        }) / 1000,
      );
    });
    await step(`${about} enrolling ${pods} pods in their namespaces`);
    await withNamespaces(options, pods + 1, ([host, ...namespaces]) => {
      using probes = apply(hostProbes(), { host: host! }, { kernel });
      values[4]!.push(
        elapsedMs(() => {
          for (const [i, pod] of namespaces.entries()) {
            apply(podMode(), { pod }, { kernel }).close();
            probes.addPod({ ip: podAt(i, '').ip });
          }
        }) / 1000,
      );
    });
  }
  return figures.map((figure, i) => {
    const { min, median, max } = spread(values[i]!);
    const isMet = isShort ? undefined : median < figure.target;
    return { ...figure, min, median, max, values: values[i]!, isMet };
  });
}

/** Figures in lines, as the table of the rows has them. */
export function formatRules(lines: readonly RulesLine[]): string {
  const width = Math.max(...lines.map(({ figure }) => figure.length));
  const texts = lines.map(({ figure, unit, min, median, max, target, isMet }) => {
    const [low, middle, high] = [min, median, max].map((value) => value.toPrecision(3));
    const missed = isMet === false ? '  missed' : '';
    return `${figure.padEnd(width)}  ${middle} ${unit} (${low}–${high})  < ${target} ${unit}${missed}`;
  });
  return `${texts.join('\n')}\n`;
}

async function podApply(
  options: RulesOptions,
  times: number,
  run: (pod: NetworkNamespace) => Redirection,
): Promise<number> {
  const took: number[] = [];
  for (let i = 0; i < times; i++) {
    await withNamespaces(options, 1, async ([pod]) => {
      {
        using route = openNetlink({ family: 'route', namespace: pod! });
        setLink(route, 'lo', { up: true });
      }
      const server = await listen({ namespace: pod!, host: '127.0.0.1', port: 80 });
      const open: { destroy(): unknown }[] = [];
      try {
        for (let n = 0; n < OPEN_CONNECTIONS; n++) {
          const accepted = once(server, 'connection');
          open.push(await connect({ namespace: pod!, host: '127.0.0.1', port: 80 }), (await accepted)[0]);
        }
        const startedMs = performance.now();
        const redirection = run(pod!);
        took.push(performance.now() - startedMs);
        redirection.close();
      } finally {
        for (const socket of open) socket.destroy();
        server.close();
      }
    });
  }
  return spread(took).median;
}

/** The same pod comes and goes, each time by a device that has the kernel's own parameters, as a new pod's has. */
function membership(
  redirection: Redirection,
  node: NetworkNamespace,
  times: number,
): { added: number; removed: number } {
  const added: number[] = [];
  const removed: number[] = [];
  const pod = { ip: '10.200.0.1', veth: 'pod0', comment: 'default/new' };
  for (let i = 0; i < times; i++) {
    writeSysctl(node, 'net.ipv4.conf.pod0.rp_filter', 2);
    writeSysctl(node, 'net.ipv4.neigh.pod0.proxy_delay', 80);
    added.push(elapsedMs(() => redirection.addPod(pod)));
    removed.push(elapsedMs(() => redirection.removePod(pod.ip)));
  }
  return { added: spread(added).median, removed: spread(removed).median };
}

function podAt(i: number, veth: string): Pod & { readonly ip: string } {
  return { ip: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, veth, comment: `default/pod-${i}` };
}

/** A node and its proxy's namespace, with the cable between them and the devices `pod0` to `pod<devices - 1>`. */
async function withNode(
  options: RulesOptions,
  devices: number,
  body: (node: NetworkNamespace, ztunnel: NetworkNamespace) => void,
): Promise<void> {
  await withNamespaces(options, 2, ([node, ztunnel]) => {
    using route = openNetlink({ family: 'route', namespace: node! });
    addLink(route, { kind: 'veth', name: NODE.ztunnelVeth, peer: { name: 'eth0', namespace: ztunnel! } });
    for (let i = 0; i < devices; i += 2) {
      addLink(route, { kind: 'veth', name: `pod${i}`, peer: { name: `pod${i + 1}` } });
    }
    setLink(route, NODE.ztunnelVeth, { up: true });
    addAddress(route, { device: NODE.ztunnelVeth, ip: NODE.hostIp, prefixLength: 32 });
    using inside = openNetlink({ family: 'route', namespace: ztunnel! });
    setLink(inside, 'eth0', { up: true });
    addAddress(inside, { device: 'eth0', ip: NODE.ztunnelIp, prefixLength: 32 });
    body(node!, ztunnel!);
  });
}

async function withNamespaces(
  { prefix }: RulesOptions,
  count: number,
  body: (namespaces: readonly NetworkNamespace[]) => void | Promise<void>,
): Promise<void> {
  const namespaces: NetworkNamespace[] = [];
  const cleanUp = () => {
    for (const namespace of namespaces.splice(0)) {
      namespace.close();
      deleteNamespace(namespace.name!, { missingOk: true });
    }
  };
  // A second signal does not wait for what is under way.
  process.on('exit', cleanUp);
  try {
    for (let i = 0; i < count; i++) namespaces.push(createNamespace(`${prefix}rules-${i}`));
    await body(namespaces);
  } finally {
    process.off('exit', cleanUp);
    cleanUp();
  }
}

function elapsedMs(run: () => void): number {
  const startedMs = performance.now();
  run();
  return performance.now() - startedMs;
}
