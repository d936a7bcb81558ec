/**
 * Two nodes with their proxies for one test file: the lab's topology (sleep and client2 on node A, httpbin on node B behind
 * 10.96.0.105, a host outside), proxies whose logs can be read back, and ordinary sockets in the pods' namespaces.
 */
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CertificateAuthority } from '../../src/identity/index.ts';
import { createLab, type Lab, type LabMode, twoNodes } from '../../src/lab/index.ts';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { SystemError } from '../../src/system/index.ts';
import { type PodOptions, startZtunnel, type Ztunnel, type ZtunnelOptions } from '../../src/ztunnel/index.ts';

export const VIP = '10.96.0.105';
export const HTTPBIN = '10.244.2.10';
export const SLEEP = '10.244.1.10';
export const CLIENT2 = '10.244.1.11';
export const ZTUNNEL_A = '10.244.1.2';
export const OUTSIDE = '172.18.0.100';
export const TRUST_DOMAIN = 'cluster.local';
export const HOSTNAME = 'httpbin.default.svc.cluster.local';

export type NodeName = 'a' | 'b';

const addresses = { sleep: SLEEP, client2: CLIENT2, httpbin: HTTPBIN, outside: OUTSIDE } as const;
export type PodName = keyof typeof addresses;

/** SPIFFE id of a pod: its service account has the pod's name. */
export function identityOf(pod: string): string {
  return `spiffe://${TRUST_DOMAIN}/ns/default/sa/${pod}`;
}

/** A workload as the mesh file has it. */
export type WorkloadEntry = Record<string, unknown> & { readonly uid: string };

export function workload(name: string, ip: string, node: NodeName, more: Record<string, unknown> = {}): WorkloadEntry {
  return {
    uid: name,
    name,
    namespace: 'default',
    serviceAccount: name,
    trustDomain: TRUST_DOMAIN,
    workloadIps: [ip],
    node: `node-${node}`,
    protocol: 'HBONE',
    clusterId: 'Kubernetes',
    services: {},
    ...more,
  };
}

/** httpbin behind its ClusterIP. */
export const service = {
  name: 'httpbin',
  namespace: 'default',
  hostname: HOSTNAME,
  vips: [`/${VIP}`],
  ports: { 80: 80 },
};

/** What a test says of the registry; what it leaves out is the usual. */
export interface Registry {
  readonly workloads?: readonly WorkloadEntry[];
  readonly services?: readonly Record<string, unknown>[];
  /** YAML, since string matches are tags: items of `policies`, not indented. */
  readonly policies?: string;
}

export const workloads = {
  sleep: workload('sleep', SLEEP, 'a'),
  client2: workload('client2', CLIENT2, 'a'),
  httpbin: workload('httpbin', HTTPBIN, 'b', { services: { [`default/${HOSTNAME}`]: { 80: 80 } } }),
};

/** The file of facts section 4.10. */
export function meshFile({
  workloads: listed = Object.values(workloads),
  services = [service],
  policies = '',
}: Registry): string {
  return `workloads: ${JSON.stringify(listed)}\nservices: ${JSON.stringify(services)}\npolicies:${policies === '' ? ' []' : `\n${policies}`}\n`;
}

/** A policy with one rule of one clause of one match. */
export function policy(
  name: string,
  action: 'Allow' | 'Deny',
  match: string,
  scope: 'Global' | 'Namespace' | 'WorkloadSelector' = 'Namespace',
): string {
  return `- {name: ${name}, namespace: default, scope: ${scope}, action: ${action}, dryRun: false, rules: [[[{${match}}]]]}\n`;
}

/** One line of the access log, plain form. */
export interface AccessLine {
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, string>>;
}

/** Reads a line of facts section 8.3 back; throws for anything else. */
export function parseAccessLine(line: string): AccessLine {
  const [time, level, scope, message, rest, ...more] = line.split('\t');
  if (more.length > 0 || rest === undefined) throw new Error(`not five columns: ${line}`);
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(time!) || scope !== 'access') throw new Error(line);
  const fields: Record<string, string> = {};
  let at = 0;
  for (const match of rest.matchAll(/([\w.]+)=("(?:[^"\\]|\\.)*"|[^ "]+)(?: |$)/g)) {
    if (match.index !== at) throw new Error(`not key=value at ${at}: ${line}`);
    at += match[0].length;
    fields[match[1]!] = match[2]!.startsWith('"') ? JSON.parse(match[2]!) : match[2]!;
  }
  if (at !== rest.length) throw new Error(`not key=value at ${at}: ${line}`);
  return { level: level!, message: message!, fields };
}

/** One object of the decision log, as far as tests look at it. */
export interface DecisionLine {
  readonly direction: string;
  readonly source: string;
  readonly originalDestination: string;
  readonly decision?: Record<string, unknown>;
  readonly rbac?: { readonly allowed: boolean; readonly reason: string; readonly explanation: string };
  readonly tunnel?: Record<string, string>;
  readonly dialled?: string;
  readonly dialledFrom?: string;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly failure?: string;
}

/** How a connection went, seen by its client. */
export interface Outcome {
  readonly localPort: number;
  readonly received: Buffer;
  /** `ECONNRESET`, …; undefined after a clean end. */
  readonly error: string | undefined;
}

export interface MeshOptions extends Registry {
  readonly prefix: string;
  /** Proxies to start. Default both. */
  readonly proxies?: readonly NodeName[];
  readonly ztunnel?: Partial<ZtunnelOptions>;
  /** Where the lab redirects. Default on the nodes; in pods, proxies are shared ones that serve each pod of their node. */
  readonly mode?: LabMode;
}

export class Mesh implements AsyncDisposable {
  readonly prefix: string;
  readonly mode: LabMode;
  readonly lab: Lab;
  readonly authority: CertificateAuthority;
  readonly folder: string;
  readonly warnings: string[] = [];
  readonly #proxies = new Map<NodeName, Ztunnel>();
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  /** Above those that the kernel gives out by itself, since the proxy dials from those below; then below the proxy's. */
  #nextPort = 61_000;

  private constructor(prefix: string, mode: LabMode, lab: Lab, authority: CertificateAuthority, folder: string) {
    this.prefix = prefix;
    this.mode = mode;
    this.lab = lab;
    this.authority = authority;
    this.folder = folder;
  }

  static async start(options: MeshOptions): Promise<Mesh> {
    const { prefix, mode = 'node', ztunnel = {} } = options;
    const lab = await createLab(twoNodes(prefix), { mode });
    const folder = mkdtempSync(join(tmpdir(), prefix));
    const authority = await CertificateAuthority.create({ trustDomain: TRUST_DOMAIN });
    const mesh = new Mesh(prefix, mode, lab, authority, folder);
    mesh.write(options);
    try {
      await Promise.all(
        (options.proxies ?? ['a', 'b']).map(async (node) => {
          const proxy = await mesh.startProxy(node, ztunnel);
          if (mode === 'node' || ztunnel.mode !== undefined) return;
          await Promise.all(mesh.podsOf(node).map((pod) => proxy.addPod(pod)));
        }),
      );
    } catch (error) {
      await mesh[Symbol.asyncDispose]();
      throw error;
    }
    return mesh;
  }

  get path(): string {
    return join(this.folder, 'mesh.yaml');
  }

  /** Puts another registry in place, by rename. */
  write(registry: Registry | string): void {
    writeFileSync(`${this.path}.new`, typeof registry === 'string' ? registry : meshFile(registry));
    renameSync(`${this.path}.new`, this.path);
  }

  namespace(name: string): NetworkNamespace {
    return this.lab.namespace(name);
  }

  async options(node: NodeName, more: Partial<ZtunnelOptions> = {}): Promise<ZtunnelOptions> {
    return {
      namespace: `${this.prefix}ztunnel-${node}`,
      mode: this.mode === 'pod' ? 'shared' : 'node',
      nodeName: `node-${node}`,
      trustDomain: TRUST_DOMAIN,
      discovery: { path: this.path },
      authority: (await this.authority.createIntermediate({ name: node })).export(),
      accessLog: { path: join(this.folder, `access-${node}.log`) },
      decisionLogPath: join(this.folder, `decisions-${node}.jsonl`),
      onWarning: (message) => this.warnings.push(message),
      ...more,
    };
  }

  async startProxy(node: NodeName, more: Partial<ZtunnelOptions> = {}): Promise<Ztunnel> {
    const proxy = await startZtunnel(await this.options(node, more));
    this.#proxies.set(node, proxy);
    return proxy;
  }

  /** A pod as a shared proxy is told of it. */
  pod(name: string): PodOptions {
    return { uid: name, name, namespace: 'default', serviceAccount: name, netns: `${this.prefix}${name}` };
  }

  podsOf(node: NodeName): PodOptions[] {
    return this.lab.node(`node-${node}`).pods.map(({ name }) => this.pod(name));
  }

  proxy(node: NodeName): Ztunnel {
    const proxy = this.#proxies.get(node);
    if (proxy === undefined) throw new Error(`no proxy runs on node ${node}`);
    return proxy;
  }

  /** A server in a pod; what it accepts is destroyed with the mesh. */
  async serve(pod: PodName, port: number, onConnection: (socket: Socket) => void): Promise<Server> {
    const server = await listen({
      namespace: this.namespace(pod),
      host: '0.0.0.0',
      port,
      allowHalfOpen: true,
      backlog: 1024,
    });
    server.on('connection', (socket) => {
      this.#own(socket);
      onConnection(socket);
    });
    this.#servers.push(server);
    return server;
  }

  async connect(pod: PodName, host: string, port: number, localPort?: number): Promise<Socket> {
    const source = localPort === undefined ? undefined : { ip: addresses[pod], port: localPort };
    const socket = await connect({ namespace: this.namespace(pod), host, port, source, allowHalfOpen: true });
    this.#own(socket);
    return socket;
  }

  /** Connects, sends, ends its half, and waits for the other. */
  async ask(pod: PodName, host: string, port: number, question: string | Buffer): Promise<Outcome> {
    // Chosen here, since a proxy that refuses may reset the connection before it can be asked for its port.
    const localPort = this.#nextPort;
    this.#nextPort = localPort === 65_535 ? 1024 : localPort + 1;
    let socket: Socket;
    try {
      socket = await this.connect(pod, host, port, localPort);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      return { localPort, received: Buffer.alloc(0), error: error.code };
    }
    const outcome = untilEnd(socket);
    socket.end(question);
    return { localPort, ...(await outcome) };
  }

  accessLines(node: NodeName): AccessLine[] {
    return lines(join(this.folder, `access-${node}.log`)).map(parseAccessLine);
  }

  decisions(node: NodeName): DecisionLine[] {
    return lines(join(this.folder, `decisions-${node}.jsonl`)).map((line) => JSON.parse(line) as DecisionLine);
  }

  /** The access-log line about a connection of that client port, once it is there. */
  accessLine(node: NodeName, direction: string, clientPort: number): Promise<AccessLine> {
    return eventually(() =>
      this.accessLines(node).find(
        ({ fields }) => fields.direction === direction && fields['src.addr']!.endsWith(`:${clientPort}`),
      ),
    );
  }

  decision(node: NodeName, direction: string, clientPort: number): Promise<DecisionLine> {
    return eventually(() =>
      this.decisions(node).find((line) => line.direction === direction && line.source.endsWith(`:${clientPort}`)),
    );
  }

  /** The newest inbound line of a proxy: a tunnel's client port is the other proxy's choice. */
  async nextInbound(node: NodeName, before: number): Promise<{ access: AccessLine; decision: DecisionLine }> {
    const inbound = () => this.decisions(node).filter(({ direction }) => direction === 'inbound');
    const decision = await eventually(() => inbound()[before]);
    const access = await eventually(
      () => this.accessLines(node).filter(({ fields }) => fields.direction === 'inbound')[before],
    );
    return { access, decision };
  }

  inboundCount(node: NodeName): number {
    return this.decisions(node).filter(({ direction }) => direction === 'inbound').length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
    await Promise.all([...this.#proxies.values()].map((proxy) => proxy.close()));
    await this.lab.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #own(socket: Socket): void {
    this.#sockets.add(socket);
    // A connection that a test leaves open is reset when its mesh goes away.
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }
}

/** Answers everything with itself, FIN for FIN; keeps who came. */
export class EchoServer {
  readonly peers: { readonly ip: string; readonly port: number }[] = [];

  readonly handle = (socket: Socket): void => {
    this.peers.push({ ip: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 });
    socket.pipe(socket);
  };
}

/** Everything that a socket receives, until it ends or breaks. */
export function untilEnd(socket: Socket): Promise<{ received: Buffer; error: string | undefined }> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const done = (error: string | undefined) => resolve({ received: Buffer.concat(chunks), error });
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('end', () => done(undefined));
    socket.on('error', (error: NodeJS.ErrnoException) => done(error.code));
    socket.on('close', () => done('closed without an end'));
  });
}

/** Asks again and again until there is an answer. */
export async function eventually<T>(
  ask: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 8000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${ask}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function lines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').slice(0, -1);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
