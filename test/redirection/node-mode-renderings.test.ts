import type { Server, Socket } from 'node:net';
import { expect, it } from 'vitest';
import { listConntrack } from '../../src/netlink/conntrack/index.ts';
import { openNetlink } from '../../src/netlink/index.ts';
import { addRoute } from '../../src/netlink/route/index.ts';
import { type NetworkNamespace, writeSysctl } from '../../src/netns/index.ts';
import { apply, nodeMode, remove } from '../../src/redirection/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn, vethPair, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { loadRendering, renderings, renderingTools } from './load-rendering.ts';
import { CLIENT2, FAR, HTTPBIN, OUTSIDE, PLAIN, SLEEP, type Topology, VIP, withTopology } from './topology.ts';

const needs = { root: true, tools: ['ip', ...renderingTools] };

/** Who asks whom, what the server sees, and which listeners were on the way (node mode, section 4). */
const journeys = (t: Topology): readonly (readonly [NetworkNamespace, string, number, string, readonly string[]])[] => [
  [t.sleep, VIP, 80, SLEEP, ['a 15001', 'b 15008']],
  [t.sleep, HTTPBIN, 80, SLEEP, ['a 15001', 'b 15008']],
  [t.sleep, CLIENT2, 80, SLEEP, ['a 15001']],
  [t.sleep, FAR, 8080, t.a.hostIp, ['a 15001']],
  [t.outside, HTTPBIN, 80, OUTSIDE, ['b 15006']],
  [t.plain, VIP, 80, PLAIN, ['b 15006']],
  [t.plain, CLIENT2, 80, PLAIN, ['a 15006']],
  [t.b.namespace, HTTPBIN, 80, t.b.hostIp, []],
  [t.b.namespace, VIP, 80, t.b.hostIp, []],
  [t.a.namespace, VIP, 80, t.a.hostIp, ['b 15006']],
  [t.a.ztunnel, FAR, 8080, t.a.hostIp, []],
];

describeRequiring('nodeMode(), by each rendering', needs, () => {
  // kube-proxy of the topology is native nftables, so iptables' rules say more than ACCEPT (node mode, change 1).
  it.each(renderings)('what happens (node mode, section 4), by %s', async (rendering) => {
    await withTopology(async (t) => {
      for (const node of [t.a, t.b]) loadRendering(rendering, t.plan(node), t.namespaces(node), { noNat: 'netmap' });
      const [a, b] = [await t.proxy(t.a), await t.proxy(t.b)];
      const seen: unknown[] = [];
      const expected: unknown[] = [];
      for (const [from, ip, port, answer, by] of journeys(t)) {
        const before = [a.accepted.length, b.accepted.length];
        const got = await t.ask(from, ip, port);
        const visited = [
          ...a.accepted.slice(before[0]).map(({ port }) => `a ${port}`),
          ...b.accepted.slice(before[1]).map(({ port }) => `b ${port}`),
        ];
        seen.push([from.name?.split('-').at(-1), ip, got, visited]);
        expected.push([from.name?.split('-').at(-1), ip, answer, by]);
      }
      expect(seen).toEqual(expected);
    });
  });
});

const POD = 'fd00:2::10';
const BEYOND = 'fd00:a::100';
const options = {
  hostIp: '172.18.0.2',
  hostIp6: 'fd00:a::2',
  ztunnelIp: '10.244.1.2',
  ztunnelIp6: 'fd00:1::2',
  ztunnelVeth: 'vethza',
} as const;

interface World6 {
  readonly node: NetworkNamespace;
  readonly ztunnel: NetworkNamespace;
  readonly pod: NetworkNamespace;
  readonly outside: NetworkNamespace;
  /** What the proxy accepted: port and target. */
  readonly accepted: string[];
  dial(from: NetworkNamespace, ip: string, port: number): Promise<Socket>;
}

/** A node, its proxy, a pod and the world, in IPv6. Servers answer each line with the client's address. */
async function withWorld6(body: (world: World6) => Promise<void>): Promise<void> {
  await withNamespaces(['node', 'zt', 'pod', 'outside'], async (...namespaces) => {
    const [node, ztunnel, pod, outside] = namespaces as [
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
    ];
    const end = (namespace: NetworkNamespace, device: string, ...addresses: string[]) => ({
      namespace,
      device,
      addresses,
    });
    vethPair(end(node, 'eth0', '172.18.0.2/24', 'fd00:a::2/64'), end(outside, 'eth0', `${BEYOND}/64`));
    vethPair(end(node, 'vethza', 'fd00:1::1/64'), end(ztunnel, 'eth0', '10.244.1.2/32', 'fd00:1::2/64'));
    vethPair(end(node, 'vethpod', 'fd00:2::1/64'), end(pod, 'eth0', `${POD}/64`));
    writeSysctl(node, 'net.ipv6.conf.all.forwarding', 1);
    for (const [namespace, gateway] of [
      [ztunnel, 'fd00:1::1'],
      [pod, 'fd00:2::1'],
      [outside, 'fd00:a::2'],
    ] as const) {
      using route = openNetlink({ family: 'route', namespace });
      addRoute(route, { destination: '::/0', gateway });
    }
    const accepted: string[] = [];
    const sockets = new Set<Socket>();
    const servers: Server[] = [];
    const serve = async (namespace: NetworkNamespace, port: number, take: (socket: Socket) => void) => {
      const server = await listen({ namespace, host: '::', port, transparent: true });
      servers.push(server);
      server.on('connection', (socket) => {
        sockets.add(socket);
        socket.on('error', () => {});
        take(socket);
      });
    };
    const dial = async (namespace: NetworkNamespace, host: string, port: number, source?: string) => {
      const from = source === undefined ? {} : { source: { ip: source }, transparent: true };
      const socket = await connect({ namespace, host, port, timeoutMs: 1500, ...from });
      sockets.add(socket);
      socket.on('error', () => {});
      return socket;
    };
    for (const port of [15001, 15006]) {
      await serve(ztunnel, port, (client) => {
        const { localAddress = '', localPort = 0, remoteAddress = '' } = client;
        accepted.push(`${port} ${localAddress} ${localPort}`);
        client.pause();
        dial(ztunnel, localAddress, localPort, remoteAddress).then(
          (upstream) => client.pipe(upstream).pipe(client),
          () => client.destroy(),
        );
      });
    }
    for (const namespace of [pod, outside]) {
      await serve(namespace, 80, (socket) => socket.on('data', () => socket.write(`${socket.remoteAddress}\n`)));
    }
    try {
      await body({ node, ztunnel, pod, outside, accepted, dial });
    } finally {
      for (const server of servers) server.close();
      for (const socket of sockets) socket.destroy();
    }
  });
}

function ask(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    const done = (answer: string) => {
      clearTimeout(timer);
      resolve(answer);
    };
    const timer = setTimeout(done, 1500, 'timeout');
    socket.once('data', (data) => done(data.toString().trim()));
    socket.once('close', () => done('closed'));
    socket.write('who am I\n');
  });
}

describeRequiring('nodeMode() with IPv6, which the original did not have', needs, () => {
  const pods = [{ ip: POD, veth: 'vethpod', comment: 'default/pod' }];

  it.each(renderings)('captures and delivers by the same marks, by %s', async (rendering) => {
    await withWorld6(async ({ node, ztunnel, pod, outside, accepted, dial }) => {
      loadRendering(rendering, nodeMode({ ...options, pods }), { node, ztunnel });
      const out = await dial(pod, BEYOND, 80);
      expect([await ask(out), await ask(out)]).toEqual([POD, POD]);
      const into = await dial(outside, POD, 80);
      expect([await ask(into), await ask(into)]).toEqual([BEYOND, BEYOND]);
      expect(accepted).toEqual([`15001 ${BEYOND} 80`, `15006 ${POD} 80`]);
      expect(await ask(await dial(node, POD, 80))).toBe(options.hostIp6);
      expect(accepted).toHaveLength(2);
      using netlink = openNetlink({ family: 'netfilter', namespace: node });
      const marks = listConntrack(netlink, { family: 6, original: { source: POD, destination: BEYOND } });
      expect(marks.map(({ mark }) => mark)).toEqual([0x210, 0x210]);
    });
  });

  it('spares open connections of a pod that is enrolled (trap 3), and leaves nothing behind', async () => {
    await withWorld6(async ({ node, ztunnel, pod, outside, accepted, dial }) => {
      const state = () =>
        [node, ztunnel].map((namespace) => [
          runIn(namespace, 'nft', 'list', 'ruleset'),
          runIn(namespace, 'ip', '-6', 'rule'),
          runIn(namespace, 'ip', '-6', 'route', 'show', 'table', 'all').match(/.*table 10[012].*/g),
        ]);
      runIn(node, 'nft', 'add table ip6 other; add chain ip6 other c; add rule ip6 other c ct state new accept');
      const open = [await dial(pod, BEYOND, 80), await dial(outside, POD, 80)] as const;
      expect(await Promise.all(open.map(ask))).toEqual([POD, BEYOND]);
      const before = state();
      const plan = nodeMode(options);
      const redirection = apply(plan, { node, ztunnel });
      redirection.addPod(pods[0]!);
      expect(runIn(node, 'ip', '-6', 'route', 'show', 'table', '100')).toContain(
        `${POD} via fd16:9254:7127:126::2 dev istioin src fd00:a::2`,
      );
      expect(await Promise.all(open.map(ask))).toEqual([POD, BEYOND]);
      expect(accepted).toEqual([]);
      expect(await ask(await dial(pod, BEYOND, 80))).toBe(POD);
      expect(accepted).toEqual([`15001 ${BEYOND} 80`]);
      expect(redirection.readBack().pods).toEqual([POD]);
      redirection.close();
      remove({ ...plan, pods: { ...plan.pods, list: pods } }, { node, ztunnel });
      expect(state()).toEqual(before);
    });
  });
});
