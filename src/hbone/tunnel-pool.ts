import type { SpiffeId } from '../identity/index.ts';
import type { ResolvedClientOptions } from './client-options.ts';
import { type Credentials, currentCertificate } from './credentials.ts';
import { withDeadline } from './deadline.ts';
import { type Destination, destinationText, dialOrExplain } from './destination.ts';
import { HboneError } from './hbone-error.ts';
import { authenticateServer } from './mutual-tls.ts';
import type { PendingConnect } from './pending-connect.ts';
import { Tunnel, type TunnelOwner } from './tunnel.ts';
import { TunnelStream } from './tunnel-stream.ts';

/** Which tunnels may carry a stream: those to the same place, between the same identities. */
export interface TunnelRoute {
  /** Equal for routes that may share tunnels. */
  readonly key: string;
  readonly destination: Destination;
  readonly credentials: Credentials;
  readonly peers: readonly SpiffeId[];
}

/** Everything between one pair of workloads. */
class Entry {
  route: TunnelRoute;
  readonly tunnels: Tunnel[] = [];
  readonly waiting: PendingConnect[] = [];
  /** Ends the one dial under way: a burst of connections must not become a burst of handshakes. */
  dialling: AbortController | undefined;
  /** The tunnel whose number of streams is not known yet; the dial counts as under way until then. */
  greeting: Tunnel | undefined;

  constructor(route: TunnelRoute) {
    this.route = route;
  }
}

const op = 'hbone.connect';

/**
 * Tunnels shared by the connections between the same two workloads (facts section 1.8): at most so many streams on each, one
 * dial at a time, and the unused ones are released after a while.
 */
export class TunnelPool implements TunnelOwner {
  readonly #options: ResolvedClientOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #entryOf = new Map<Tunnel, Entry>();
  readonly #idleTimers = new Map<Tunnel, unknown>();
  #waiting = 0;
  #dialling = 0;
  #closedBy: HboneError | undefined;
  #onEmpty: (() => void) | undefined;

  constructor(options: ResolvedClientOptions) {
    this.#options = options;
  }

  /** Tunnels that stand. */
  get tunnelCount(): number {
    return this.#entryOf.size;
  }

  /** Sends it through a tunnel of this route, now or when one stands; or fails it. */
  submit(route: TunnelRoute, connect: PendingConnect): void {
    if (this.#closedBy !== undefined) return connect.fail(this.#closedBy);
    let entry = this.#entries.get(route.key);
    if (entry === undefined) {
      entry = new Entry(route);
      this.#entries.set(route.key, entry);
    }
    entry.route = route;
    if (this.#waiting >= this.#options.maxWaiting) {
      const tunnel = this.#tunnelWithRoom(entry);
      if (tunnel !== undefined) return this.#start(tunnel, connect);
      this.#forgetUnused(entry);
      return connect.fail(tooMany('maxWaiting', `${this.#waiting} connections wait for a tunnel already`));
    }
    entry.waiting.push(connect);
    this.#waiting++;
    this.#serve(entry);
  }

  /** Puts one back that no server has looked at, before all others. */
  resubmit(route: TunnelRoute, connect: PendingConnect): void {
    const entry = this.#entries.get(route.key);
    if (entry === undefined || this.#closedBy !== undefined) return this.submit(route, connect);
    entry.waiting.unshift(connect);
    this.#waiting++;
    this.#serve(entry);
  }

  /** Takes one out that no longer waits. A dial that nobody waits for is given up. */
  withdraw(route: TunnelRoute, connect: PendingConnect): void {
    const entry = this.#entries.get(route.key);
    const index = entry?.waiting.indexOf(connect) ?? -1;
    if (entry === undefined || index < 0) return;
    entry.waiting.splice(index, 1);
    this.#waiting--;
    if (entry.waiting.length > 0) return;
    if (entry.greeting === undefined) entry.dialling?.abort(new Error('nobody waits for the tunnel any more'));
    this.#forgetUnused(entry);
  }

  /** Takes no more; resolves when the last stream has ended and its tunnel is closed. */
  drain(reason: HboneError): Promise<void> {
    this.#refuseFrom(reason);
    for (const tunnel of [...this.#entryOf.keys()]) tunnel.drain();
    if (this.#entryOf.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
    });
  }

  /** Cuts everything. */
  close(reason: HboneError): void {
    this.#refuseFrom(reason);
    for (const tunnel of [...this.#entryOf.keys()]) tunnel.close(reason);
  }

  onRequest(): void {
    // A client gets no requests: HTTP/2 takes them for a protocol error.
  }

  onCapacity(tunnel: Tunnel): void {
    const entry = this.#entryOf.get(tunnel);
    if (entry === undefined) return;
    if (entry.greeting === tunnel && (tunnel.ready || tunnel.goingAway)) entry.greeting = undefined;
    this.#serve(entry);
    this.#watchIdle(tunnel);
  }

  onClosed(tunnel: Tunnel): void {
    const entry = this.#entryOf.get(tunnel);
    if (entry === undefined) return;
    this.#entryOf.delete(tunnel);
    this.#unwatchIdle(tunnel);
    entry.tunnels.splice(entry.tunnels.indexOf(tunnel), 1);
    if (entry.greeting === tunnel) entry.greeting = undefined;
    this.#serve(entry);
    this.#forgetUnused(entry);
    if (this.#entryOf.size === 0) this.#onEmpty?.();
  }

  #refuseFrom(reason: HboneError): void {
    this.#closedBy = reason;
    for (const entry of [...this.#entries.values()]) {
      this.#failAll(entry, reason);
      entry.dialling?.abort(reason);
    }
  }

  #tunnelWithRoom(entry: Entry): Tunnel | undefined {
    for (const tunnel of entry.tunnels) {
      // Before the peer's SETTINGS its limit is unknown: one stream is safe to send, the rest wait that round trip.
      const most = tunnel.ready ? this.#options.maxStreamsPerTunnel : 1;
      if (tunnel.canOpen && tunnel.activeStreams < most) return tunnel;
    }
    return undefined;
  }

  #serve(entry: Entry): void {
    while (entry.waiting.length > 0) {
      const tunnel = this.#tunnelWithRoom(entry);
      if (tunnel === undefined) break;
      this.#waiting--;
      this.#start(tunnel, entry.waiting.shift()!);
    }
    if (entry.waiting.length === 0 || entry.dialling !== undefined || entry.greeting !== undefined) return;
    if (this.#entryOf.size + this.#dialling >= this.#options.maxTunnels && !this.#releaseOne()) {
      return this.#failAll(entry, tooMany('maxTunnels', `${this.#options.maxTunnels} tunnels are in use`));
    }
    this.#dial(entry);
  }

  #start(tunnel: Tunnel, connect: PendingConnect): void {
    const { authority, headers } = connect;
    const highWaterMarkBytes = this.#options.streamBufferBytes;
    const stream = new TunnelStream(tunnel, { authority, headers: [], highWaterMarkBytes, fate: connect });
    this.#unwatchIdle(tunnel);
    try {
      tunnel.open(stream, headers);
      connect.started(stream);
    } catch (error) {
      // Headers that the peer does not take, say: this one's trouble, and nobody else's.
      connect.fail(error);
      this.#watchIdle(tunnel);
    }
  }

  #dial(entry: Entry): void {
    const controller = new AbortController();
    entry.dialling = controller;
    this.#dialling++;
    this.#makeTunnel(entry, controller.signal).then(
      () => this.#dialled(entry),
      (error: unknown) => {
        // A dial that was given up for want of waiters says nothing to those who have come since.
        const waited = controller.signal.aborted && this.#closedBy === undefined ? [] : entry.waiting.splice(0);
        this.#waiting -= waited.length;
        this.#dialled(entry);
        // A retry is the caller's to make.
        for (const connect of waited) connect.fail(error);
      },
    );
  }

  #dialled(entry: Entry): void {
    entry.dialling = undefined;
    this.#dialling--;
    this.#serve(entry);
    this.#forgetUnused(entry);
  }

  async #makeTunnel(entry: Entry, signal: AbortSignal): Promise<void> {
    const { destination, credentials, peers } = entry.route;
    const { connectTimeoutMs, handshakeTimeoutMs, clock, dial } = this.#options;
    const where = destinationText(destination);
    const certificate = await withDeadline({
      op,
      what: 'the certificate',
      timeoutMs: handshakeTimeoutMs,
      clock,
      signal,
      run: (inner) => currentCertificate(op, credentials, inner),
    });
    const raw = await withDeadline({
      op,
      what: `the connection to ${where}`,
      timeoutMs: connectTimeoutMs,
      clock,
      signal,
      run: (inner) => dialOrExplain(dial, destination, inner),
      release: (late) => late.on('error', () => {}).destroy(),
    });
    const { socket, peer } = await withDeadline({
      op,
      what: `the TLS handshake with ${where}`,
      timeoutMs: handshakeTimeoutMs,
      clock,
      signal,
      run: (inner) => authenticateServer(raw, certificate, { oneOf: peers }, inner),
      release: (late) => late.socket.destroy(),
    });
    const tunnel = new Tunnel('client', socket, peer, this, this.#options);
    this.#entryOf.set(tunnel, entry);
    entry.tunnels.push(tunnel);
    entry.greeting = tunnel;
    // Whoever it was dialled for may be gone.
    this.#watchIdle(tunnel);
  }

  #failAll(entry: Entry, reason: unknown): void {
    const waited = entry.waiting.splice(0);
    this.#waiting -= waited.length;
    for (const connect of waited) connect.fail(reason);
    this.#forgetUnused(entry);
  }

  #forgetUnused(entry: Entry): void {
    const used = entry.waiting.length > 0 || entry.tunnels.length > 0 || entry.dialling !== undefined;
    if (!used && this.#entries.get(entry.route.key) === entry) this.#entries.delete(entry.route.key);
  }

  /** Makes room for another tunnel by ending one that has no streams, the longest unused first. */
  #releaseOne(): boolean {
    for (const tunnel of this.#idleTimers.keys()) {
      this.#release(tunnel);
      return true;
    }
    return false;
  }

  #release(tunnel: Tunnel): void {
    tunnel.close(new HboneError({ code: 'ERR_HBONE_TUNNEL_LOST', op, message: 'the tunnel was not used' }));
  }

  #watchIdle(tunnel: Tunnel): void {
    if (tunnel.activeStreams > 0 || tunnel.closed || this.#idleTimers.has(tunnel)) return;
    const { clock, idleTimeoutMs } = this.#options;
    this.#idleTimers.set(
      tunnel,
      clock.setTimeout(() => this.#release(tunnel), idleTimeoutMs),
    );
  }

  #unwatchIdle(tunnel: Tunnel): void {
    this.#options.clock.clearTimeout(this.#idleTimers.get(tunnel));
    this.#idleTimers.delete(tunnel);
  }
}

function tooMany(option: string, message: string): HboneError {
  return new HboneError({ code: 'ERR_HBONE_TOO_MANY', op, message: `${message} (${option})` });
}
