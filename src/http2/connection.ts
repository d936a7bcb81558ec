import {
  ConnectionState,
  DRAIN_PAYLOAD,
  GOAWAY_ANNOUNCED,
  GOAWAY_FINAL,
  GOAWAY_NONE,
  KEEPALIVE_PAYLOAD,
} from './connection-state.ts';
import { NO_ERROR, SETTINGS_TIMEOUT } from './error-code.ts';
import { DEFAULT_WINDOW_BYTES, FRAME_HEADER_BYTES, MAX_31_BITS } from './frame.ts';
import { FrameReader } from './frame-reader.ts';
import { fieldBytes, type HeaderField } from './header-field.ts';
import { Http2Error, type Http2ErrorCode, invalidInput } from './http2-error.ts';
import { InboundFrames } from './inbound-frames.ts';
import { KEEPALIVE_DEAD, KEEPALIVE_PING } from './keepalive.ts';
import { checkHeaders, checkValue } from './message-head.ts';
import { type Http2Options, type Http2Role, resolveHttp2Options } from './options.ts';
import { ownSettings } from './settings.ts';
import type { Http2Sink } from './sink.ts';
import { Http2Stream } from './stream.ts';

const METHOD_CONNECT: HeaderField = [':method', 'CONNECT'];

/**
 * One HTTP/2 connection without I/O (RFC 9113): the driver gives it the bytes it read and the time, and sends what it
 * writes. `C` is the type of the driver's own object on each stream.
 *
 * Calls about a stream that is already closed do nothing: the driver was told. Wrong calls throw {@link Http2Error} or an
 * `InvalidInputError` and change nothing. What the peer does never throws; it arrives at the sink.
 */
export class Http2Connection<C> {
  readonly #state: ConnectionState<C>;
  readonly #reader: FrameReader;

  /** Throws `ERR_HTTP2_INVALID` for an option out of range. Nothing is written before {@link start}. */
  constructor(role: Http2Role, sink: Http2Sink<C>, options?: Http2Options) {
    const resolved = resolveHttp2Options(role, options);
    this.#state = new ConnectionState(role, sink, resolved);
    this.#reader = new FrameReader(role, resolved, new InboundFrames(this.#state));
  }

  get role(): Http2Role {
    return this.#state.role;
  }

  /** True from the moment before `onClosed`. */
  get closed(): boolean {
    return this.#state.closed;
  }

  /** Streams that are open in at least one direction. */
  get activeStreams(): number {
    return this.#state.streams.size;
  }

  /** Streams the peer takes at once: `assumedPeerMaxStreams` before its SETTINGS, Infinity where it sets no limit. */
  get peerMaxStreams(): number {
    const { peer, peerSettingsSeen, options } = this.#state;
    return peerSettingsSeen ? peer.maxConcurrentStreams : options.assumedPeerMaxStreams;
  }

  /** Client: whether {@link open} would succeed now. */
  get canOpen(): boolean {
    return this.#whyNotOpen() === undefined;
  }

  /** True after GOAWAY of either side: streams finish, and no new ones are opened. */
  get goingAway(): boolean {
    return this.#state.peerGoaway || this.#state.goaway !== GOAWAY_NONE;
  }

  /** Writes the preface (client), SETTINGS, and the WINDOW_UPDATE of the connection. Call it once, before {@link receive}. */
  start(nowMs: number): void {
    const state = this.#state;
    if (state.started) throw failure('ERR_HTTP2_STATE', 'http2.start', 'the connection is already started');
    state.started = true;
    state.startedMs = nowMs;
    state.flood.start(nowMs);
    state.keepalive.start(nowMs);
    if (state.role === 'client') state.writer.preface();
    state.writer.settings(ownSettings(state.role, state.options));
    state.creditConnection(state.options.connectionWindowBytes - DEFAULT_WINDOW_BYTES);
    this.flush();
  }

  /**
   * Reads `buffer[start, end)`, cut anywhere, and calls the sink. Nothing of the buffer is kept. What is to be answered
   * waits for {@link flush}.
   */
  receive(buffer: Buffer, start: number, end: number): void {
    const state = this.#state;
    if (state.closed) return;
    if (!state.started) throw failure('ERR_HTTP2_STATE', 'http2.receive', 'the connection is not started');
    state.keepalive.heard();
    this.#reader.read(buffer, start, end);
    state.endIfDrained();
  }

  /**
   * Client: opens a stream by CONNECT to `authority`. Throws where {@link canOpen} is false, with a `code` that says why,
   * `ERR_HTTP2_HEADERS_TOO_LARGE` for more than the peer takes, `ERR_HTTP2_INVALID` for a bad field.
   */
  open(authority: string, headers: readonly HeaderField[], context: C): Http2Stream<C> {
    const state = this.#state;
    const reason = this.#whyNotOpen();
    if (reason !== undefined) throw failure(reason, 'http2.open', OPEN_REASONS[reason]);
    if (authority === '') throw invalidInput('http2.open', 'authority', 'must not be empty');
    checkValue('http2.open', 'authority', authority);
    checkHeaders('http2.open', headers);
    const fields = [METHOD_CONNECT, [':authority', authority] as const, ...headers];
    this.#checkListSize('http2.open', fields);
    const stream = new Http2Stream<C>(state.nextId, context, state.peer.initialWindowBytes, state.streamReceiveWindow);
    state.nextId += 2;
    state.streams.set(stream.id, stream);
    state.writer.headers(stream.id, false, fields, state.encoder, state.peer.maxFrameBytes);
    return stream;
  }

  /** Server: the response head. Throws `ERR_HTTP2_STATE` when there has been one. */
  respond(stream: Http2Stream<C>, status: number, headers: readonly HeaderField[], endStream: boolean): void {
    const state = this.#state;
    if (state.closed || stream.closed) return;
    if (state.role !== 'server') throw failure('ERR_HTTP2_STATE', 'http2.respond', 'a client does not respond');
    if (stream.answered) throw failure('ERR_HTTP2_STATE', 'http2.respond', `stream ${stream.id} has its response`);
    if (!Number.isInteger(status) || status < 200 || status > 999) {
      throw invalidInput('http2.respond', 'status', 'must be a whole number from 200 to 999');
    }
    checkHeaders('http2.respond', headers);
    const fields = [[':status', String(status)] as const, ...headers];
    this.#checkListSize('http2.respond', fields);
    stream.answered = true;
    state.writer.headers(stream.id, endStream, fields, state.encoder, state.peer.maxFrameBytes);
    if (endStream) this.#endLocal(stream);
  }

  /**
   * Bytes of DATA that {@link sendData} takes now: the least of the stream's window, the connection's window and the peer's
   * frame size. 0 for a stream that can send no more, and where there is no window; in the latter case `onWritable` follows.
   */
  capacity(stream: Http2Stream<C>): number {
    const state = this.#state;
    if (!this.#sendable(stream)) return 0;
    const bytes = Math.min(stream.sendWindow, state.sendWindow, state.peer.maxFrameBytes);
    if (bytes > 0) return bytes;
    state.wait(stream);
    return 0;
  }

  /**
   * Sends `buffer[start, end)` as one DATA frame. The NINE BYTES BEFORE `start` are overwritten with the frame header, so
   * that one `write` takes both. Throws `ERR_HTTP2_CAPACITY` for more than {@link capacity}, `ERR_HTTP2_STATE` after the
   * end of the stream or before the response.
   */
  sendData(stream: Http2Stream<C>, buffer: Buffer, start: number, end: number, endStream: boolean): void {
    const state = this.#state;
    if (state.closed || stream.closed) return;
    this.#checkSendable('http2.sendData', stream);
    const bytes = end - start;
    if (bytes > Math.min(stream.sendWindow, state.sendWindow, state.peer.maxFrameBytes) && bytes > 0) {
      throw failure(
        'ERR_HTTP2_CAPACITY',
        'http2.sendData',
        `${bytes} bytes are more than stream ${stream.id} may send`,
      );
    }
    if (bytes < 0 || start < FRAME_HEADER_BYTES || end > buffer.length) {
      throw invalidInput(
        'http2.sendData',
        'start',
        'must leave nine bytes before it and lie in the buffer, before end',
      );
    }
    stream.sendWindow -= bytes;
    state.sendWindow -= bytes;
    state.flood.windowUpdates.earn(bytes >>> 10);
    state.writer.data(stream.id, endStream, buffer, start, end);
    if (endStream) this.#endLocal(stream);
  }

  /** Ends our direction by an empty DATA frame with END_STREAM. */
  endStream(stream: Http2Stream<C>): void {
    const state = this.#state;
    if (state.closed || stream.closed) return;
    this.#checkSendable('http2.endStream', stream);
    state.writer.endStream(stream.id);
    this.#endLocal(stream);
  }

  /**
   * Ends a stream at once by RST_STREAM. No event follows for it; frames of the peer that are under way are let pass. What
   * the driver holds unconsumed of it counts no longer, so drop it.
   */
  reset(stream: Http2Stream<C>, errorCode: number): void {
    const state = this.#state;
    if (state.closed || stream.closed) return;
    state.abort(stream);
    state.rst(stream.id, errorCode);
  }

  /**
   * Reports bytes of `onData` as dealt with, so that the peer may send more: stream credit goes out at half a window. Also
   * legal after the stream has closed; more than was received counts as all of it.
   */
  consume(stream: Http2Stream<C>, bytes: number): void {
    const state = this.#state;
    if (state.closed) return;
    const taken = Math.min(bytes, stream.unconsumed);
    if (taken <= 0) return;
    stream.unconsumed -= taken;
    state.creditConnection(state.receiveWindow.consumed(taken));
    state.creditStream(stream, taken);
  }

  /**
   * Says that we take no new streams; those that are open go on, and `onClosed` follows the last of them. A server with
   * NO_ERROR announces it first and names the real last stream after a round trip (RFC 9113 section 6.8), so that no
   * request is lost. `debug` is for people: 128 latin1 characters at most.
   */
  goaway(errorCode: number, debug?: string): void {
    const state = this.#state;
    if (state.closed || state.goaway === GOAWAY_FINAL) return;
    if (state.role === 'server' && errorCode === NO_ERROR) {
      if (state.goaway === GOAWAY_ANNOUNCED) return;
      state.goaway = GOAWAY_ANNOUNCED;
      state.writer.goaway(MAX_31_BITS, NO_ERROR, debug);
      state.writer.ping(false, DRAIN_PAYLOAD, 0);
      return;
    }
    state.goaway = GOAWAY_FINAL;
    state.writer.goaway(state.highestPeerId, errorCode, debug);
  }

  /** GOAWAY with that code, and the end: `onClosed(undefined)` is called before this returns. */
  close(errorCode: number = NO_ERROR): void {
    const state = this.#state;
    if (state.closed) return;
    if (state.started) state.writer.goaway(state.highestPeerId, errorCode);
    state.end(undefined);
  }

  /** {@link close} with NO_ERROR. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /** Lets time pass: keepalive, flood budgets, the wait for SETTINGS. Call it about once a second; it flushes. */
  tick(nowMs: number): void {
    const state = this.#state;
    if (state.closed || !state.started) return;
    state.flood.tick(nowMs);
    if (
      !(state.peerSettingsSeen && state.ownSettingsAcked) &&
      nowMs - state.startedMs >= state.options.settingsTimeoutMs
    ) {
      const message = `no SETTINGS or no acknowledgement of ours in ${state.options.settingsTimeoutMs} ms`;
      state.fail(failure('ERR_HTTP2_SETTINGS_TIMEOUT', 'http2.tick', message, SETTINGS_TIMEOUT));
      return;
    }
    switch (state.keepalive.tick(nowMs)) {
      case KEEPALIVE_PING:
        state.writer.ping(false, KEEPALIVE_PAYLOAD, 0);
        break;
      case KEEPALIVE_DEAD: {
        const message = `no answer to PING in ${state.options.keepaliveTimeoutMs} ms`;
        state.fail(failure('ERR_HTTP2_KEEPALIVE_TIMEOUT', 'http2.tick', message));
        return;
      }
    }
    this.flush();
  }

  /**
   * Writes the control frames collected so far. Call it after each {@link receive} and after each burst of calls. Also ends
   * a connection that is going away and has no stream left.
   */
  flush(): void {
    this.#state.writer.flush();
    this.#state.endIfDrained();
  }

  #whyNotOpen(): OpenReason | undefined {
    const state = this.#state;
    if (state.closed) return 'ERR_HTTP2_CLOSED';
    if (state.role !== 'client' || !state.started) return 'ERR_HTTP2_STATE';
    if (this.goingAway) return 'ERR_HTTP2_GOING_AWAY';
    if (state.nextId > MAX_31_BITS) return 'ERR_HTTP2_STREAM_IDS_EXHAUSTED';
    if (state.streams.size >= this.peerMaxStreams) return 'ERR_HTTP2_TOO_MANY_STREAMS';
    return undefined;
  }

  #checkListSize(op: string, fields: readonly HeaderField[]): void {
    let bytes = 0;
    for (const [name, value] of fields) bytes += fieldBytes(name, value);
    const most = this.#state.peer.maxHeaderListBytes;
    if (bytes > most) {
      throw failure('ERR_HTTP2_HEADERS_TOO_LARGE', op, `a header list of ${bytes} bytes, and the peer takes ${most}`);
    }
  }

  #sendable(stream: Http2Stream<C>): boolean {
    const state = this.#state;
    return !(state.closed || stream.closed || stream.localEnded || (state.role === 'server' && !stream.answered));
  }

  #checkSendable(op: string, stream: Http2Stream<C>): void {
    if (this.#sendable(stream)) return;
    const reason = stream.localEnded ? 'has ended' : 'has no response yet';
    throw failure('ERR_HTTP2_STATE', op, `stream ${stream.id} ${reason}`);
  }

  #endLocal(stream: Http2Stream<C>): void {
    stream.localEnded = true;
    stream.waiting = false;
    this.#state.closeIfEnded(stream);
  }
}

const OPEN_REASONS = {
  ERR_HTTP2_CLOSED: 'the connection is closed',
  ERR_HTTP2_STATE: 'only a started client opens streams',
  ERR_HTTP2_GOING_AWAY: 'the connection is going away',
  ERR_HTTP2_STREAM_IDS_EXHAUSTED: 'the stream ids of this connection are used up',
  ERR_HTTP2_TOO_MANY_STREAMS: 'the peer takes no more streams at once',
} as const;

type OpenReason = keyof typeof OPEN_REASONS;

function failure(code: Http2ErrorCode, op: string, message: string, errorCode?: number): Http2Error {
  return new Http2Error(code, op, message, errorCode);
}
