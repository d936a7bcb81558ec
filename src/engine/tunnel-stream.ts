import { messageOf } from '../errors/index.ts';
import { ErrorCode, FRAME_HEADER_BYTES, type Http2Stream } from '../http2/index.ts';
import { describeThrown } from './describe-thrown.ts';
import { type EngineMemory, SEND_BYTES } from './engine-memory.ts';
import type { HboneTunnel } from './hbone-tunnel.ts';
import type { Deferred, Reactor } from './reactor.ts';
import { describeErrno, isConnected, type LegOwner, TcpLeg } from './tcp-leg.ts';
import { type Expiring, Timer } from './timer-queue.ts';

/** Who wants to know how one joined connection goes. */
export interface StreamObserver {
  /** Server: the dialled target accepted. Answer with {@link TunnelStream.accept}. */
  onTargetConnected?(stream: TunnelStream): void;
  /** Client: the other side answered. 200 has already joined the two; anything else ends the stream, after this. */
  onAnswer?(stream: TunnelStream, status: number): void;
  /** Over, for whatever reason: `failure` is undefined after a clean end in both directions. Once, last. */
  onStreamClosed(stream: TunnelStream, failure: string | undefined): void;
}

/** Who sent the CONNECT of a stream, and may send it anew: a pool. */
export interface StreamOpener {
  /**
   * `tunnel`'s peer refused the stream before it looked at it (REFUSED_STREAM, or a GOAWAY with a lower last id: RFC 9113 section 8.7).
   * The stream is in no tunnel any more, and what it carried is still here. @returns whether it waits for another one now; if not, it
   * ends
   */
  onStreamRefused(stream: TunnelStream, tunnel: HboneTunnel): boolean;
}

/** Time limits of one stream, in milliseconds. */
export interface StreamLimits {
  /** Server: TCP connect to the target. Default 10,000. */
  readonly connectMs: number;
  /** Client: from the CONNECT (or from waiting for a tunnel to send it on) to its answer. Server: the body of a declined request. Default 30,000. */
  readonly answerMs: number;
}

export const DEFAULT_STREAM_LIMITS: StreamLimits = { connectMs: 10_000, answerMs: 30_000 };

/** Bytes moved for one stream before the others get their turn. */
const TURN_BYTES = 1 << 20;
/** The most that is sent behind a CONNECT before its answer: what an application says first fits, and each waiting stream holds as much. */
const EARLY_BYTES = 16 << 10;

/**
 * One CONNECT stream joined with one TCP connection:
 *
 * ```text
 *          read ──► DATA                 FIN ──► END_STREAM          RST ──► RST_STREAM(CONNECT_ERROR)
 *   TCP ◄──────────────────► stream
 *          send ◄── DATA                 FIN ◄── END_STREAM          RST ◄── RST_STREAM, or the tunnel's death
 * ```
 *
 * The two directions end independently of each other. What the TCP side does not take is held back here, up to the stream's
 * flow-control window: credit goes back to the peer only for bytes that the kernel has taken.
 */
export class TunnelStream implements LegOwner, Deferred, Expiring {
  readonly observer: StreamObserver;
  readonly #reactor: Reactor;
  readonly #memory: EngineMemory;
  readonly #limits: StreamLimits;
  readonly #deadline = new Timer(this);
  /** Payload bytes read from the TCP side and sent into the tunnel. */
  bytesToTunnel = 0;
  /** Payload bytes that came out of the tunnel for the TCP side. */
  bytesFromTunnel = 0;
  deferred = false;
  #leg: TcpLeg | undefined;
  #tunnel: HboneTunnel | undefined;
  #stream: Http2Stream<TunnelStream> | undefined;
  #joined = false;
  #legEnded = false;
  #streamEnded = false;
  #closed = false;
  /** Client: may bytes go out before the answer? */
  #mayBeEarly = false;
  /** Client: what was sent before the answer, kept until it comes: another tunnel may have to carry it. */
  #early: Buffer | undefined;
  /** Client: what a peer had been sent early that did not look at it. Goes out before all else. */
  #again: Buffer | undefined;
  /** Why the request was declined whose body is read to its end here. */
  #declined: string | undefined;
  /** Client: who opened it, until it is answered. */
  opener: StreamOpener | undefined;
  /** Waits in the tunnel's list for room in its output ring. */
  waitsForRoom = false;

  constructor(
    reactor: Reactor,
    memory: EngineMemory,
    observer: StreamObserver,
    limits: StreamLimits = DEFAULT_STREAM_LIMITS,
  ) {
    this.#limits = limits;
    this.#reactor = reactor;
    this.#memory = memory;
    this.observer = observer;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The tunnel that it goes through; undefined while it waits for one. */
  get tunnel(): HboneTunnel | undefined {
    return this.#tunnel;
  }

  /** HTTP/2 stream id; 0 before there is one. */
  get id(): number {
    return this.#stream?.id ?? 0;
  }

  /**
   * Takes the TCP side over: an accepted descriptor, or one that `connect(2)` was called for, which may be connected by now: then
   * {@link StreamObserver.onTargetConnected} is called before this returns. A server calls this, or {@link refuse}, before it returns
   * from `onTunnelRequest`; once the stream is closed, the descriptor is closed too.
   */
  attach(fd: number, connecting: boolean): void {
    const waits = connecting && !isConnected(this.#memory, fd);
    const leg = new TcpLeg(this.#reactor, this.#memory, fd, this, waits);
    if (this.#closed) return leg.abort();
    this.#leg = leg;
    // The request may have ended the peer's direction already.
    if (this.#streamEnded) leg.finish();
    if (connecting && !waits) return this.#connectedAtOnce();
    const limit = connecting ? this.#limits.connectMs : this.#limits.answerMs;
    this.#reactor.timers(limit).arm(this.#deadline, this.#reactor.nowMs);
  }

  /** Takes the HTTP/2 side over. */
  bind(tunnel: HboneTunnel, stream: Http2Stream<TunnelStream>): void {
    this.#tunnel = tunnel;
    this.#stream = stream;
  }

  /**
   * Client: sends what the application has said, or will say before the answer comes, right behind the CONNECT: 16 KiB at most, in one
   * piece. RFC 9113 section 8.5 asks a client only for its HEADERS first; it saves a round trip, for a peer that holds such bytes until
   * it has connected.
   */
  sendEarly(): void {
    this.#mayBeEarly = true;
    this.#pumpEarly();
  }

  /** Server: answers 200 and lets the bytes flow. */
  accept(headers: readonly (readonly [string, string])[]): void {
    if (this.#closed || this.#tunnel === undefined || this.#stream === undefined) return;
    try {
      this.#tunnel.http2.respond(this.#stream, 200, headers, false);
    } catch (error) {
      // A peer that takes hardly any header (SETTINGS_MAX_HEADER_LIST_SIZE) harms its own stream only.
      return this.abort(messageOf(error));
    }
    this.#tunnel.flushLater();
    this.#join();
  }

  /** Server: answers with an error status and ends. */
  refuse(status: number, failure: string): void {
    if (this.#closed || this.#tunnel === undefined || this.#stream === undefined) return;
    try {
      this.#tunnel.http2.respond(this.#stream, status, [], true);
    } catch {
      // It takes no header at all, or has its answer: the reset says what can be said.
      return this.abort(failure);
    }
    // RFC 9113 section 8.1: an early answer, then RST_STREAM(NO_ERROR) tells the client to stop sending.
    this.#resetStream(ErrorCode.NO_ERROR);
    this.#close(failure, true);
  }

  /**
   * Server: answers a request that is no CONNECT with an error status, and reads its body to its end, for `answerMs` at most: until then
   * its sender has mistakes to be told of. It has no TCP side.
   */
  decline(status: number, failure: string): void {
    const stream = this.#stream;
    if (this.#closed || this.#tunnel === undefined || stream === undefined) return;
    if (this.#streamEnded) return this.refuse(status, failure);
    try {
      this.#tunnel.http2.respond(stream, status, [], true);
    } catch {
      // As in refuse().
      return this.abort(failure);
    }
    this.#declined = failure;
    this.#tunnel.flushLater();
    this.#reactor.timers(this.#limits.answerMs).arm(this.#deadline, this.#reactor.nowMs);
  }

  /** Ends both sides at once, the TCP side with RST. */
  abort(failure: string, code: number = ErrorCode.CANCEL): void {
    if (this.#closed) return;
    this.#resetStream(code);
    this.#close(failure, true);
  }

  // ---- from the tunnel ----

  /** Client: the answer to our CONNECT. */
  onAnswer(status: number, endStream: boolean): void {
    this.#deadline.disarm();
    this.opener = undefined;
    this.observer.onAnswer?.(this, status);
    if (this.#closed) return;
    if (status !== 200) return this.abort(`http status: ${status}`);
    this.#early = undefined;
    this.#join();
    if (endStream) this.onEnd();
  }

  onData(buffer: Buffer, start: number, end: number): void {
    const leg = this.#leg;
    const length = end - start;
    const tunnel = this.#tunnel;
    if (this.#closed || tunnel === undefined || this.#stream === undefined) return;
    if (leg === undefined) {
      if (this.#declined === undefined) return this.abort('bytes came for a stream without a TCP side');
      return tunnel.http2.consume(this.#stream, length);
    }
    this.bytesFromTunnel += length;
    const sent = leg.write(buffer, tunnel.addressOf(buffer), start, end);
    if (sent > 0) tunnel.http2.consume(this.#stream, sent);
  }

  onEnd(): void {
    if (this.#closed) return;
    this.#streamEnded = true;
    if (this.#declined !== undefined) return this.#close(this.#declined, false);
    this.#finishWhenBothEnded();
    // Where both have, closing has sent FIN.
    this.#leg?.finish();
  }

  /** RST_STREAM from the peer, or a stream error of ours. */
  onReset(code: number): void {
    if (this.#closed) return;
    if (this.#declined !== undefined) return this.#close(this.#declined, false);
    if (code === ErrorCode.REFUSED_STREAM && this.#openedAnew()) return;
    // NO_ERROR after the peer's END_STREAM asks for silence, it does not take anything back (RFC 9113 section 8.1).
    if (code === ErrorCode.NO_ERROR && this.#streamEnded) {
      this.#legEnded = true;
      return this.#finishWhenBothEnded();
    }
    this.#close(`stream reset by peer: ${code}`, true);
  }

  /** The tunnel broke, or has ended. What both sides have finished is complete, and what is left of it goes out to the TCP side. */
  onTunnelLost(failure: string): void {
    if (this.#legEnded && this.#streamEnded) return;
    this.#close(failure, true);
  }

  /** The window or the tunnel's ring has room again. */
  onWritable(): void {
    this.#pump();
  }

  // ---- from the TCP side ----

  onLegConnected(): void {
    this.#deadline.disarm();
    this.observer.onTargetConnected?.(this);
  }

  onLegReadable(): void {
    if (this.#joined) this.#pump();
    else if (this.#mayBeEarly) this.#pumpEarly();
  }

  onLegDrained(leg: TcpLeg, sentBytes: number): void {
    this.#consume(sentBytes);
    this.#tunnel?.flushLater();
    if (leg.pendingBytes === 0) this.#finishWhenBothEnded();
  }

  onLegFailed(leg: TcpLeg, reason: number): void {
    if (this.#closed) return;
    const failure = `${leg.connecting ? 'connect' : 'io'}: ${describeErrno(reason)}`;
    if (leg.connecting) return this.refuse(503, failure);
    // RFC 9113 section 8.5: a TCP error of the proxied connection is a stream error of type CONNECT_ERROR.
    this.#resetStream(ErrorCode.CONNECT_ERROR);
    this.#close(failure, true);
  }

  onLegThrown(_leg: TcpLeg, error: unknown): void {
    this.onThrown(error);
  }

  onDeferred(): void {
    this.#pump();
  }

  onExpired(): void {
    if (this.#leg?.connecting) this.refuse(503, 'connect: connection timed out');
    else if (this.#declined !== undefined) {
      this.#resetStream(ErrorCode.NO_ERROR);
      this.#close(this.#declined, false);
    } else this.abort('no answer to CONNECT in time');
  }

  onThrown(error: unknown): void {
    this.abort(describeThrown(error), ErrorCode.INTERNAL_ERROR);
  }

  /** As an event of the TCP side would tell it: a callback that throws is not to end the tunnel whose request is being looked at. */
  #connectedAtOnce(): void {
    try {
      this.onLegConnected();
    } catch (error) {
      this.#reactor.report(error);
      this.onThrown(error);
    }
  }

  /** What was read of the TCP side before the answer is here still, so that another tunnel can do all of it. */
  #openedAnew(): boolean {
    const opener = this.opener;
    const tunnel = this.#tunnel;
    this.opener = undefined;
    if (opener === undefined || tunnel === undefined) return false;
    tunnel.disown(this);
    this.#tunnel = undefined;
    this.#stream = undefined;
    this.#again = this.#early;
    this.#early = undefined;
    this.#mayBeEarly = false;
    this.bytesToTunnel = 0;
    return opener.onStreamRefused(this, tunnel);
  }

  #join(): void {
    this.#joined = true;
    this.#pump();
  }

  /** TCP → DATA, until one of them has no more, or others are due. */
  #pump(): void {
    const leg = this.#leg;
    const stream = this.#stream;
    const tunnel = this.#tunnel;
    if (leg === undefined || stream === undefined || tunnel === undefined || !this.#joined || this.#legEnded) return;
    const { http2 } = tunnel;
    const { send } = this.#memory;
    for (let turn = 0; (leg.readable || this.#again !== undefined) && turn < TURN_BYTES; ) {
      const room = tunnel.room();
      if (room === 0) return tunnel.waitForRoom(this);
      const most = Math.min(http2.capacity(stream), room, SEND_BYTES);
      if (most === 0) return;
      const count =
        this.#again === undefined ? leg.read(send.address + FRAME_HEADER_BYTES, most) : this.#takeAgain(most);
      if (count < 0) return;
      if (count === 0) {
        this.#legEnded = true;
        http2.endStream(stream);
        tunnel.flushLater();
        return this.#finishWhenBothEnded();
      }
      this.bytesToTunnel += count;
      turn += count;
      http2.sendData(stream, send.buffer, FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + count, false);
    }
    if (leg.readable) this.#reactor.defer(this);
  }

  /** As {@link #pump}, once, of what the application has said first. Its end is for the answer to wait for. */
  #pumpEarly(): void {
    const leg = this.#leg;
    const stream = this.#stream;
    const tunnel = this.#tunnel;
    if (leg === undefined || stream === undefined || tunnel === undefined || this.#early !== undefined) return;
    if (!leg.readable) return;
    const { send } = this.#memory;
    const most = Math.min(tunnel.http2.capacity(stream), tunnel.room(), EARLY_BYTES);
    if (most === 0) return;
    const count = leg.read(send.address + FRAME_HEADER_BYTES, most);
    if (count <= 0) return;
    const end = FRAME_HEADER_BYTES + count;
    this.#early = Buffer.from(send.buffer.subarray(FRAME_HEADER_BYTES, end));
    this.bytesToTunnel += count;
    tunnel.http2.sendData(stream, send.buffer, FRAME_HEADER_BYTES, end, false);
  }

  /** @returns how many of {@link #again}'s bytes are in the send buffer now */
  #takeAgain(most: number): number {
    const again = this.#again!;
    const count = again.copy(this.#memory.send.buffer, FRAME_HEADER_BYTES, 0, Math.min(most, again.length));
    this.#again = count < again.length ? again.subarray(count) : undefined;
    return count;
  }

  #consume(bytes: number): void {
    if (bytes > 0 && this.#stream !== undefined) this.#tunnel?.http2.consume(this.#stream, bytes);
  }

  #resetStream(code: number): void {
    if (this.#stream !== undefined && !this.#stream.closed) this.#tunnel?.http2.reset(this.#stream, code);
  }

  #finishWhenBothEnded(): void {
    if (this.#legEnded && this.#streamEnded && (this.#leg === undefined || this.#leg.pendingBytes === 0)) {
      this.#close(undefined, false);
    }
  }

  #close(failure: string | undefined, reset: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#deadline.disarm();
    this.#early = undefined;
    this.#again = undefined;
    const leg = this.#leg;
    if (leg !== undefined) {
      // What waits here has been counted against the window; the stream is gone, the connection's share is not.
      this.#consume(leg.pendingBytes);
      if (reset) leg.abort();
      else leg.close();
    }
    this.#tunnel?.flushLater();
    this.#tunnel?.onStreamClosed(this);
    this.observer.onStreamClosed(this, failure);
  }
}
