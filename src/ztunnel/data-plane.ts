import { MeshState } from '../discovery/index.ts';
import {
  EngineMemory,
  IdleCollector,
  PipePool,
  Reactor,
  ReactorPort,
  type ReactorThreadData,
} from '../engine/index.ts';
import { messageOf } from '../errors/index.ts';
import { currentNamespace } from '../netns/index.ts';
import { PolicySet } from '../rbac/index.ts';
import { releaseFreeMemory, releaseProgramPages } from '../system/index.ts';
import { CLOSED_BY_DRAIN, CLOSED_BY_POLICY_CHANGE } from '../telemetry/index.ts';
import { stillAllowed } from './authorize.ts';
import { ConnectionLog } from './connection-log.ts';
import { LogDescriptor } from './log-descriptor.ts';
import type { DataPlaneOptions, DataPlaneStats, FromDataPlane, ToDataPlane } from './messages.ts';
import { PodInstances } from './pod-instances.ts';
import type { ProxyContext } from './proxy-context.ts';
import { ProxyInstance } from './proxy-instance.ts';
import { WorkloadsOfNode } from './served-workloads.ts';
import { TlsContexts } from './tls-contexts.ts';

/** Bugs that are told of. */
const MOST_BUGS = 100;

/** One data-plane thread: listeners, tunnels and relays in one reactor, told about the mesh and its pods by the main thread. */
export class DataPlane {
  readonly #proxy: ProxyContext;
  readonly #port: ReactorPort<ToDataPlane, FromDataPlane>;
  /** What serves the whole node; undefined where pods are served one by one. */
  readonly #node: ProxyInstance | undefined;
  readonly #pods: PodInstances;
  #collector: IdleCollector | undefined;
  #draining = false;
  readonly #warned = new Set<string>();
  readonly #bugs = new Set<string>();

  constructor(options: DataPlaneOptions, thread: ReactorThreadData) {
    const reactor = new Reactor({ busyPollMs: options.busyPollMs, onUncaught: (error) => this.#warnOfBug(error) });
    const memory = new EngineMemory();
    const accessLog = new LogDescriptor(options.accessLogFd);
    const decisionLog = options.decisionLogFd < 0 ? undefined : new LogDescriptor(options.decisionLogFd);
    this.#proxy = {
      options,
      reactor,
      home: currentNamespace(),
      memory,
      pipes: new PipePool(),
      state: new MeshState(),
      policies: new PolicySet(),
      tls: new TlsContexts(),
      log: new ConnectionLog({
        reactor,
        access: {
          write: (lines) => accessLog.write(lines),
          format: options.accessLogFormat,
          onError: (error) => this.#warnOnce('access log', error),
        },
        decisions: decisionLog && ((line) => this.#writeDecision(decisionLog, line)),
        wallClockMs: () => performance.timeOrigin + performance.now(),
      }),
      live: new Set(),
      denied: 0,
      serving: (workload) => {
        if (this.#node === undefined) return this.#pods.serving(workload);
        return workload.node === options.nodeName ? this.#node : undefined;
      },
    };
    const proxy = this.#proxy;
    this.#pods = new PodInstances(proxy, (message) => this.#port.send(message));
    if (options.serves === 'node') {
      const { network, nodeName, reusePort, ipv6 } = options;
      const serves = new WorkloadsOfNode(proxy.state, network, nodeName);
      this.#node = new ProxyInstance({ proxy, serves, reusePort, ipv6 });
    }
    this.#port = new ReactorPort(reactor, thread.wakeFd, thread.port, (message) => this.#receive(message));
  }

  /** Serves until it is told to stop. Blocks the thread. */
  run(): void {
    try {
      this.#node?.listen();
      this.#port.send({ type: 'listening' });
      this.#collector = new IdleCollector(this.#proxy.reactor, { release: () => this.#rest() });
      this.#proxy.reactor.run();
    } finally {
      // Nothing closes a thread's descriptors when it ends.
      this.#close();
    }
  }

  #rest(): void {
    for (const instance of this.#instances) instance.rest();
    releaseFreeMemory();
    releaseProgramPages();
  }

  get #instances(): ProxyInstance[] {
    return this.#node === undefined ? this.#pods.instances : [this.#node];
  }

  #receive(message: ToDataPlane): void {
    const proxy = this.#proxy;
    switch (message.type) {
      case 'state':
        proxy.state.replace(message.snapshot);
        proxy.policies.replace(message.snapshot.policies);
        for (const { inbound } of this.#instances) inbound.closeTunnelsOfOthers();
        return this.#judgeAgain();
      case 'certificate':
        try {
          proxy.tls.set(message.identity, message.credentials);
        } catch (error) {
          this.#warn(`certificate of ${message.identity} refused: ${messageOf(error)}`);
        }
        return;
      case 'forget':
        return proxy.tls.delete(message.identity);
      case 'stats':
        return this.#port.send({ type: 'stats', id: message.id, stats: this.#stats() });
      case 'add-pod': {
        const { pod } = message;
        if (!this.#draining) return this.#pods.add(pod);
        return this.#port.send({ type: 'pod-served', id: pod.id, failure: 'the proxy is draining' });
      }
      case 'drain-pod':
        return this.#pods.drain(message.id);
      case 'cut-pod':
        return this.#pods.cut(message.id);
      case 'drain':
        return this.#drain();
      case 'stop':
        for (const connection of [...proxy.live]) connection.abort(CLOSED_BY_DRAIN);
        return proxy.reactor.stop();
    }
  }

  /** Facts section 3.6: connections that the new policies refuse are cut, the tunnels that carried them are not. */
  #judgeAgain(): void {
    for (const connection of [...this.#proxy.live]) {
      const { authorized } = connection;
      if (authorized === undefined || stillAllowed(this.#proxy, authorized)) continue;
      this.#proxy.denied++;
      connection.abort(CLOSED_BY_POLICY_CHANGE);
    }
  }

  #drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    const instances = this.#instances;
    let left = instances.length;
    const drained = () => {
      if (left === 0) this.#port.send({ type: 'drained' });
    };
    for (const instance of instances) {
      instance.drain(() => {
        left--;
        drained();
      });
    }
    if (instances.length === 0) drained();
  }

  #stats(): DataPlaneStats {
    const { log, live, denied } = this.#proxy;
    let openOutboundTunnels = 0;
    let openInboundTunnels = 0;
    for (const { pool, inbound } of this.#instances) {
      openOutboundTunnels += pool.tunnelCount;
      openInboundTunnels += inbound.tunnels.size;
    }
    return {
      connectionsOpened: log.opened,
      connectionsClosed: log.closed,
      connectionsFailed: log.failed,
      connectionsDenied: denied,
      bytesReceived: log.receivedBytes,
      bytesSent: log.sentBytes,
      openConnections: live.size,
      openOutboundTunnels,
      openInboundTunnels,
    };
  }

  #warn(message: string): void {
    this.#port.send({ type: 'warning', message });
  }

  /** A full disk is no reason to serve nobody; the line is lost. */
  #writeDecision(log: LogDescriptor, line: string): void {
    try {
      log.write(`${line}\n`);
    } catch (error) {
      this.#warnOnce('decision log', error);
    }
  }

  /** What a callback of ours has thrown. Its connection has ended; the place in the code is told once. */
  #warnOfBug(error: unknown): void {
    const text = (error instanceof Error ? error.stack : undefined) ?? String(error);
    if (this.#bugs.has(text) || this.#bugs.size === MOST_BUGS) return;
    this.#bugs.add(text);
    this.#warn(`a bug, which ended a connection: ${text}`);
  }

  #warnOnce(log: string, error: unknown): void {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    // A reader that is slow for a moment is no news.
    if (code === 'EAGAIN' || this.#warned.has(`${log}${code}`)) return;
    this.#warned.add(`${log}${code}`);
    this.#warn(`${log}: ${messageOf(error)}`);
  }

  #close(): void {
    const { pipes, tls, log, reactor, home } = this.#proxy;
    this.#node?.close();
    this.#pods.close();
    tls.close();
    pipes.close();
    log.close();
    this.#collector?.close();
    this.#port.close();
    reactor.close();
    home.close();
  }
}
