import { messageOf } from '../errors/index.ts';
import type { HeaderField, Http2Options } from '../http2/index.ts';
import type { EngineMemory } from './engine-memory.ts';
import { HboneTunnel, type TunnelLimits, type TunnelOwner } from './hbone-tunnel.ts';
import type { PeerVerifier } from './peer-verification.ts';
import type { Reactor } from './reactor.ts';
import { Timer } from './timer-queue.ts';
import type { TlsContext } from './tls-context.ts';
import type { StreamOpener, TunnelStream } from './tunnel-stream.ts';

/** Where a tunnel goes and as whom. Two connections share a tunnel when their keys are equal. */
export interface TunnelRoute {
  /** Source identity, acceptable destination identities, destination address and source address in one string (facts section 1.8). */
  readonly key: string;
  readonly context: TlsContext;
  readonly verifier: PeerVerifier;
  /** Whether the peer holds bytes that come before its answer, see {@link TunnelStream.sendEarly}. Default false. */
  readonly sendsEarly?: boolean;
  /** Makes the connecting socket; the pool owns it then. @throws when there is none to be had */
  dial(): number;
}

/** Bounds of the pool. */
export interface TunnelPoolOptions {
  /** Streams that one tunnel carries before another is dialled. Default 100 (POOL_MAX_STREAMS_PER_CONNECTION). */
  readonly maxStreamsPerTunnel?: number;
  /** How long a tunnel without streams is kept. Default 300,000 (POOL_UNUSED_RELEASE_TIMEOUT). */
  readonly idleMs?: number;
  /** Connections of one key that wait for a tunnel; more are refused. Default 10,000. */
  readonly maxWaiting?: number;
  readonly http2?: Http2Options;
  readonly limits?: TunnelLimits;
}

/** How often a CONNECT that no peer has looked at is sent anew, each time on another tunnel. */
const MOST_RETRIES = 1;

/** A connection whose CONNECT is not answered: it waits for a tunnel, or for what the peer says. */
class PendingOpen implements StreamOpener {
  readonly stream: TunnelStream;
  readonly authority: string;
  readonly headers: readonly HeaderField[];
  readonly #onRefused: (pending: PendingOpen, tunnel: HboneTunnel) => boolean;
  retries = 0;

  constructor(
    stream: TunnelStream,
    authority: string,
    headers: readonly HeaderField[],
    onRefused: (pending: PendingOpen, tunnel: HboneTunnel) => boolean,
  ) {
    this.stream = stream;
    this.authority = authority;
    this.headers = headers;
    this.#onRefused = onRefused;
  }

  onStreamRefused(_stream: TunnelStream, tunnel: HboneTunnel): boolean {
    return this.#onRefused(this, tunnel);
  }
}

/** All tunnels of one key. */
class Entry {
  /** The latest of this key: after a rotation, the one with the new certificate. */
  route: TunnelRoute;
  /** Those that stand, and may take streams. */
  readonly tunnels: HboneTunnel[] = [];
  readonly waiting: PendingOpen[] = [];
  /**
   * At most one is on its way: a burst of connections must not become a burst of handshakes. On its way until the peer's
   * SETTINGS say how many streams it takes; from TLS on it is among {@link tunnels} too.
   */
  dialling: HboneTunnel | undefined;

  constructor(route: TunnelRoute) {
    this.route = route;
  }
}

/** Client tunnels, shared by the connections between the same two workloads. */
export class TunnelPool implements TunnelOwner {
  readonly #reactor: Reactor;
  readonly #memory: EngineMemory;
  readonly #options: TunnelPoolOptions;
  readonly #maxStreams: number;
  readonly #maxWaiting: number;
  readonly #entries = new Map<string, Entry>();
  readonly #entryOf = new Map<HboneTunnel, Entry>();
  readonly #idle = new Map<HboneTunnel, Timer>();
  #closed = false;

  constructor(reactor: Reactor, memory: EngineMemory, options: TunnelPoolOptions = {}) {
    this.#reactor = reactor;
    this.#memory = memory;
    this.#options = options;
    this.#maxStreams = options.maxStreamsPerTunnel ?? 100;
    this.#maxWaiting = options.maxWaiting ?? 10_000;
  }

  get tunnelCount(): number {
    return this.#entryOf.size;
  }

  /**
   * Sends `stream` through a tunnel of this route, now or when one stands, and once more through another one where its peer refuses it
   * unprocessed. It ends by itself when none can be had.
   */
  open(route: TunnelRoute, stream: TunnelStream, authority: string, headers: readonly HeaderField[]): void {
    if (stream.closed) return;
    if (this.#closed) return stream.abort('the pool is closed');
    let entry = this.#entries.get(route.key);
    if (entry === undefined) {
      entry = new Entry(route);
      this.#entries.set(route.key, entry);
    }
    entry.route = route;
    const pending = new PendingOpen(stream, authority, headers, this.#onRefused);
    const tunnel = entry.waiting.length === 0 ? this.#tunnelWithRoom(entry) : undefined;
    if (tunnel !== undefined) return start(tunnel, pending, route);
    if (entry.waiting.length >= this.#maxWaiting) forgetClosed(entry.waiting);
    if (entry.waiting.length >= this.#maxWaiting) {
      this.#forgetUnused(entry);
      return stream.abort('too many connections wait for a tunnel');
    }
    entry.waiting.push(pending);
    this.#serve(entry);
  }

  /** Nothing happens now: gives back what only traffic needs. */
  rest(): void {
    for (const tunnel of this.#entryOf.keys()) tunnel.rest();
  }

  /** Asks every peer for no more streams; tunnels close when their last stream ends. */
  drain(): void {
    this.#closed = true;
    for (const tunnel of [...this.#entryOf.keys()]) tunnel.drain();
  }

  /** Cuts everything. */
  close(): void {
    this.#closed = true;
    for (const tunnel of [...this.#entryOf.keys()]) tunnel.close('connection closed due to connection drain');
  }

  onTunnelReady(tunnel: HboneTunnel): void {
    const entry = this.#entryOf.get(tunnel);
    if (entry === undefined) return;
    entry.tunnels.push(tunnel);
    this.#serve(entry);
    // Whoever it was dialled for may be gone.
    this.#watchIdle(tunnel);
  }

  onTunnelRequest(): void {
    // A client tunnel gets no requests: HTTP/2 refuses them as a protocol error.
  }

  onTunnelCapacity(tunnel: HboneTunnel): void {
    const entry = this.#entryOf.get(tunnel);
    if (entry === undefined) return;
    if (entry.dialling === tunnel && tunnel.state === 'open') entry.dialling = undefined;
    if (entry.waiting.length > 0) this.#serve(entry);
    this.#watchIdle(tunnel);
  }

  onTunnelClosed(tunnel: HboneTunnel, failure: string | undefined): void {
    const entry = this.#entryOf.get(tunnel);
    if (entry === undefined) return;
    this.#entryOf.delete(tunnel);
    this.#idle.get(tunnel)?.disarm();
    this.#idle.delete(tunnel);
    const index = entry.tunnels.indexOf(tunnel);
    if (index >= 0) entry.tunnels.splice(index, 1);
    if (entry.dialling === tunnel) {
      entry.dialling = undefined;
      // Whoever waited for this dial gets its reason; a retry is the application's to make.
      abortAll(entry.waiting, failure ?? 'no tunnel');
    }
    if (entry.waiting.length > 0) this.#serve(entry);
    this.#forgetUnused(entry);
  }

  /** The peer takes fewer streams than it says, or none any more: its tunnel has had its last one. */
  readonly #onRefused = (pending: PendingOpen, tunnel: HboneTunnel): boolean => {
    const entry = this.#entryOf.get(tunnel);
    tunnel.drain();
    if (entry === undefined || this.#closed || pending.retries === MOST_RETRIES) return false;
    pending.retries++;
    entry.waiting.unshift(pending);
    this.#serve(entry);
    return true;
  };

  #tunnelWithRoom(entry: Entry): HboneTunnel | undefined {
    for (const tunnel of entry.tunnels) if (this.#hasRoom(tunnel)) return tunnel;
    return undefined;
  }

  #hasRoom(tunnel: HboneTunnel): boolean {
    // Before the peer's SETTINGS its limit is unknown: one stream is safe to send, the rest wait that round trip.
    const most = tunnel.state === 'open' ? this.#maxStreams : 1;
    return tunnel.canOpen && tunnel.streamCount < most;
  }

  #serve(entry: Entry): void {
    while (entry.waiting.length > 0) {
      if (entry.waiting[0]!.stream.closed) {
        entry.waiting.shift();
        continue;
      }
      const tunnel = this.#tunnelWithRoom(entry);
      if (tunnel === undefined) break;
      start(tunnel, entry.waiting.shift()!, entry.route);
    }
    if (entry.waiting.length > 0 && entry.dialling === undefined) this.#dial(entry);
  }

  #dial(entry: Entry): void {
    if (this.#closed) return abortAll(entry.waiting, 'the pool is closed');
    const { route } = entry;
    try {
      const tunnel = new HboneTunnel({
        reactor: this.#reactor,
        memory: this.#memory,
        role: 'client',
        fd: route.dial(),
        context: route.context,
        verifier: route.verifier,
        owner: this,
        ...(this.#options.http2 === undefined ? {} : { http2: this.#options.http2 }),
        ...(this.#options.limits === undefined ? {} : { limits: this.#options.limits }),
      });
      entry.dialling = tunnel;
      this.#entryOf.set(tunnel, entry);
    } catch (error) {
      abortAll(entry.waiting, messageOf(error));
      this.#forgetUnused(entry);
    }
  }

  #forgetUnused(entry: Entry): void {
    if (entry.waiting.length > 0 || entry.tunnels.length > 0 || entry.dialling !== undefined) return;
    if (this.#entries.get(entry.route.key) === entry) this.#entries.delete(entry.route.key);
  }

  #watchIdle(tunnel: HboneTunnel): void {
    if (tunnel.streamCount > 0 || tunnel.closed) return;
    let timer = this.#idle.get(tunnel);
    if (timer === undefined) {
      timer = new Timer({
        onExpired: () => {
          if (tunnel.streamCount === 0) tunnel.close();
        },
      });
      this.#idle.set(tunnel, timer);
    }
    this.#reactor.timers(this.#options.idleMs ?? 300_000).arm(timer, this.#reactor.nowMs);
  }
}

function start(tunnel: HboneTunnel, pending: PendingOpen, route: TunnelRoute): void {
  const { stream, authority, headers } = pending;
  try {
    tunnel.open(stream, authority, headers);
  } catch (error) {
    // Headers that the peer does not take, say: this one's trouble, and nobody else's.
    return stream.abort(messageOf(error));
  }
  stream.opener = pending;
  // Before its SETTINGS a peer may have a smaller window than it is entitled to (RFC 9113 section 6.9.3).
  if (route.sendsEarly && pending.retries === 0 && tunnel.state === 'open') stream.sendEarly();
}

function abortAll(waiting: PendingOpen[], failure: string): void {
  for (const { stream } of waiting.splice(0)) stream.abort(failure);
}

/** Connections whose application has gone away while they waited. */
function forgetClosed(waiting: PendingOpen[]): void {
  const live = waiting.filter(({ stream }) => !stream.closed);
  waiting.splice(0, waiting.length, ...live);
}
