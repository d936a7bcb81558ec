import { type ConnectionAcceptor, TcpListener, Timer, TunnelPool } from '../engine/index.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import { openListener } from '../socket/index.ts';
import { EADDRNOTAVAIL, EAFNOSUPPORT, SystemError } from '../system/index.ts';
import { CLOSED_BY_DRAIN } from '../telemetry/index.ts';
import { createDialler, type Dialler } from './dialler.ts';
import { InboundListener } from './inbound.ts';
import { InboundPlaintextListener } from './inbound-plaintext.ts';
import { localCongestionControl } from './local-congestion-control.ts';
import { migrateHandshakes } from './migrate-handshakes.ts';
import { OutboundListener } from './outbound.ts';
import type { LiveConnection, ProxyContext } from './proxy-context.ts';
import type { ServedWorkloads } from './served-workloads.ts';

const DRAIN_CHECK_MS = 20;
const BACKLOG = 4096;
/** As many as one call of `TcpListener.onEvents` accepts. */
const ACCEPTED_AT_ONCE = 64;

/** What an {@link ProxyInstance} is made of. */
export interface ProxyInstanceInit {
  readonly proxy: ProxyContext;
  readonly serves: ServedWorkloads;
  /** Where its sockets live; undefined: where the thread is. The instance's from here on. */
  readonly namespace?: NetworkNamespace | undefined;
  /** Its listeners share their ports with others' (SO_REUSEPORT). */
  readonly reusePort: boolean;
  /** Listen for IPv6 too, where the namespace has it. */
  readonly ipv6: boolean;
}

/**
 * One set of listeners and what comes of them: the whole of a node-mode proxy, or what serves one pod from inside its network
 * namespace. Its tunnels, its dials and its end are its own; the rest it shares with the other instances of its thread.
 */
export class ProxyInstance {
  readonly proxy: ProxyContext;
  readonly serves: ServedWorkloads;
  readonly pool: TunnelPool;
  readonly dialler: Dialler;
  readonly inbound: InboundListener;
  readonly live = new Set<LiveConnection>();
  readonly #init: ProxyInstanceInit;
  readonly #localCongestionControl: string | undefined;
  readonly #listeners: TcpListener[] = [];
  readonly #drainCheck = new Timer({ onExpired: () => this.#reportWhenDrained() });
  #endMigration: (() => void) | undefined;
  /** Whom to tell; undefined while it serves. */
  #onDrained: (() => void)[] | undefined;

  constructor(init: ProxyInstanceInit) {
    const { proxy, serves, namespace } = init;
    const { options, reactor, memory } = proxy;
    this.#init = init;
    this.proxy = proxy;
    this.serves = serves;
    this.pool = new TunnelPool(reactor, memory, {
      maxStreamsPerTunnel: options.maxStreamsPerTunnel,
      idleMs: options.tunnelIdleMs,
      http2: options.http2,
    });
    this.#localCongestionControl = localCongestionControl(namespace);
    this.dialler = createDialler({
      namespace,
      home: proxy.home,
      originalSource: options.originalSource,
      mark: options.packetMark,
      localCongestionControl: this.#localCongestionControl,
    });
    this.inbound = new InboundListener(this);
  }

  /** Opens the three ports (facts section 2.1). @throws {SystemError} naming the address; the instance is closed then */
  listen(): void {
    const { outboundPort, inboundPlaintextPort, inboundHbonePort } = this.proxy.options;
    try {
      // Only here are clients certain to be pods of this node.
      this.#listen(outboundPort, new OutboundListener(this), this.#localCongestionControl);
      this.#listen(inboundPlaintextPort, new InboundPlaintextListener(this));
      this.#listen(inboundHbonePort, this.inbound);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Notes that a connection is open. */
  took(connection: LiveConnection): void {
    this.live.add(connection);
    this.proxy.live.add(connection);
  }

  /** Notes that it is not any more. */
  lost(connection: LiveConnection): void {
    this.live.delete(connection);
    this.proxy.live.delete(connection);
  }

  /** Nothing happens now: gives back what only traffic needs. */
  rest(): void {
    this.pool.rest();
    for (const tunnel of this.inbound.tunnels.keys()) tunnel.rest();
  }

  get draining(): boolean {
    return this.#onDrained !== undefined;
  }

  /** Listens no more, and calls back, maybe at once, when the last connection has ended or is cut. */
  drain(onDrained: () => void): void {
    if (this.#onDrained === undefined) {
      this.#onDrained = [];
      // What comes between the last accept and the close goes to the proxy that takes over.
      if (this.#init.reusePort) this.#endMigration = migrateHandshakes(this.#init.namespace ?? this.proxy.home);
      this.#acceptWaiting();
      this.#closeListeners();
      // Outbound tunnels end with the instance: what was accepted may still need one.
      for (const tunnel of [...this.inbound.tunnels.keys()]) tunnel.drain();
    }
    this.#onDrained.push(onDrained);
    this.#reportWhenDrained();
  }

  /** Cuts what is left. A second call does nothing. */
  close(): void {
    this.#drainCheck.disarm();
    this.#closeListeners();
    for (const connection of [...this.live]) connection.abort(CLOSED_BY_DRAIN);
    this.pool.close();
    for (const tunnel of [...this.inbound.tunnels.keys()]) tunnel.close(CLOSED_BY_DRAIN);
    this.#endMigration?.();
    this.#endMigration = undefined;
    this.#init.namespace?.close();
    this.#sayDrained();
  }

  #listen(port: number, acceptor: ConnectionAcceptor, congestionControl?: string): void {
    const { proxy, namespace, reusePort, ipv6 } = this.#init;
    const open = (host: string) =>
      openListener({
        namespace,
        host,
        port,
        transparent: proxy.options.originalSource,
        mark: proxy.options.packetMark,
        congestionControl,
        reusePort,
        backlog: BACKLOG,
      });
    const listener = ipv6 ? openDualStack(open) : open('0.0.0.0');
    this.#listeners.push(new TcpListener(proxy.reactor, listener.release(), acceptor));
  }

  /** Closing a listener resets those who are connected and wait to be accepted. */
  #acceptWaiting(): void {
    for (const listener of this.#listeners) {
      for (let accepted = 0; accepted < BACKLOG; accepted += ACCEPTED_AT_ONCE) listener.onEvents();
    }
  }

  #closeListeners(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
  }

  #sayDrained(): void {
    for (const onDrained of this.#onDrained?.splice(0) ?? []) onDrained();
  }

  #reportWhenDrained(): void {
    const { reactor } = this.proxy;
    // A peer's tunnel ends one round trip after its last stream: until then it may bring another, sent before it was told.
    if (this.live.size === 0 && this.inbound.tunnels.size === 0) this.#sayDrained();
    else reactor.timers(DRAIN_CHECK_MS).arm(this.#drainCheck, reactor.nowMs);
  }
}

/** `::` takes IPv4 too. A kernel may have no IPv6. */
function openDualStack<T>(open: (host: string) => T): T {
  try {
    return open('::');
  } catch (error) {
    if (!(error instanceof SystemError) || (error.errno !== EAFNOSUPPORT && error.errno !== EADDRNOTAVAIL)) throw error;
    return open('0.0.0.0');
  }
}
