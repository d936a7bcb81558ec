import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab } from '../src/lab/index.ts';
import type { NetworkNamespace } from '../src/netns/index.ts';
import { connect } from '../src/socket/index.ts';
import { BenchError } from './bench-error.ts';
import type { LoadContext } from './loads/load.ts';
import { type PeerName, type PeerOptions, type PeerSite, type ProxyCommand, preparePeer } from './peers.ts';
import { cpuSeconds, residentBytes } from './process-usage.ts';
import type { BackgroundProcess, Processes } from './processes.ts';
import { HTTP_PORT, IPERF_PORT, startServers } from './servers.ts';
import { createTopology, INBOUND_PORT, OUTBOUND_PORT, PODS, type PodName, podIp } from './topology.ts';

const READY_TIMEOUT_MS = 20_000;
const POLL_MS = 20;

export interface SiteOptions extends PeerOptions {
  readonly processes: Processes;
  /** A folder of the run; the site makes its own in it. */
  readonly directory: string;
  /** Of every host's TCP; undefined: what this machine's has. */
  readonly congestionControl: string | undefined;
  readonly signal: AbortSignal;
}

/** One peer's two nodes, with servers and, unless it is `direct`, a proxy in each pod. Its programs end with `processes`, its namespaces with `lab`. */
export class Site {
  readonly peer: PeerName;
  readonly lab: Lab;
  readonly directory: string;
  readonly #processes: Processes;
  readonly #signal: AbortSignal;
  readonly #proxyCommand: ProxyCommand | undefined;
  readonly #proxies = new Map<PodName, BackgroundProcess>();

  private constructor(peer: PeerName, site: PeerSite, command: ProxyCommand | undefined, options: SiteOptions) {
    this.peer = peer;
    this.lab = site.lab;
    this.directory = site.directory;
    this.#proxyCommand = command;
    this.#processes = options.processes;
    this.#signal = options.signal;
  }

  /** Builds it and waits until its servers listen; proxies are not started yet. */
  static async open(peer: PeerName, options: SiteOptions): Promise<Site> {
    const { processes, signal } = options;
    const directory = join(options.directory, peer);
    mkdirSync(directory, { mode: 0o755 });
    const lab = await createTopology(
      `akb-${process.pid}-${peer}-`,
      peer !== 'direct',
      options.congestionControl,
      signal,
    );
    try {
      const place: PeerSite = { lab, directory };
      const site = new Site(peer, place, await preparePeer(peer, place, options, signal), options);
      const hosts = ['p2', 'p3', 'outside'];
      for (const name of hosts) startServers(processes, name, lab.namespace(name), directory);
      for (const name of hosts) await site.#listening(lab.namespace(name), [HTTP_PORT, IPERF_PORT], name);
      return site;
    } catch (error) {
      lab.closeSync();
      throw error;
    }
  }

  get hasProxies(): boolean {
    return this.#proxies.size > 0;
  }

  /** What a load of this site starts with: from p1. */
  context(seconds: number): LoadContext {
    const { lab } = this;
    return { processes: this.#processes, namespace: lab.namespace('p1'), seconds, signal: this.#signal };
  }

  /** CPU seconds of all proxies so far. */
  cpuSeconds(): number {
    return cpuSeconds([...this.#proxies.values()].map(({ pid }) => pid));
  }

  /** Resident memory of the two proxies between p1 and p3, bytes. */
  residentBytes(): { source: number; destination: number } {
    return {
      source: residentBytes(this.#proxies.get('p1')!.pid),
      destination: residentBytes(this.#proxies.get('p3')!.pid),
    };
  }

  /** Starts a proxy in each pod, anew where there is one, and resolves when they listen. */
  async startProxies(meshPath: string): Promise<void> {
    if (this.#proxyCommand === undefined) return;
    await this.stopProxies();
    for (const { name } of PODS) {
      const command = this.#proxyCommand(name, meshPath);
      if (command === undefined) continue;
      this.#proxies.set(name, this.#processes.start(`${this.peer} of ${name}`, command, this.#logPath(name)));
    }
    for (const { name } of PODS)
      await this.#listening(this.lab.namespace(name), [OUTBOUND_PORT, INBOUND_PORT], `${this.peer} of ${name}`);
  }

  async stopProxies(): Promise<void> {
    const proxies = [...this.#proxies.values()];
    this.#proxies.clear();
    await Promise.all(proxies.map((proxy) => proxy.stop()));
  }

  /**
   * Has one request answered by p3, trying until it is, and looks into the proxies' access logs: traffic that goes past them would
   * make fine figures.
   */
  async prove(): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    for (;;) {
      const failure = await this.#request().then(
        () => undefined,
        (error: Error) => error,
      );
      if (failure === undefined) break;
      this.#signal.throwIfAborted();
      if (performance.now() > deadline) throw new BenchError(`${this.peer}: p1 does not reach p3: ${failure.message}`);
      await sleep(100, undefined, { signal: this.#signal });
    }
    if (this.#proxyCommand === undefined) return;
    for (const pod of ['p1', 'p3'] as const) {
      const seen = () => readFileSync(this.#logPath(pod), 'latin1').includes('connection complete');
      await this.#until(seen, `${this.peer} of ${pod} logged no connection: traffic goes past it`);
    }
  }

  async #request(): Promise<void> {
    const namespace = this.lab.namespace('p1');
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(5_000)]);
    const socket = await connect({ namespace, host: podIp('p3'), port: HTTP_PORT, signal });
    try {
      socket.write('GET / HTTP/1.1\r\nHost: p3\r\nConnection: close\r\n\r\n');
      socket.setTimeout(5_000, () => socket.destroy());
      let answer = '';
      for await (const chunk of socket) answer += chunk;
      if (!answer.startsWith('HTTP/1.1 200')) throw new BenchError('it closed without an answer');
    } finally {
      socket.destroy();
    }
  }

  #listening(namespace: NetworkNamespace, ports: readonly number[], name: string): Promise<void> {
    return this.#until(
      () => {
        const open = listeningPorts(namespace);
        return ports.every((port) => open.has(port));
      },
      `${name} does not listen on ${ports.join(' and ')}`,
    );
  }

  async #until(isSo: () => boolean, otherwise: string): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!isSo()) {
      if (performance.now() > deadline) throw new BenchError(otherwise);
      await sleep(POLL_MS, undefined, { signal: this.#signal });
    }
  }

  #logPath(pod: PodName): string {
    return join(this.directory, `${pod}.log`);
  }
}

/** Ports that anything in the namespace listens on, TCP (proc_net(5): local address is field 1, state 0A is LISTEN). */
function listeningPorts(namespace: NetworkNamespace): Set<number> {
  const ports = new Set<number>();
  for (const file of ['tcp', 'tcp6']) {
    const text = namespace.run(() => readFileSync(`/proc/thread-self/net/${file}`, 'latin1'));
    for (const line of text.trim().split('\n').slice(1)) {
      const [, local, , state] = line.trim().split(/\s+/);
      if (state === '0A') ports.add(Number.parseInt(local!.slice(local!.indexOf(':') + 1), 16));
    }
  }
  return ports;
}
