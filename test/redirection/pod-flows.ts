/**
 * A pod and the world outside it, each with listeners that say who they are; and the thirty flows that tell one redirection from
 * another. A flow's verdict is who answered.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import type { Server, Socket } from 'node:net';
import { openNetlink } from '../../src/netlink/index.ts';
import { addAddress, addRoute } from '../../src/netlink/route/index.ts';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { INPOD_MARK, INPOD_TPROXY_MARK, PROBE_IP, PROBE_IP6 } from '../../src/redirection/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import {
  AF_INET,
  AF_INET6,
  check,
  encodeSockaddr,
  IPV6_V6ONLY,
  libc,
  SO_MARK,
  SOCK_CLOEXEC,
  SOL_IPV6,
  SOL_SOCKET,
} from '../../src/system/index.ts';
import { vethPair, withNamespaces } from '../support/namespaces.ts';

const SOCK_DGRAM = 2;
const ANSWER_MS = 1500;

export interface PodWorld {
  readonly pod: NetworkNamespace;
  readonly outside: NetworkNamespace;
}

interface Family {
  readonly name: 'v4' | 'v6';
  readonly pod: string;
  readonly outside: string;
  readonly loopback: string;
  readonly vm: string;
  readonly probe: string;
}

const families: readonly Family[] = [
  { name: 'v4', pod: '10.1.0.2', outside: '10.1.0.1', loopback: '127.0.0.1', vm: '10.2.0.1', probe: PROBE_IP },
  { name: 'v6', pod: 'fd00:1::2', outside: 'fd00:1::1', loopback: '::1', vm: 'fd00:2::1', probe: PROBE_IP6 },
];

/** One flow. */
export interface Flow {
  readonly name: string;
  readonly protocol: 'tcp' | 'udp';
  readonly from: keyof PodWorld;
  readonly host: string;
  readonly port: number;
  readonly mark?: number;
  readonly source?: string;
}

/** Fifteen flows a family. */
export const flows: readonly Flow[] = families.flatMap(({ name, pod, outside, loopback, vm, probe }) => {
  const proxy = INPOD_MARK.value;
  const answer = INPOD_TPROXY_MARK.value;
  const list: Flow[] = [
    { name: 'out', protocol: 'tcp', from: 'pod', host: outside, port: 80 },
    { name: 'out, of the proxy', protocol: 'tcp', from: 'pod', host: outside, port: 80, mark: proxy },
    { name: 'an answer’s mark', protocol: 'tcp', from: 'pod', host: outside, port: 80, mark: answer, source: pod },
    { name: 'loopback', protocol: 'tcp', from: 'pod', host: loopback, port: 80 },
    { name: 'own pod address', protocol: 'tcp', from: 'pod', host: pod, port: 80 },
    { name: 'DNS', protocol: 'udp', from: 'pod', host: outside, port: 53 },
    { name: 'DNS, of the proxy', protocol: 'udp', from: 'pod', host: outside, port: 53, mark: proxy },
    { name: 'DNS by TCP', protocol: 'tcp', from: 'pod', host: outside, port: 53 },
    { name: 'DNS by TCP, of the proxy', protocol: 'tcp', from: 'pod', host: outside, port: 53, mark: proxy },
    { name: 'other UDP', protocol: 'udp', from: 'pod', host: outside, port: 9999 },
    { name: 'in', protocol: 'tcp', from: 'outside', host: pod, port: 80 },
    { name: 'in, HBONE', protocol: 'tcp', from: 'outside', host: pod, port: 15008 },
    { name: 'in, a probe', protocol: 'tcp', from: 'outside', host: pod, port: 80, source: probe },
    { name: 'in, UDP', protocol: 'udp', from: 'outside', host: pod, port: 53 },
    { name: 'in by a virtual machine’s device', protocol: 'tcp', from: 'outside', host: vm, port: 80 },
  ];
  return list.map((flow) => ({ ...flow, name: `${name} ${flow.name}` }));
});

/** Builds the world, with listeners, runs `body` in it, and takes everything away. */
export async function withPodWorld(body: (world: PodWorld) => Promise<void>): Promise<void> {
  await withNamespaces(['pod', 'outside'], async (...namespaces) => {
    const [pod, outside] = namespaces as [NetworkNamespace, NetworkNamespace];
    vethPair(
      { namespace: pod, device: 'eth0', addresses: ['10.1.0.2/24', 'fd00:1::2/64'] },
      { namespace: outside, device: 'eth0', addresses: ['10.1.0.1/24', 'fd00:1::1/64'] },
    );
    vethPair(
      { namespace: pod, device: 'vm0', addresses: ['10.2.0.1/24', 'fd00:2::1/64'] },
      { namespace: outside, device: 'vm0', addresses: ['10.2.0.2/24', 'fd00:2::2/64'] },
    );
    {
      using inside = openNetlink({ family: 'route', namespace: pod });
      addRoute(inside, { destination: '0.0.0.0/0', gateway: '10.1.0.1' });
      addRoute(inside, { destination: '::/0', gateway: 'fd00:1::1' });
      using beyond = openNetlink({ family: 'route', namespace: outside });
      addAddress(beyond, { device: 'lo', ip: PROBE_IP, prefixLength: 32 });
      addAddress(beyond, { device: 'lo', ip: PROBE_IP6, prefixLength: 128, noDad: true });
    }
    const closing: (() => void)[] = [];
    try {
      for (const port of [80, 15001, 15006, 15008, 15053]) {
        closing.push(await tcpListener(pod, port, port === 80 ? 'pod' : String(port)));
      }
      for (const port of [53, 9999, 15053]) closing.push(udpListener(pod, port, port === 15053 ? '15053' : 'pod'));
      for (const port of [53, 80]) closing.push(await tcpListener(outside, port, 'outside'));
      for (const port of [53, 9999]) closing.push(udpListener(outside, port, 'outside'));
      await body({ pod, outside });
    } finally {
      for (const close of closing) close();
    }
  });
}

/** Sends every flow, all at once, and says who answered each. */
export async function verdicts(world: PodWorld): Promise<Record<string, string>> {
  const answers = await Promise.all(flows.map(async (flow) => [flow.name, await verdict(world, flow)] as const));
  return Object.fromEntries(answers);
}

async function verdict(world: PodWorld, flow: Flow): Promise<string> {
  const namespace = world[flow.from];
  try {
    return flow.protocol === 'tcp' ? await askTcp(namespace, flow) : await askUdp(namespace, flow);
  } catch (error) {
    return String((error as { code?: unknown }).code ?? error);
  }
}

async function askTcp(namespace: NetworkNamespace, { host, port, mark, source }: Flow): Promise<string> {
  const socket = await connect({
    namespace,
    host,
    port,
    timeoutMs: ANSWER_MS,
    ...(mark === undefined ? {} : { mark }),
    ...(source === undefined ? {} : { source: { ip: source } }),
  });
  return await new Promise((resolve) => {
    const timer = setTimeout(() => done('no answer'), ANSWER_MS);
    const done = (answer: string) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    socket.once('data', (data) => done(data.toString()));
    socket.once('error', (error) => done(String((error as { code?: unknown }).code)));
  });
}

async function askUdp(namespace: NetworkNamespace, { host, port, mark }: Flow): Promise<string> {
  const socket = udpSocket(namespace, host.includes(':') ? '::' : '0.0.0.0', 0, mark);
  return await new Promise((resolve) => {
    const timer = setTimeout(() => done('no answer'), ANSWER_MS);
    const done = (answer: string) => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    socket.once('message', (data) => done(data.toString()));
    socket.send('who', port, host);
  });
}

async function tcpListener(namespace: NetworkNamespace, port: number, name: string): Promise<() => void> {
  const server: Server = await listen({ namespace, host: '::', port, transparent: true });
  const open = new Set<Socket>();
  server.on('connection', (socket) => {
    open.add(socket);
    socket.on('error', () => {});
    socket.end(name);
  });
  return () => {
    server.close();
    for (const socket of open) socket.destroy();
  };
}

function udpListener(namespace: NetworkNamespace, port: number, name: string): () => void {
  const socket = udpSocket(namespace, '::', port);
  socket.on('message', (_data, from) => socket.send(name, from.port, from.address));
  return () => socket.close();
}

/** Made in the namespace by hand: `node:dgram` makes its sockets later than it is asked to. */
function udpSocket(namespace: NetworkNamespace, host: string, port: number, mark?: number): UdpSocket {
  const family = host.includes(':') ? AF_INET6 : AF_INET;
  const number = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
  const fd = namespace.run(() => {
    const made = check(libc().socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'socket');
    if (family === AF_INET6) check(libc().setsockopt(made, SOL_IPV6, IPV6_V6ONLY, number(0), 4), 'setsockopt');
    if (mark !== undefined) check(libc().setsockopt(made, SOL_SOCKET, SO_MARK, number(mark), 4), 'setsockopt');
    const address = encodeSockaddr({ ip: host, port });
    check(libc().bind(made, address, address.length), 'bind');
    return made;
  });
  const socket = createSocket(family === AF_INET6 ? 'udp6' : 'udp4');
  socket.bind({ fd });
  return socket;
}
