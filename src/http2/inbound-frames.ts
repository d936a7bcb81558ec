import { type ConnectionState, DRAIN_PAYLOAD, GOAWAY_ANNOUNCED, GOAWAY_FINAL } from './connection-state.ts';
import {
  ENHANCE_YOUR_CALM,
  errorCodeName,
  FLOW_CONTROL_ERROR,
  NO_ERROR,
  PROTOCOL_ERROR,
  REFUSED_STREAM,
  STREAM_CLOSED,
} from './error-code.ts';
import { MAX_31_BITS } from './frame.ts';
import type { FrameHandler } from './frame-reader.ts';
import type { HeaderField } from './header-field.ts';
import { HpackDecoder } from './hpack/decoder.ts';
import { Http2Error } from './http2-error.ts';
import { BAD_CONTENT_LENGTH, contentLength, parseRequest, parseResponse, validTrailers } from './message-head.ts';
import { Http2Stream } from './stream.ts';

/** The receiving half: what each frame of the peer does to the streams, windows and settings of a connection. */
export class InboundFrames<C> implements FrameHandler {
  readonly #state: ConnectionState<C>;
  readonly #decoder: HpackDecoder;
  /** The stream of the current DATA frame; undefined where its payload is thrown away. */
  #dataStream: Http2Stream<C> | undefined;
  #dataFrameBytes = 0;
  #dataBytes = 0;
  #dataEndStream = false;

  constructor(state: ConnectionState<C>) {
    this.#state = state;
    // Until our SETTINGS are acknowledged the peer may use the RFC's table, or already ours.
    this.#decoder = new HpackDecoder(Math.max(4096, state.options.headerTableBytes), state.options.maxHeaderListBytes);
  }

  get stopped(): boolean {
    return this.#state.closed;
  }

  onDataFrame(streamId: number, length: number, endStream: boolean): void {
    const state = this.#state;
    this.#dataStream = undefined;
    if (!state.receiveWindow.take(length)) {
      state.violate(FLOW_CONTROL_ERROR, 'the peer overran the window of the connection');
      return;
    }
    state.creditConnection(state.receiveWindow.received(length));
    const stream = state.streams.get(streamId);
    if (stream === undefined) {
      this.#dataForNoStream(streamId, length);
      return;
    }
    if (stream.remoteEnded) {
      state.streamError(stream, STREAM_CLOSED);
      return;
    }
    if (state.role === 'client' && !stream.answered) {
      state.streamError(stream, PROTOCOL_ERROR);
      return;
    }
    stream.receiveWindow -= length;
    if (stream.receiveWindow < 0) {
      state.streamError(stream, FLOW_CONTROL_ERROR);
      return;
    }
    this.#dataStream = stream;
    this.#dataFrameBytes = length;
    this.#dataBytes = 0;
    this.#dataEndStream = endStream;
  }

  #dataForNoStream(streamId: number, length: number): void {
    const state = this.#state;
    if (state.isDiscarded(streamId)) {
      this.#ignoreEmpty(length);
      return;
    }
    if (state.isIdle(streamId)) {
      state.violate(PROTOCOL_ERROR, 'DATA on an idle stream');
      return;
    }
    if (state.resets.has(streamId)) {
      this.#ignoreEmpty(length);
      return;
    }
    state.refuse(streamId, STREAM_CLOSED);
  }

  /** DATA still under way to a stream that is gone pays with window for itself, except where it is empty. */
  #ignoreEmpty(length: number): void {
    if (length === 0) this.#ignored();
  }

  onDataPiece(buffer: Buffer, start: number, end: number): void {
    const stream = this.#dataStream;
    if (stream === undefined || stream.closed) return;
    const bytes = end - start;
    if (stream.contentLeft >= 0) {
      stream.contentLeft -= bytes;
      if (stream.contentLeft < 0) {
        this.#state.streamError(stream, PROTOCOL_ERROR);
        return;
      }
    }
    this.#dataBytes += bytes;
    stream.unconsumed += bytes;
    this.#state.receiveWindow.delivered(bytes);
    this.#state.sink.onData(stream, buffer, start, end);
  }

  onDataFrameEnd(): void {
    const stream = this.#dataStream;
    if (stream === undefined || stream.closed) return;
    this.#dataStream = undefined;
    const state = this.#state;
    if (this.#dataEndStream) {
      this.#remoteEnd(stream);
      return;
    }
    if (this.#dataBytes === 0 && !state.flood.emptyData.take()) {
      state.violate(ENHANCE_YOUR_CALM, 'too many empty DATA frames');
      return;
    }
    // Padding is nobody's to consume.
    if (this.#dataBytes < this.#dataFrameBytes) state.creditStream(stream, this.#dataFrameBytes - this.#dataBytes);
  }

  #remoteEnd(stream: Http2Stream<C>): void {
    // RFC 9113 section 8.1.1: content of another size than announced is malformed.
    if (stream.contentLeft > 0) {
      this.#state.streamError(stream, PROTOCOL_ERROR);
      return;
    }
    stream.remoteEnded = true;
    this.#state.closeIfEnded(stream);
    this.#state.sink.onEnd(stream);
  }

  onHeaderBlock(
    streamId: number,
    endStream: boolean,
    dependsOnItself: boolean,
    buffer: Buffer,
    start: number,
    end: number,
  ): void {
    const state = this.#state;
    let fields: HeaderField[];
    try {
      fields = this.#decoder.decode(buffer, start, end);
    } catch (error) {
      if (error instanceof Http2Error) {
        state.fail(error);
        return;
      }
      throw error;
    }
    const stream = state.streams.get(streamId);
    if (stream === undefined) {
      this.#headersForNoStream(streamId, endStream, dependsOnItself, fields);
      return;
    }
    if (stream.remoteEnded) {
      state.streamError(stream, STREAM_CLOSED);
      return;
    }
    if (dependsOnItself) {
      state.streamError(stream, PROTOCOL_ERROR);
      return;
    }
    if (this.#decoder.overflowed) {
      state.streamError(stream, ENHANCE_YOUR_CALM);
      return;
    }
    if (state.role === 'client' && !stream.answered) {
      this.#response(stream, fields, endStream);
      return;
    }
    if (!endStream || !validTrailers(fields)) {
      state.streamError(stream, PROTOCOL_ERROR);
      return;
    }
    this.#remoteEnd(stream);
  }

  #headersForNoStream(streamId: number, endStream: boolean, dependsOnItself: boolean, fields: HeaderField[]): void {
    const state = this.#state;
    if (state.isDiscarded(streamId)) {
      this.#ignored();
      return;
    }
    if (state.isIdle(streamId)) {
      if (state.role === 'client') {
        state.violate(PROTOCOL_ERROR, 'HEADERS on an idle stream');
        return;
      }
      if ((streamId & 1) === 0) {
        state.violate(PROTOCOL_ERROR, 'a client may not open a stream of even id');
        return;
      }
      this.#request(streamId, endStream, dependsOnItself, fields);
      return;
    }
    if (state.resets.has(streamId)) {
      this.#ignored();
      return;
    }
    // A client may have forgotten a reset of long ago; a server sees an id used twice.
    if (state.role === 'client') state.refuse(streamId, STREAM_CLOSED);
    else state.violate(STREAM_CLOSED, 'HEADERS on a closed stream');
  }

  #request(streamId: number, endStream: boolean, dependsOnItself: boolean, fields: HeaderField[]): void {
    const state = this.#state;
    state.highestPeerId = streamId;
    if (state.streams.size >= state.options.maxConcurrentStreams) {
      state.refuse(streamId, REFUSED_STREAM);
      return;
    }
    if (dependsOnItself) {
      state.refuse(streamId, PROTOCOL_ERROR);
      return;
    }
    if (this.#decoder.overflowed) {
      state.refuse(streamId, ENHANCE_YOUR_CALM);
      return;
    }
    const request = parseRequest(fields);
    if (request === undefined) {
      state.refuse(streamId, PROTOCOL_ERROR);
      return;
    }
    const stream = new Http2Stream<C>(
      streamId,
      undefined as C,
      state.peer.initialWindowBytes,
      state.streamReceiveWindow,
    );
    // A tunnel has no content to be measured (RFC 9110 section 9.3.6).
    if (request.method !== 'CONNECT') stream.contentLeft = contentLength(request.headers);
    if (stream.contentLeft === BAD_CONTENT_LENGTH || (endStream && stream.contentLeft > 0)) {
      state.refuse(streamId, PROTOCOL_ERROR);
      return;
    }
    stream.remoteEnded = endStream;
    state.streams.set(streamId, stream);
    state.sink.onRequest(stream, request, endStream);
  }

  #response(stream: Http2Stream<C>, fields: HeaderField[], endStream: boolean): void {
    const state = this.#state;
    const response = parseResponse(fields);
    if (response === undefined) {
      state.streamError(stream, PROTOCOL_ERROR);
      return;
    }
    if (response.status < 200) {
      // 101 has no meaning in HTTP/2, and an informational response ends nothing (RFC 9113 sections 8.1 and 8.6).
      if (endStream || response.status === 101) state.streamError(stream, PROTOCOL_ERROR);
      else if (!state.flood.ignored.take()) state.violate(ENHANCE_YOUR_CALM, 'too many informational responses');
      return;
    }
    if (response.status >= 300) stream.contentLeft = contentLength(response.headers);
    if (stream.contentLeft === BAD_CONTENT_LENGTH || (endStream && stream.contentLeft > 0)) {
      state.streamError(stream, PROTOCOL_ERROR);
      return;
    }
    stream.answered = true;
    if (endStream) {
      stream.remoteEnded = true;
      state.closeIfEnded(stream);
    }
    state.sink.onResponse(stream, response.status, response.headers, endStream);
  }

  onPriority(streamId: number, errorCode: number): void {
    const state = this.#state;
    const stream = state.streams.get(streamId);
    if (errorCode === NO_ERROR || state.isDiscarded(streamId) || state.resets.has(streamId)) this.#ignored();
    else if (stream !== undefined) state.streamError(stream, errorCode);
    // RST_STREAM on a stream that is idle would be our own violation.
    else if (state.isIdle(streamId)) state.violate(errorCode, 'malformed PRIORITY on an idle stream');
    else state.refuse(streamId, errorCode);
  }

  onRstStream(streamId: number, errorCode: number): void {
    const state = this.#state;
    const stream = state.streams.get(streamId);
    if (stream === undefined) {
      if (state.isIdle(streamId) && !state.isDiscarded(streamId)) {
        state.violate(PROTOCOL_ERROR, 'RST_STREAM on an idle stream');
        return;
      }
      this.#ignored();
      return;
    }
    const early = state.role === 'server' && !stream.answered;
    state.abort(stream);
    state.sink.onReset(stream, errorCode);
    if (early) state.countFailed();
  }

  onSettings(buffer: Buffer, start: number, end: number): void {
    const state = this.#state;
    if (!state.flood.settings.take()) {
      state.violate(ENHANCE_YOUR_CALM, 'too many SETTINGS frames');
      return;
    }
    const windowBefore = state.peer.initialWindowBytes;
    const errorCode = state.peer.apply(state.role, buffer, start, end);
    if (errorCode !== NO_ERROR) {
      state.violate(errorCode, 'SETTINGS with a value out of range');
      return;
    }
    state.encoder.setPeerTableBytes(state.peer.headerTableBytes);
    const delta = state.peer.initialWindowBytes - windowBefore;
    if (delta !== 0) {
      for (const stream of state.streams.values()) {
        stream.sendWindow += delta;
        if (stream.sendWindow > MAX_31_BITS) {
          state.violate(FLOW_CONTROL_ERROR, 'SETTINGS_INITIAL_WINDOW_SIZE overflows the window of a stream');
          return;
        }
        state.windowOpened(stream);
      }
    }
    state.peerSettingsSeen = true;
    state.writer.settingsAck();
    state.sink.onSettings();
    state.drainWritable();
  }

  onSettingsAck(): void {
    const state = this.#state;
    if (state.ownSettingsAcked) {
      this.#ignored();
      return;
    }
    state.ownSettingsAcked = true;
    this.#decoder.setMaxTableBytes(state.options.headerTableBytes);
    const delta = state.options.initialWindowBytes - state.streamReceiveWindow;
    if (delta === 0) return;
    state.streamReceiveWindow += delta;
    for (const stream of state.streams.values()) stream.receiveWindow += delta;
  }

  onPing(ack: boolean, buffer: Buffer, start: number): void {
    const state = this.#state;
    if (!state.flood.pings.take()) {
      state.violate(ENHANCE_YOUR_CALM, 'too many PING frames');
      return;
    }
    if (!ack) {
      state.writer.ping(true, buffer, start);
      return;
    }
    if (buffer[start] !== DRAIN_PAYLOAD[0]) {
      state.keepalive.answered();
      return;
    }
    if (state.goaway !== GOAWAY_ANNOUNCED) return;
    // The peer has read our announcement: what it opened before that is all it will open.
    state.goaway = GOAWAY_FINAL;
    state.writer.goaway(state.highestPeerId, NO_ERROR);
  }

  onGoaway(lastStreamId: number, errorCode: number, buffer: Buffer, debugStart: number, debugEnd: number): void {
    const state = this.#state;
    if (state.peerGoaway && lastStreamId > state.peerLastId) {
      state.violate(PROTOCOL_ERROR, 'the last stream id of GOAWAY grew');
      return;
    }
    if (!state.flood.ignored.take()) {
      state.violate(ENHANCE_YOUR_CALM, 'too many GOAWAY frames');
      return;
    }
    state.peerGoaway = true;
    state.peerLastId = lastStreamId;
    state.sink.onGoaway(lastStreamId, errorCode);
    if (state.role === 'client') {
      for (const stream of state.streams.values()) {
        if (stream.id <= lastStreamId || state.closed) continue;
        state.abort(stream);
        state.resets.add(stream.id);
        state.sink.onReset(stream, REFUSED_STREAM);
      }
    }
    if (errorCode === NO_ERROR) return;
    const debug = buffer.toString('latin1', debugStart, debugEnd).replace(/[^\x20-\x7e]/g, '?');
    const reason = debug === '' ? '' : ` (${debug})`;
    const message = `the peer ended the connection with ${errorCodeName(errorCode)}${reason}`;
    state.end(new Http2Error('ERR_HTTP2_PEER_GOAWAY', 'http2.receive', message, errorCode));
  }

  onWindowUpdate(streamId: number, increment: number): void {
    const state = this.#state;
    if (!state.flood.windowUpdates.take()) {
      state.violate(ENHANCE_YOUR_CALM, 'too many WINDOW_UPDATE frames');
      return;
    }
    if (streamId === 0) {
      this.#connectionWindow(increment);
      return;
    }
    const stream = state.streams.get(streamId);
    if (stream === undefined) {
      if (state.isDiscarded(streamId)) return;
      if (state.isIdle(streamId)) state.violate(PROTOCOL_ERROR, 'WINDOW_UPDATE on an idle stream');
      return;
    }
    if (increment === 0) {
      state.streamError(stream, PROTOCOL_ERROR);
      return;
    }
    stream.sendWindow += increment;
    if (stream.sendWindow > MAX_31_BITS) {
      state.streamError(stream, FLOW_CONTROL_ERROR);
      return;
    }
    state.windowOpened(stream);
    state.drainWritable();
  }

  #connectionWindow(increment: number): void {
    const state = this.#state;
    if (increment === 0) {
      state.violate(PROTOCOL_ERROR, 'WINDOW_UPDATE of 0 on the connection');
      return;
    }
    state.sendWindow += increment;
    if (state.sendWindow > MAX_31_BITS) {
      state.violate(FLOW_CONTROL_ERROR, 'the connection window overflows');
      return;
    }
    state.drainWritable();
  }

  onUnknownFrame(): void {
    this.#ignored();
  }

  onViolation(errorCode: number, message: string): void {
    this.#state.violate(errorCode, message);
  }

  #ignored(): void {
    if (!this.#state.flood.ignored.take()) this.#state.violate(ENHANCE_YOUR_CALM, 'too many frames without effect');
  }
}
