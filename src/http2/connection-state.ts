import { ENHANCE_YOUR_CALM, NO_ERROR } from './error-code.ts';
import { FloodGuard } from './flood-guard.ts';
import { DEFAULT_WINDOW_BYTES, MAX_31_BITS } from './frame.ts';
import { FrameWriter } from './frame-writer.ts';
import { HpackEncoder } from './hpack/encoder.ts';
import { type Http2Error, violation } from './http2-error.ts';
import { Keepalive } from './keepalive.ts';
import type { Http2Role, ResolvedHttp2Options } from './options.ts';
import { ReceiveWindow } from './receive-window.ts';
import { ResetMemory } from './reset-memory.ts';
import { PeerSettings } from './settings.ts';
import type { Http2Sink } from './sink.ts';
import type { Http2Stream } from './stream.ts';
import { WritableQueue } from './writable-queue.ts';

/** Our own GOAWAY: none yet; the announcement of a graceful end, with a PING behind it; the one with the real last id. */
export const GOAWAY_NONE = 0;
export const GOAWAY_ANNOUNCED = 1;
export const GOAWAY_FINAL = 2;

// Opaque to the peer; the first byte tells our own apart when they come back.
export const KEEPALIVE_PAYLOAD: Buffer = Buffer.from('keep-ali', 'latin1');
export const DRAIN_PAYLOAD: Buffer = Buffer.from('draining', 'latin1');

/**
 * What both halves of a connection share: its streams, windows, peer's settings and its end. Reading lives in
 * `inbound-frames.ts`, the calls of the driver in `connection.ts`.
 */
export class ConnectionState<C> {
  readonly role: Http2Role;
  readonly options: ResolvedHttp2Options;
  readonly sink: Http2Sink<C>;
  readonly writer: FrameWriter;
  readonly encoder: HpackEncoder;
  readonly peer = new PeerSettings();
  readonly flood: FloodGuard;
  readonly keepalive: Keepalive;
  readonly receiveWindow: ReceiveWindow;
  readonly resets: ResetMemory;
  readonly streams = new Map<number, Http2Stream<C>>();
  readonly #writable = new WritableQueue<C>();

  started = false;
  closed = false;
  startedMs = 0;
  /** The peer's first SETTINGS are applied; ours are acknowledged. */
  peerSettingsSeen = false;
  ownSettingsAcked = false;
  /** DATA bytes we may still send on the connection. */
  sendWindow = DEFAULT_WINDOW_BYTES;
  /** What a new stream's receive window is: the larger of the RFC's and ours until the peer has acknowledged ours. */
  streamReceiveWindow: number;
  /** Highest stream id of the peer (server) that we have taken in. */
  highestPeerId = 0;
  /** Id of the next stream of ours (client). */
  nextId = 1;
  goaway: typeof GOAWAY_NONE | typeof GOAWAY_ANNOUNCED | typeof GOAWAY_FINAL = GOAWAY_NONE;
  /** The peer has said GOAWAY, with this last id. */
  peerGoaway = false;
  peerLastId = MAX_31_BITS;

  constructor(role: Http2Role, sink: Http2Sink<C>, options: ResolvedHttp2Options) {
    this.role = role;
    this.sink = sink;
    this.options = options;
    this.writer = new FrameWriter(sink, options.controlBufferBytes);
    this.encoder = new HpackEncoder({
      maxTableBytes: options.encoderTableBytes,
      unindexed: options.unindexedHeaders,
      neverIndexed: options.neverIndexedHeaders,
    });
    this.flood = new FloodGuard(options);
    this.keepalive = new Keepalive(options.keepaliveIntervalMs, options.keepaliveTimeoutMs);
    this.receiveWindow = new ReceiveWindow(options.connectionWindowBytes, options.maxBufferedBytes);
    this.resets = new ResetMemory(options.maxRememberedResets);
    this.streamReceiveWindow = Math.max(DEFAULT_WINDOW_BYTES, options.initialWindowBytes);
  }

  /** Streams that nobody has opened yet (RFC 9113 section 5.1): frames on them are connection errors. */
  isIdle(streamId: number): boolean {
    // Server push is off, so that even ids never come into use.
    if ((streamId & 1) === 0) return true;
    return this.role === 'server' ? streamId > this.highestPeerId : streamId >= this.nextId;
  }

  /** Streams the client opened beyond our final GOAWAY: it knows that they are not served (RFC 9113 section 6.8). */
  isDiscarded(streamId: number): boolean {
    return this.role === 'server' && this.goaway === GOAWAY_FINAL && streamId > this.highestPeerId;
  }

  /** Removes a stream when both sides have ended it. */
  closeIfEnded(stream: Http2Stream<C>): void {
    if (stream.localEnded && stream.remoteEnded) this.#remove(stream);
  }

  /** Removes a stream that was reset; what the driver holds of it counts no longer. */
  abort(stream: Http2Stream<C>): void {
    this.#remove(stream);
    this.creditConnection(this.receiveWindow.consumed(stream.unconsumed));
    stream.unconsumed = 0;
  }

  /** A stream error (RFC 9113 section 5.4.2): RST_STREAM to the peer, `onReset` to the driver. */
  streamError(stream: Http2Stream<C>, errorCode: number): void {
    this.abort(stream);
    this.rst(stream.id, errorCode);
    this.sink.onReset(stream, errorCode);
    this.countFailed();
  }

  /** RST_STREAM for a stream that the driver never heard of or has done with. */
  refuse(streamId: number, errorCode: number): void {
    this.rst(streamId, errorCode);
    this.countFailed();
  }

  rst(streamId: number, errorCode: number): void {
    this.resets.add(streamId);
    this.writer.rstStream(streamId, errorCode);
  }

  /** Sends a connection WINDOW_UPDATE of the increment that a {@link ReceiveWindow} gave. */
  creditConnection(increment: number): void {
    if (increment > 0) this.writer.windowUpdate(0, increment);
  }

  /** Gives a stream's bytes back to the peer, at half a window. */
  creditStream(stream: Http2Stream<C>, bytes: number): void {
    if (stream.remoteEnded || stream.closed) return;
    stream.credit += bytes;
    if (stream.credit === 0 || stream.credit < this.options.initialWindowBytes >>> 1) return;
    this.writer.windowUpdate(stream.id, stream.credit);
    stream.receiveWindow += stream.credit;
    stream.credit = 0;
  }

  /** `capacity()` was 0: `onWritable` follows when it no longer is. */
  wait(stream: Http2Stream<C>): void {
    stream.waiting = true;
    if (stream.sendWindow > 0) this.#writable.push(stream);
  }

  /** A stream's own window has opened; {@link drainWritable} tells it. */
  windowOpened(stream: Http2Stream<C>): void {
    if (stream.waiting && stream.sendWindow > 0) this.#writable.push(stream);
  }

  /** Tells the waiting streams in turn, while the connection has window. One that takes it all and asks again goes last. */
  drainWritable(): void {
    while (this.sendWindow > 0 && !this.closed) {
      const stream = this.#writable.shift();
      if (stream === undefined) return;
      if (!stream.waiting || stream.sendWindow <= 0) continue;
      stream.waiting = false;
      this.sink.onWritable(stream);
    }
  }

  /** A connection error of the peer's making: GOAWAY, and the end. */
  violate(errorCode: number, message: string): void {
    this.fail(violation(errorCode, message));
  }

  /** The end for that reason, GOAWAY first. */
  fail(error: Http2Error): void {
    if (this.closed) return;
    this.writer.goaway(this.highestPeerId, error.errorCode, error.message);
    this.end(error);
  }

  /** The end without another GOAWAY. */
  end(error: Http2Error | undefined): void {
    if (this.closed) return;
    this.closed = true;
    this.writer.flush();
    for (const stream of this.streams.values()) stream.closed = true;
    this.streams.clear();
    this.sink.onClosed(error);
  }

  /** Ends a connection that is going away and has no streams left. */
  endIfDrained(): void {
    if (this.closed || this.streams.size > 0) return;
    if (this.goaway === GOAWAY_FINAL) this.end(undefined);
    else if (this.peerGoaway) {
      this.writer.goaway(this.highestPeerId, NO_ERROR);
      this.end(undefined);
    }
  }

  #remove(stream: Http2Stream<C>): void {
    stream.closed = true;
    stream.waiting = false;
    this.#writable.remove(stream);
    this.streams.delete(stream.id);
    // A stream's end and the peer's last frames for it may cross on the wire.
    this.flood.ignored.earn(2);
  }

  /** Counts a stream that was work for nothing. */
  countFailed(): void {
    if (!this.flood.failedStreams.take())
      this.violate(ENHANCE_YOUR_CALM, 'too many streams failed or were reset early');
  }
}
