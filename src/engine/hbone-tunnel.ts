import {
  ErrorCode,
  Http2Connection,
  type Http2Error,
  type Http2Options,
  type Http2Request,
  type Http2Sink,
  type Http2Stream,
} from '../http2/index.ts';
import {
  type Address,
  addressOf,
  EINPROGRESS,
  EPOLLIN,
  EPOLLOUT,
  errnoName,
  libc,
  SO_ERROR,
  SOL_SOCKET,
} from '../system/index.ts';
import { describeThrown } from './describe-thrown.ts';
import { type EngineMemory, RECEIVE_BYTES } from './engine-memory.ts';
import type { PeerVerifier } from './peer-verification.ts';
import type { Deferred, Pollable, Reactor } from './reactor.ts';
import { Timer } from './timer-queue.ts';
import type { TlsContext } from './tls-context.ts';
import { TLS_AGAIN, TLS_DONE, TLS_EOF, TLS_FAILED, TLS_WRITE_MOST, TlsLeg } from './tls-leg.ts';
import type { TunnelStream } from './tunnel-stream.ts';

/** Who made the tunnel, and hears of it. */
export interface TunnelOwner {
  /** TLS and HTTP/2 stand: streams may be opened (client) or will come (server). */
  onTunnelReady(tunnel: HboneTunnel): void;
  /** Server: a request came. The owner makes a {@link TunnelStream} for it and calls {@link HboneTunnel.adopt},
   * whatever it thinks of the request. */
  onTunnelRequest(
    tunnel: HboneTunnel,
    stream: Http2Stream<TunnelStream>,
    request: Http2Request,
    endStream: boolean,
  ): void;
  /** A stream ended, or the peer's limits changed: there may be room for another. */
  onTunnelCapacity(tunnel: HboneTunnel): void;
  /** Gone. Its streams have been told already. Once, last. */
  onTunnelClosed(tunnel: HboneTunnel, failure: string | undefined): void;
}

/** Time limits of a tunnel, in milliseconds. */
export interface TunnelLimits {
  /** TCP connect. Default 10,000. */
  readonly connectMs: number;
  /** TLS handshake, and then the peer's HTTP/2 SETTINGS. Default 10,000 each. */
  readonly handshakeMs: number;
}

export const DEFAULT_TUNNEL_LIMITS: TunnelLimits = { connectMs: 10_000, handshakeMs: 10_000 };

/** What a tunnel is made of. */
export interface TunnelInit {
  readonly reactor: Reactor;
  readonly memory: EngineMemory;
  readonly role: 'client' | 'server';
  /**
   * A non-blocking socket, connecting or connected, with TCP_NODELAY (`ambient-kit/socket` sets it); the tunnel owns it from here on, and
   * closes it where its constructor throws.
   */
  readonly fd: number;
  readonly context: TlsContext;
  readonly verifier: PeerVerifier;
  readonly owner: TunnelOwner;
  readonly http2?: Http2Options;
  readonly limits?: TunnelLimits;
}

// The states in the order that a tunnel goes through; it may jump to `closed` from any.
type TunnelState =
  /** TCP connect under way (client). */
  | 'connecting'
  /** TLS under way; no byte of HTTP/2 is looked at before the peer's certificate is accepted. */
  | 'handshaking'
  /** TLS stands, our preface is sent, the peer's SETTINGS have not come. A client already may open streams. */
  | 'greeting'
  | 'open'
  | 'closed';

const TICK_MS = 1000;
/** Bytes taken from one tunnel before the others get their turn. */
const TURN_BYTES = 1 << 20;
/** How often a turn fills and empties the output ring of one tunnel. */
const ROUNDS_PER_TURN = 4;
/** Kept free in the output ring for control frames: what HTTP/2 may want to say while no DATA is admitted. */
const CONTROL_RESERVE_BYTES = 96 << 10;
/** Places at the head of the list of waiters that are empty before the rest moves up. */
const MOST_SERVED_WAITERS = 100;
/** Less room than this is called none: a stream waits rather than send crumbs. */
const LEAST_ROOM_BYTES = 16 << 10;

/** One TLS connection with HTTP/2 on it and CONNECT streams inside: either end of HBONE (facts section 1). */
export class HboneTunnel implements Pollable, Deferred, Http2Sink<TunnelStream> {
  readonly fd: number;
  readonly role: 'client' | 'server';
  readonly reactor: Reactor;
  readonly memory: EngineMemory;
  readonly http2: Http2Connection<TunnelStream>;
  deferred = false;
  readonly #owner: TunnelOwner;
  readonly #limits: TunnelLimits;
  readonly #deadline = new Timer({ onExpired: () => this.#onDeadline() });
  readonly #tick = new Timer({ onExpired: () => this.#onTick() });
  readonly #streams = new Set<TunnelStream>();
  #state: TunnelState;
  /** Undefined once the tunnel is closed. */
  #tls: TlsLeg | undefined;
  #interest: number;
  #readAgain = false;
  /** Streams that wait for room, from {@link #nextWaiter} on. */
  readonly #waiters: TunnelStream[] = [];
  #nextWaiter = 0;
  #foreignBuffer: Buffer | undefined;
  #foreignAddress: Address = 0;
  #peerIdentity: string | undefined;
  #description = '';
  /** Why the output ring refused bytes; acted upon at the end of the turn. */
  #writeFailure: string | undefined;
  #closeFailure: string | undefined;
  /** {@link close} was called: streams end at once, whatever they still hold. */
  #cut = false;

  /** @throws {InvalidInputError} `ERR_HTTP2_INVALID` for `http2`; {@link EngineError} `ERR_ENGINE_CLOSED` for a closed context */
  constructor(init: TunnelInit) {
    this.fd = init.fd;
    this.role = init.role;
    this.reactor = init.reactor;
    this.memory = init.memory;
    this.#owner = init.owner;
    this.#limits = init.limits ?? DEFAULT_TUNNEL_LIMITS;
    this.#state = init.role === 'client' ? 'connecting' : 'handshaking';
    this.#interest = init.role === 'client' ? EPOLLOUT : EPOLLIN;
    try {
      this.http2 = new Http2Connection<TunnelStream>(init.role, this, init.http2);
      // Before the connection stands, since the context may be closed by then: a rotation waits for nobody.
      this.#tls = new TlsLeg(this.fd, init.context, init.role, init.verifier);
      this.reactor.add(this, this.#interest);
    } catch (error) {
      this.#tls?.close();
      libc().close(this.fd);
      throw error;
    }
    this.#armDeadline(init.role === 'client' ? this.#limits.connectMs : this.#limits.handshakeMs);
  }

  get state(): TunnelState {
    return this.#state;
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** The peer's SPIFFE id, once its certificate is accepted. */
  get peerIdentity(): string | undefined {
    return this.#peerIdentity;
  }

  /** `TLSv1.3 TLS_AES_256_GCM_SHA384 X25519`, once the handshake is done. */
  get description(): string {
    return this.#description;
  }

  /** Client: may {@link open} be called now? */
  get canOpen(): boolean {
    return (this.#state === 'greeting' || this.#state === 'open') && this.http2.canOpen;
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  /**
   * Client: sends CONNECT for `stream`.
   *
   * @throws {Http2Error} where {@link canOpen} is false, and for headers that the peer does not take; nothing was sent then
   */
  open(stream: TunnelStream, authority: string, headers: readonly (readonly [string, string])[]): void {
    stream.bind(this, this.http2.open(authority, headers, stream));
    this.#streams.add(stream);
    this.flushLater();
  }

  /** Server: `stream` answers for this request from now on. Only from within {@link TunnelOwner.onTunnelRequest}. */
  adopt(stream: TunnelStream, http2Stream: Http2Stream<TunnelStream>, endStream: boolean): void {
    http2Stream.context = stream;
    stream.bind(this, http2Stream);
    this.#streams.add(stream);
    if (endStream) stream.onEnd();
  }

  /**
   * Asks the peer to open no more streams, and closes when the last has ended (facts section 1.11). A server first waits for
   * what the peer sent before it knew: one round trip, at the end of which it names the last stream that it serves.
   */
  drain(): void {
    if (this.#state === 'closed') return;
    if (this.#state !== 'open' && this.#state !== 'greeting') return this.close('drained');
    this.http2.goaway(ErrorCode.NO_ERROR);
    // HTTP/2 ends the connection itself, after its last stream: see onClosed.
    this.flushLater();
  }

  /** Cuts the tunnel; its streams end with RST on their TCP side. */
  close(failure?: string): void {
    this.#close(failure, ErrorCode.NO_ERROR);
  }

  #close(failure: string | undefined, code: number): void {
    if (this.#state === 'closed') return;
    this.#cut = true;
    // Kept here, since HTTP/2 writes GOAWAY and ends in onClosed, which has no reason to give.
    this.#closeFailure = failure;
    // Called by the verifier: the handshake it was asked in must return first.
    if (this.#tls?.busy) return;
    if (this.#state === 'open' || this.#state === 'greeting') this.http2.close(code);
    this.#die(failure);
  }

  // ---- for the streams ----

  /** Payload that one DATA frame may have now, as far as the output ring goes; 0 when it is as good as full. */
  room(): number {
    const free = (this.#tls?.room() ?? 0) - CONTROL_RESERVE_BYTES;
    if (free < LEAST_ROOM_BYTES) return 0;
    // 22 bytes a record, and one record more than whole ones.
    return Math.min(free - 22 * (2 + (free >>> 14)), TLS_WRITE_MOST);
  }

  /** Calls `stream.onWritable()` when {@link room} has become worth it again. */
  waitForRoom(stream: TunnelStream): void {
    if (stream.waitsForRoom) return;
    stream.waitsForRoom = true;
    this.#waiters.push(stream);
    this.flushLater();
  }

  /** Nothing happens now: gives back what only traffic needs. */
  rest(): void {
    this.#tls?.rest();
  }

  /** Sends what was written, once, at the end of this turn. */
  flushLater(): void {
    if (this.#state !== 'closed') this.reactor.defer(this);
  }

  /** The address of the first byte of a buffer that HTTP/2 hands out; both it uses stay the same for long. */
  addressOf(buffer: Buffer): Address {
    if (buffer === this.memory.receive.buffer) return this.memory.receive.address;
    if (buffer === this.memory.send.buffer) return this.memory.send.address;
    if (buffer !== this.#foreignBuffer) {
      this.#foreignBuffer = buffer;
      this.#foreignAddress = addressOf(buffer);
    }
    return this.#foreignAddress;
  }

  /** The peer did not take it: it goes elsewhere, or ends without us. */
  disown(stream: TunnelStream): void {
    this.#streams.delete(stream);
  }

  onStreamClosed(stream: TunnelStream): void {
    this.#streams.delete(stream);
    if (this.#state !== 'closed') this.#owner.onTunnelCapacity(this);
  }

  // ---- reactor ----

  onEvents(events: number): void {
    switch (this.#state) {
      case 'connecting':
        return this.#onConnected();
      case 'handshaking':
        return this.#onHandshake();
      case 'greeting':
      case 'open':
        if ((events & ~EPOLLOUT) !== 0) this.#read();
        if ((events & EPOLLOUT) !== 0) this.flushLater();
        return;
      case 'closed':
        return;
    }
  }

  onDeferred(): void {
    if (this.#state === 'closed' || this.#tls === undefined) return;
    if (this.#writeFailure !== undefined) return this.#die(`tls: ${this.#writeFailure}`);
    if (this.#readAgain) this.#read();
    if (!this.closed) this.#flush();
  }

  /** A callback threw, maybe in the middle of a frame, after which nothing could be read. */
  onThrown(error: unknown): void {
    this.#close(describeThrown(error), ErrorCode.INTERNAL_ERROR);
  }

  #onConnected(): void {
    const { option, optionLength } = this.memory;
    optionLength[0] = 4;
    option[0] = 0;
    libc().getsockopt(this.fd, SOL_SOCKET, SO_ERROR, option, optionLength);
    const reason = option[0];
    if (reason === EINPROGRESS) return;
    if (reason !== 0) return this.#die(`connect: ${errnoName(reason)}`);
    this.#state = 'handshaking';
    this.#armDeadline(this.#limits.handshakeMs);
    this.#watch(EPOLLIN);
    this.#onHandshake();
  }

  #onHandshake(): void {
    const tls = this.#tls!;
    const outcome = tls.handshake();
    if (this.#cut) return this.#die(this.#closeFailure);
    if (outcome === TLS_FAILED) return this.#die(`tls: ${tls.failure}`);
    if (outcome !== TLS_DONE) return;
    this.#peerIdentity = tls.peerIdentity;
    this.#description = tls.describe();
    this.#state = 'greeting';
    this.#armDeadline(this.#limits.handshakeMs);
    this.reactor.timers(TICK_MS).arm(this.#tick, this.reactor.nowMs);
    this.http2.start(this.reactor.nowMs);
    this.flushLater();
    this.#owner.onTunnelReady(this);
    // The peer's first bytes may have come together with its last handshake message: the socket will not announce them.
    if (!this.closed) this.#read();
  }

  #read(): void {
    const tls = this.#tls!;
    const { receive } = this.memory;
    this.#readAgain = false;
    for (let turn = 0; turn < TURN_BYTES; ) {
      const count = tls.read(receive.address, RECEIVE_BYTES);
      if (count === TLS_AGAIN) break;
      if (count === TLS_EOF || count === TLS_FAILED) {
        return this.#die(count === TLS_EOF ? 'the peer closed the tunnel' : `tls: ${tls.failure}`);
      }
      this.reactor.tellRead(count);
      this.http2.receive(receive.buffer, 0, count);
      if (this.closed) return;
      if (tls.drained) break;
      turn += count;
      this.#readAgain = turn >= TURN_BYTES;
    }
    this.flushLater();
  }

  #flush(): void {
    this.http2.flush();
    if (this.closed) return;
    const tls = this.#tls!;
    let outcome = tls.flush();
    // Each waiter may fill the ring again; as long as the socket takes it all, the next one gets its turn.
    for (let round = 0; outcome === TLS_DONE && this.#waiters.length > this.#nextWaiter; round++) {
      // A fast source and a fast peer would keep this up for ever: others are due.
      if (round === ROUNDS_PER_TURN) return this.flushLater();
      this.#wakeWaiters();
      if (this.closed) return;
      outcome = tls.flush();
    }
    if (outcome === TLS_FAILED) return this.#die(`tls: ${tls.failure}`);
    if (outcome === TLS_AGAIN && this.room() > TLS_WRITE_MOST / 2) this.#wakeWaiters();
    if (!this.closed) this.#watch(outcome === TLS_AGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }

  /** In the order in which they came. One that fills the ring waits anew, behind those who got nothing of it. */
  #wakeWaiters(): void {
    const waiters = this.#waiters;
    for (let left = waiters.length - this.#nextWaiter; left > 0 && this.room() > 0; left--) {
      const stream = waiters[this.#nextWaiter++]!;
      stream.waitsForRoom = false;
      stream.onWritable();
    }
    if (this.#nextWaiter < waiters.length) {
      if (this.#nextWaiter < MOST_SERVED_WAITERS) return;
      waiters.copyWithin(0, this.#nextWaiter);
      waiters.length -= this.#nextWaiter;
    } else waiters.length = 0;
    this.#nextWaiter = 0;
  }

  #watch(events: number): void {
    if (events === this.#interest) return;
    this.#interest = events;
    this.reactor.modify(this, events);
  }

  #armDeadline(ms: number): void {
    this.reactor.timers(ms).arm(this.#deadline, this.reactor.nowMs);
  }

  #onDeadline(): void {
    switch (this.#state) {
      case 'connecting':
        return this.#die('connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008');
      case 'handshaking':
        return this.#die('the TLS handshake timed out');
      default:
        return this.close('no HTTP/2 SETTINGS came in time');
    }
  }

  #onTick(): void {
    this.http2.tick(this.reactor.nowMs);
    if (this.closed) return;
    this.#tls?.tidy();
    this.reactor.timers(TICK_MS).arm(this.#tick, this.reactor.nowMs);
    this.flushLater();
  }

  #die(failure: string | undefined): void {
    if (this.closed) return;
    this.#state = 'closed';
    this.#deadline.disarm();
    this.#tick.disarm();
    this.#waiters.length = 0;
    this.#nextWaiter = 0;
    this.reactor.forget(this);
    this.#tls?.close();
    this.#tls = undefined;
    libc().close(this.fd);
    // Where TLS broke, HTTP/2 does not know yet; whoever asks it for a stream now must be told.
    this.http2.close();
    const reason = failure ?? 'the tunnel was closed';
    for (const stream of this.#streams) {
      try {
        if (this.#cut) stream.abort(reason);
        else stream.onTunnelLost(reason);
      } catch (error) {
        // This one's observer: the others are to be told all the same.
        this.reactor.report(error);
      }
    }
    this.#streams.clear();
    this.#owner.onTunnelClosed(this, failure);
  }

  // ---- Http2Sink ----

  write(buffer: Buffer, start: number, end: number): void {
    const tls = this.#tls;
    if (tls === undefined) return;
    // The ring must not be left full with nobody to empty it; and a failure here comes out of the middle of an HTTP/2 call,
    // under which the connection must not be torn down.
    this.flushLater();
    if (!tls.write(this.addressOf(buffer) + start, end - start)) this.#writeFailure = tls.failure;
  }

  onRequest(stream: Http2Stream<TunnelStream>, request: Http2Request, endStream: boolean): void {
    this.#owner.onTunnelRequest(this, stream, request, endStream);
  }

  onResponse(stream: Http2Stream<TunnelStream>, status: number, _headers: unknown, endStream: boolean): void {
    stream.context.onAnswer(status, endStream);
  }

  onData(stream: Http2Stream<TunnelStream>, buffer: Buffer, start: number, end: number): void {
    stream.context.onData(buffer, start, end);
  }

  onEnd(stream: Http2Stream<TunnelStream>): void {
    stream.context.onEnd();
  }

  onReset(stream: Http2Stream<TunnelStream>, code: number): void {
    stream.context.onReset(code);
  }

  onWritable(stream: Http2Stream<TunnelStream>): void {
    stream.context.onWritable();
  }

  onGoaway(): void {
    this.#owner.onTunnelCapacity(this);
  }

  onSettings(): void {
    if (this.#state === 'greeting') {
      this.#state = 'open';
      this.#deadline.disarm();
    }
    this.#owner.onTunnelCapacity(this);
  }

  onClosed(error: Http2Error | undefined): void {
    this.#die(error?.message ?? this.#closeFailure);
  }
}
