/**
 * The two nodes of node-mode-verified section 1, in fresh namespaces, with stand-in proxies: transparent sockets, and a line of
 * plaintext (`CONNECT ip:port`) where HBONE would be. Nothing is redirected until a test applies a plan.
 */
import type { Server, Socket } from 'node:net';
import { openNetlink } from '../../src/netlink/index.ts';
import { Batch, type Expression, match, statement } from '../../src/netlink/nftables/index.ts';
import { addAddress, addLink, addRoute, setLink } from '../../src/netlink/route/index.ts';
import { type NetworkNamespace, writeSysctl } from '../../src/netns/index.ts';
import { type NodeModeOptions, nodeMode, type RedirectionPlan } from '../../src/redirection/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { withNamespaces } from '../support/namespaces.ts';

export const VIP = '10.96.0.105';
export const HTTPBIN = '10.244.2.10';
export const SLEEP = '10.244.1.10';
export const CLIENT2 = '10.244.1.11';
export const PLAIN = '10.244.1.20';
export const OUTSIDE = '172.18.0.100';
export const FAR = '203.0.113.10';

/** A node and its proxy. */
export interface NodeFixture {
  readonly label: 'a' | 'b';
  readonly namespace: NetworkNamespace;
  readonly ztunnel: NetworkNamespace;
  readonly hostIp: string;
  readonly ztunnelIp: string;
  readonly ztunnelVeth: string;
  /** The pods that {@link Topology.plan} enrols. */
  readonly pods: readonly { readonly ip: string; readonly veth: string; readonly comment: string }[];
}

const nodes = {
  a: {
    label: 'a',
    hostIp: '172.18.0.2',
    ztunnelIp: '10.244.1.2',
    ztunnelVeth: 'vethza',
    gateway: '10.244.1.1',
    pods: [
      { ip: SLEEP, veth: 'vethsleep', comment: 'default/sleep' },
      { ip: CLIENT2, veth: 'vethclient2', comment: 'default/client2' },
    ],
  },
  b: {
    label: 'b',
    hostIp: '172.18.0.3',
    ztunnelIp: '10.244.2.2',
    ztunnelVeth: 'vethzb',
    gateway: '10.244.2.1',
    pods: [{ ip: HTTPBIN, veth: 'vethhttpbin', comment: 'default/httpbin' }],
  },
} as const;

/** The pods whose traffic proxies carry in their stand-in tunnel. */
const meshPods = new Map<string, 'a' | 'b'>([
  [SLEEP, 'a'],
  [CLIENT2, 'a'],
  [HTTPBIN, 'b'],
]);

/** How a stand-in proxy is to differ from a right one. */
export interface ProxyOptions {
  /** Where it listens. Default 127.0.0.1. */
  readonly host?: string;
  readonly transparent?: boolean;
  /** Which of its listeners there are. */
  readonly ports?: readonly (15001 | 15006 | 15008)[];
  /** Trap 4: pods of the same node are reached by the tunnel port too, instead of being handed over inside. */
  readonly sameNodeByNetwork?: boolean;
  /** Trap 8: connects from the very port that the client has. */
  readonly clientsOwnPort?: boolean;
}

/** A stand-in proxy: what it accepted, and by which listener. */
export interface Proxy {
  readonly accepted: {
    readonly port: number;
    readonly client: string;
    readonly target: string;
    readonly head: string;
  }[];
  close(): void;
}

export interface Topology {
  readonly a: NodeFixture;
  readonly b: NodeFixture;
  readonly sleep: NetworkNamespace;
  readonly client2: NetworkNamespace;
  readonly plain: NetworkNamespace;
  readonly httpbin: NetworkNamespace;
  readonly outside: NetworkNamespace;
  /** The node-mode plan of a node, with its pods enrolled. */
  plan(node: NodeFixture, options?: Partial<NodeModeOptions>): RedirectionPlan;
  namespaces(node: NodeFixture): { node: NetworkNamespace; ztunnel: NetworkNamespace };
  proxy(node: NodeFixture, options?: ProxyOptions): Promise<Proxy>;
  /** Connects, asks "who am I", and gives the answer: the address that the server saw. Or why there is none. */
  ask(from: NetworkNamespace, ip: string, port: number, options?: AskOptions): Promise<string>;
  /** A connection that stays open for several questions. */
  dial(from: NetworkNamespace, ip: string, port: number, options?: AskOptions): Promise<Conversation>;
}

export interface AskOptions {
  readonly source?: { readonly ip: string; readonly port?: number };
  readonly timeoutMs?: number;
}

export interface Conversation {
  readonly socket: Socket;
  /** The server's answer, or `timeout`, `closed`, or an errno. */
  ask(timeoutMs?: number): Promise<string>;
}

/** Builds the topology, runs `body` in it, and takes everything away. */
export async function withTopology(body: (topology: Topology) => Promise<void>): Promise<void> {
  const labels = ['node-a', 'zt-a', 'node-b', 'zt-b', 'sleep', 'client2', 'plain', 'httpbin', 'outside'];
  await withNamespaces(labels, async (...all) => {
    const [nodeA, ztunnelA, nodeB, ztunnelB, sleep, client2, plain, httpbin, outside] = all as [
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
    ];
    const closing: (() => void)[] = [];
    const a: NodeFixture = { ...nodes.a, namespace: nodeA, ztunnel: ztunnelA };
    const b: NodeFixture = { ...nodes.b, namespace: nodeB, ztunnel: ztunnelB };
    for (const namespace of all) prepare(namespace);
    wireLan(outside, [nodeA, nodeB]);
    wireNode(nodeA, nodes.a, [
      { namespace: ztunnelA, ip: nodes.a.ztunnelIp, veth: 'vethza' },
      { namespace: sleep, ip: SLEEP, veth: 'vethsleep' },
      { namespace: client2, ip: CLIENT2, veth: 'vethclient2' },
      { namespace: plain, ip: PLAIN, veth: 'vethplain' },
    ]);
    wireNode(nodeB, nodes.b, [
      { namespace: ztunnelB, ip: nodes.b.ztunnelIp, veth: 'vethzb' },
      { namespace: httpbin, ip: HTTPBIN, veth: 'vethhttpbin' },
    ]);
    for (const [namespace, host] of [
      [sleep, SLEEP],
      [client2, CLIENT2],
      [httpbin, HTTPBIN],
      [outside, '0.0.0.0'],
    ] as const) {
      closing.push(await answerer(namespace, host, namespace === outside ? 8080 : 80));
    }
    try {
      await body({
        a,
        b,
        sleep,
        client2,
        plain,
        httpbin,
        outside,
        plan: ({ hostIp, ztunnelIp, ztunnelVeth, pods }, options) =>
          nodeMode({ hostIp, ztunnelIp, ztunnelVeth, pods, ...options }),
        namespaces: (node) => ({ node: node.namespace, ztunnel: node.ztunnel }),
        proxy: async (node, options = {}) => {
          const proxy = await startProxy(node, options);
          closing.push(() => proxy.close());
          return proxy;
        },
        dial: async (from, ip, port, options = {}) => {
          const conversation = await dial(from, ip, port, options);
          closing.push(() => conversation.socket.destroy());
          return conversation;
        },
        ask: async (from, ip, port, options = {}) => {
          let conversation: Conversation;
          try {
            conversation = await dial(from, ip, port, options);
          } catch (error) {
            return reason(error);
          }
          const answer = await conversation.ask(options.timeoutMs);
          conversation.socket.destroy();
          return answer;
        },
      });
    } finally {
      for (const close of closing.reverse()) close();
    }
  });
}

/** As distributions have it: the cure of trap 5 has something to cure. */
function prepare(namespace: NetworkNamespace): void {
  writeSysctl(namespace, 'net.ipv4.conf.all.rp_filter', 1);
  writeSysctl(namespace, 'net.ipv4.conf.default.rp_filter', 1);
  writeSysctl(namespace, 'net.ipv4.conf.all.accept_local', 0);
  using route = openNetlink({ family: 'route', namespace });
  setLink(route, 'lo', { up: true });
}

function wireLan(outside: NetworkNamespace, [nodeA, nodeB]: readonly [NetworkNamespace, NetworkNamespace]): void {
  using route = openNetlink({ family: 'route', namespace: outside });
  addLink(route, { kind: 'bridge', name: 'lan', up: true });
  for (const [name, namespace] of [
    ['lan-a', nodeA],
    ['lan-b', nodeB],
  ] as const) {
    addLink(route, { kind: 'veth', name, master: 'lan', peer: { name: 'eth0', namespace } });
    setLink(route, name, { up: true });
  }
  addAddress(route, { device: 'lan', ip: OUTSIDE, prefixLength: 24 });
  addAddress(route, { device: 'lo', ip: FAR, prefixLength: 32 });
  // The nodes' own routes need their addresses first.
  for (const [namespace, ip] of [
    [nodeA, nodes.a.hostIp],
    [nodeB, nodes.b.hostIp],
  ] as const) {
    using inside = openNetlink({ family: 'route', namespace });
    setLink(inside, 'eth0', { up: true });
    addAddress(inside, { device: 'eth0', ip, prefixLength: 24 });
    addRoute(inside, { destination: '0.0.0.0/0', gateway: OUTSIDE });
  }
  addRoute(route, { destination: '10.244.1.0/24', gateway: nodes.a.hostIp });
  addRoute(route, { destination: '10.244.2.0/24', gateway: nodes.b.hostIp });
  using onA = openNetlink({ family: 'route', namespace: nodeA });
  addRoute(onA, { destination: '10.244.2.0/24', gateway: nodes.b.hostIp });
  using onB = openNetlink({ family: 'route', namespace: nodeB });
  addRoute(onB, { destination: '10.244.1.0/24', gateway: nodes.a.hostIp });
}

interface Wire {
  readonly namespace: NetworkNamespace;
  readonly ip: string;
  readonly veth: string;
}

function wireNode(node: NetworkNamespace, { gateway }: { gateway: string }, pods: readonly Wire[]): void {
  writeSysctl(node, 'net.ipv4.ip_forward', 1);
  using route = openNetlink({ family: 'route', namespace: node });
  for (const { namespace, ip, veth } of pods) {
    addLink(route, { kind: 'veth', name: veth, peer: { name: 'eth0', namespace } });
    using inside = openNetlink({ family: 'route', namespace });
    setLink(inside, 'eth0', { up: true });
    setLink(route, veth, { up: true });
    addAddress(route, { device: veth, ip: gateway, prefixLength: 32 });
    addRoute(route, { destination: `${ip}/32`, device: veth, scope: 'link' });
    addAddress(inside, { device: 'eth0', ip, prefixLength: 32 });
    addRoute(inside, { destination: `${gateway}/32`, device: 'eth0', scope: 'link' });
    addRoute(inside, { destination: '0.0.0.0/0', gateway });
  }
  kubeProxy(node);
}

/** The cluster's /16 by its first two bytes. */
function inPodRange(which: 'source' | 'destination', op: 0 | 1): Expression[] {
  return [
    { type: 'payload', dreg: 1, base: 1, offset: which === 'source' ? 12 : 16, length: 2 },
    { type: 'cmp', sreg: 1, op, value: Buffer.from([10, 244]) },
  ];
}

/** The service's DNAT, and the CNI's masquerade of what leaves the cluster. Doing it again registers the chains anew, as they do. */
export function kubeProxy(namespace: NetworkNamespace): void {
  using netlink = openNetlink({ family: 'netfilter', namespace });
  const table = { family: 'ip', name: 'kube-proxy' } as const;
  const service = [...match.destination(VIP), ...match.destinationPort('tcp', 80), ...statement.dnat(HTTPBIN, 80)];
  const batch = new Batch().destroyTable(table).addTable(table);
  for (const hook of ['prerouting', 'output'] as const) {
    batch.addChain({ table, name: hook, base: { type: 'nat', hook, priority: -100, policy: 'accept' } });
    batch.addRule({ table, chain: hook, expressions: service });
  }
  batch.addChain({ table, name: 'cni', base: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' } });
  const leaving = [...inPodRange('source', 0), ...inPodRange('destination', 1), ...statement.masquerade()];
  batch.addRule({ table, chain: 'cni', expressions: leaving });
  batch.commit(netlink);
}

/** Answers each line with the client's address. */
async function answerer(namespace: NetworkNamespace, host: string, port: number): Promise<() => void> {
  const server = await listen({ namespace, host, port });
  const open = track(server);
  server.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('data', () => socket.write(`${socket.remoteAddress}\n`));
  });
  return () => {
    server.close();
    for (const socket of open) socket.destroy();
  };
}

function track(server: Server): Set<Socket> {
  const open = new Set<Socket>();
  server.on('connection', (socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  return open;
}

async function startProxy(node: NodeFixture, options: ProxyOptions): Promise<Proxy> {
  const accepted: Proxy['accepted'] = [];
  const sockets = new Set<Socket>();
  const servers: Server[] = [];
  const relay = async (client: Socket, target: string, port: number, preamble: string) => {
    const source = {
      ip: client.remoteAddress!,
      ...(options.clientsOwnPort ? { port: client.remotePort! } : {}),
    };
    const upstream = await connect({
      namespace: node.ztunnel,
      host: target,
      port,
      source,
      transparent: true,
      bindAddressNoPort: true,
      timeoutMs: 3000,
    });
    sockets.add(upstream);
    upstream.on('error', () => client.destroy());
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
    if (preamble !== '') upstream.write(preamble);
    client.pipe(upstream).pipe(client);
  };
  for (const port of options.ports ?? [15001, 15006, 15008]) {
    const server = await listen({
      namespace: node.ztunnel,
      host: options.host ?? '127.0.0.1',
      port,
      transparent: options.transparent ?? true,
    });
    servers.push(server);
    server.on('connection', (client) => {
      sockets.add(client);
      client.on('error', () => {});
      const target = `${client.localAddress?.replace('::ffff:', '')}:${client.localPort}`;
      const record = { port, client: client.remoteAddress!.replace('::ffff:', ''), target, head: '' };
      accepted.push(record);
      const failed = () => client.destroy();
      client.once('data', (first: Buffer) => {
        record.head = first.toString('latin1').split('\n')[0]!;
        client.pause();
        if (port === 15008) {
          const line = first.indexOf(10);
          const [ip = '', number = ''] = first.toString('latin1', 8, line).split(':');
          client.unshift(first.subarray(line + 1));
          relay(client, ip, Number(number), '').catch(failed);
          return;
        }
        client.unshift(first);
        const [ip = '', number = ''] = target.split(':');
        const destination = ip === VIP ? HTTPBIN : ip;
        const home = meshPods.get(destination);
        const byTunnel = home !== undefined && (home !== node.label || options.sameNodeByNetwork === true);
        if (port === 15001 && byTunnel)
          relay(client, destination, 15008, `CONNECT ${destination}:${number}\n`).catch(failed);
        else relay(client, destination, Number(number), '').catch(failed);
      });
    });
  }
  return {
    accepted,
    close() {
      for (const server of servers) server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

async function dial(
  namespace: NetworkNamespace,
  host: string,
  port: number,
  options: AskOptions,
): Promise<Conversation> {
  const { timeoutMs = 1500, source } = options;
  const socket = await connect({ namespace, host, port, timeoutMs, ...(source === undefined ? {} : { source }) });
  socket.on('error', () => {});
  return {
    socket,
    ask: (limitMs = timeoutMs) =>
      new Promise((resolve) => {
        const done = (answer: string) => {
          clearTimeout(timer);
          socket.off('data', onData).off('error', onError).off('close', onClose);
          resolve(answer);
        };
        const onData = (data: Buffer) => done(data.toString('latin1').trim());
        const onError = (error: Error) => done(reason(error));
        const onClose = () => done('closed');
        const timer = setTimeout(done, limitMs, 'timeout');
        socket.on('data', onData).on('error', onError).on('close', onClose);
        socket.write('who am I\n');
      }),
  };
}

function reason(error: unknown): string {
  return String((error as { code?: unknown }).code ?? error);
}
