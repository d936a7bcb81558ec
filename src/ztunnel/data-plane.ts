import { MeshState } from '../discovery/index.ts';
import {
  type ConnectionAcceptor,
  EngineMemory,
  PipePool,
  Reactor,
  ReactorPort,
  type ReactorThreadData,
  TcpListener,
  Timer,
  TunnelPool,
} from '../engine/index.ts';
import { messageOf } from '../errors/index.ts';
import { PolicySet } from '../rbac/index.ts';
import { openListener } from '../socket/index.ts';
import { CLOSED_BY_DRAIN, CLOSED_BY_POLICY_CHANGE } from '../telemetry/index.ts';
import { stillAllowed } from './authorize.ts';
import { ConnectionLog } from './connection-log.ts';
import { createDialler } from './dialler.ts';
import { InboundListener } from './inbound.ts';
import { InboundPlaintextListener } from './inbound-plaintext.ts';
import { LogDescriptor } from './log-descriptor.ts';
import type { DataPlaneOptions, DataPlaneStats, FromDataPlane, ToDataPlane } from './messages.ts';
import { OutboundListener } from './outbound.ts';
import type { ProxyContext } from './proxy-context.ts';
import { TlsContexts } from './tls-contexts.ts';

const DRAIN_CHECK_MS = 20;

/** Bugs that are told of. */
const MOST_BUGS = 100;

/** One data-plane thread: listeners, tunnels and relays in one reactor, told about the mesh by the main thread. */
export class DataPlane {
  readonly #proxy: ProxyContext;
  readonly #port: ReactorPort<ToDataPlane, FromDataPlane>;
  readonly #inbound: InboundListener;
  readonly #listeners: TcpListener[] = [];
  readonly #drainCheck = new Timer({ onExpired: () => this.#reportWhenDrained() });
  #draining = false;
  readonly #warned = new Set<string>();
  readonly #bugs = new Set<string>();

  constructor(options: DataPlaneOptions, thread: ReactorThreadData) {
    const reactor = new Reactor({ onUncaught: (error) => this.#warnOfBug(error) });
    const memory = new EngineMemory();
    const accessLog = new LogDescriptor(options.accessLogFd);
    const decisionLog = options.decisionLogFd < 0 ? undefined : new LogDescriptor(options.decisionLogFd);
    this.#proxy = {
      options,
      reactor,
      memory,
      pipes: new PipePool(),
      pool: new TunnelPool(reactor, memory, {
        maxStreamsPerTunnel: options.maxStreamsPerTunnel,
        idleMs: options.tunnelIdleMs,
        http2: options.http2,
      }),
      state: new MeshState(),
      policies: new PolicySet(),
      tls: new TlsContexts(),
      dialler: createDialler({ originalSource: options.originalSource, mark: options.packetMark }),
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
    };
    this.#inbound = new InboundListener(this.#proxy);
    this.#port = new ReactorPort(reactor, thread.wakeFd, thread.port, (message) => this.#receive(message));
  }

  /** Listens, says so, and serves until it is told to stop. Blocks the thread. */
  run(): void {
    const { options, reactor } = this.#proxy;
    try {
      this.#listen(options.outboundPort, new OutboundListener(this.#proxy));
      this.#listen(options.inboundPlaintextPort, new InboundPlaintextListener(this.#proxy));
      this.#listen(options.inboundHbonePort, this.#inbound);
      this.#port.send({ type: 'listening' });
      reactor.run();
    } finally {
      // Nothing closes a thread's descriptors when it ends.
      this.#close();
    }
  }

  #listen(port: number, acceptor: ConnectionAcceptor): void {
    const { reactor, options } = this.#proxy;
    const listener = openListener({
      host: '0.0.0.0',
      port,
      transparent: options.originalSource,
      mark: options.packetMark,
      reusePort: options.reusePort,
      backlog: 4096,
    });
    this.#listeners.push(new TcpListener(reactor, listener.release(), acceptor));
  }

  #receive(message: ToDataPlane): void {
    const proxy = this.#proxy;
    switch (message.type) {
      case 'state':
        proxy.state.replace(message.snapshot);
        proxy.policies.replace(message.snapshot.policies);
        this.#inbound.closeTunnelsOfOthers();
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
    for (const listener of this.#listeners.splice(0)) listener.close();
    this.#proxy.pool.drain();
    for (const tunnel of [...this.#inbound.tunnels.keys()]) tunnel.drain();
    this.#reportWhenDrained();
  }

  #reportWhenDrained(): void {
    const { reactor, live } = this.#proxy;
    // A peer's tunnel ends one round trip after its last stream: until then it may bring another, sent before it was told.
    if (live.size === 0 && this.#inbound.tunnels.size === 0) this.#port.send({ type: 'drained' });
    else reactor.timers(DRAIN_CHECK_MS).arm(this.#drainCheck, reactor.nowMs);
  }

  #stats(): DataPlaneStats {
    const { log, live, pool, denied } = this.#proxy;
    return {
      connectionsOpened: log.opened,
      connectionsClosed: log.closed,
      connectionsFailed: log.failed,
      connectionsDenied: denied,
      bytesReceived: log.receivedBytes,
      bytesSent: log.sentBytes,
      openConnections: live.size,
      openOutboundTunnels: pool.tunnelCount,
      openInboundTunnels: this.#inbound.tunnels.size,
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
    const { pool, pipes, tls, log, reactor } = this.#proxy;
    for (const listener of this.#listeners.splice(0)) listener.close();
    pool.close();
    for (const tunnel of [...this.#inbound.tunnels.keys()]) tunnel.close(CLOSED_BY_DRAIN);
    tls.close();
    pipes.close();
    log.close();
    this.#port.close();
    reactor.close();
  }
}
