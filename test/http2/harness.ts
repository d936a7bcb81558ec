import { Http2Connection } from '../../src/http2/connection.ts';
import { errorCodeName } from '../../src/http2/error-code.ts';
import {
  CLIENT_PREFACE,
  FLAG_ACK,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADER_BYTES,
  FRAME_HEADERS,
  FRAME_PING,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  FRAME_WINDOW_UPDATE,
  writeFrameHeader,
} from '../../src/http2/frame.ts';
import { traceFrames } from '../../src/http2/frame-trace.ts';
import type { HeaderField } from '../../src/http2/header-field.ts';
import { HpackEncoder } from '../../src/http2/hpack/encoder.ts';
import type { Http2Error } from '../../src/http2/http2-error.ts';
import type { Http2Request } from '../../src/http2/message-head.ts';
import type { Http2Options, Http2Role } from '../../src/http2/options.ts';
import type { Http2Sink } from '../../src/http2/sink.ts';
import type { Http2Stream } from '../../src/http2/stream.ts';

export type Stream = Http2Stream<unknown>;

/** Writes down what a connection tells it. */
export class Recorder implements Http2Sink<unknown> {
  readonly events: string[] = [];
  readonly streams = new Map<number, Stream>();
  readonly requests: Http2Request[] = [];
  readonly received = new Map<number, Buffer[]>();
  written: Buffer[] = [];
  closedBy: Http2Error | undefined;
  /** Called after the event is written down. */
  hook: (event: string, stream: Stream | undefined) => void = () => {};

  #note(event: string, stream?: Stream): void {
    this.events.push(event);
    if (stream !== undefined) this.streams.set(stream.id, stream);
    this.hook(event, stream);
  }

  write(buffer: Buffer, start: number, end: number): void {
    this.written.push(Buffer.from(buffer.subarray(start, end)));
  }
  onRequest(stream: Stream, request: Http2Request, endStream: boolean): void {
    this.requests.push(request);
    this.#note(`request ${stream.id} ${request.method} ${request.authority}${endStream ? ' end' : ''}`, stream);
  }
  onResponse(stream: Stream, status: number, _headers: readonly HeaderField[], endStream: boolean): void {
    this.#note(`response ${stream.id} ${status}${endStream ? ' end' : ''}`, stream);
  }
  onData(stream: Stream, buffer: Buffer, start: number, end: number): void {
    const pieces = this.received.get(stream.id) ?? [];
    pieces.push(Buffer.from(buffer.subarray(start, end)));
    this.received.set(stream.id, pieces);
    this.#note(`data ${stream.id} ${end - start}`, stream);
  }
  onEnd(stream: Stream): void {
    this.#note(`end ${stream.id}`, stream);
  }
  onReset(stream: Stream, errorCode: number): void {
    this.#note(`reset ${stream.id} ${errorCodeName(errorCode)}`, stream);
  }
  onWritable(stream: Stream): void {
    this.#note(`writable ${stream.id}`, stream);
  }
  onGoaway(lastStreamId: number, errorCode: number): void {
    this.#note(`goaway ${lastStreamId} ${errorCodeName(errorCode)}`);
  }
  onSettings(): void {
    this.#note('settings');
  }
  onClosed(error: Http2Error | undefined): void {
    this.closedBy = error;
    this.#note(`closed ${error === undefined ? 'in order' : `${error.code} ${errorCodeName(error.errorCode)}`}`);
  }

  /** The frames written since the last call, as text. */
  frames(): string[] {
    return traceFrames(this.take());
  }

  take(): Buffer {
    const bytes = Buffer.concat(this.written);
    this.written = [];
    return bytes;
  }

  bytesOf(streamId: number): Buffer {
    return Buffer.concat(this.received.get(streamId) ?? []);
  }
}

export function frame(type: number, flags: number, streamId: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const out = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  writeFrameHeader(out, 0, payload.length, type, flags, streamId);
  payload.copy(out, FRAME_HEADER_BYTES);
  return out;
}

export function uint32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

export function settings(...pairs: [id: number, value: number][]): Buffer {
  const payload = Buffer.concat(pairs.map(([id, value]) => Buffer.concat([Buffer.from([id >> 8, id]), uint32(value)])));
  return frame(FRAME_SETTINGS, 0, 0, payload);
}
export const settingsAck = (): Buffer => frame(FRAME_SETTINGS, FLAG_ACK, 0);
export const windowUpdate = (id: number, increment: number): Buffer =>
  frame(FRAME_WINDOW_UPDATE, 0, id, uint32(increment));
export const rstStream = (id: number, code: number): Buffer => frame(FRAME_RST_STREAM, 0, id, uint32(code));
export const ping = (ack = false, text = '12345678'): Buffer =>
  frame(FRAME_PING, ack ? FLAG_ACK : 0, 0, Buffer.from(text, 'latin1'));
export const goaway = (last: number, code: number, debug = ''): Buffer =>
  frame(FRAME_GOAWAY, 0, 0, Buffer.concat([uint32(last), uint32(code), Buffer.from(debug, 'latin1')]));
export const data = (id: number, payload: string | Buffer, endStream = false): Buffer =>
  frame(FRAME_DATA, endStream ? FLAG_END_STREAM : 0, id, Buffer.from(payload as string));

/** A header block that uses no dynamic table, so that it fits anywhere in a connection. */
export function block(fields: readonly HeaderField[]): Buffer {
  const encoder = new HpackEncoder({ unindexed: fields.map(([name]) => name), huffman: false });
  const out = Buffer.alloc(encoder.bound(fields));
  return out.subarray(0, encoder.encode(fields, out, 0));
}

export function headers(id: number, fields: readonly HeaderField[], endStream = false): Buffer {
  return frame(FRAME_HEADERS, FLAG_END_HEADERS | (endStream ? FLAG_END_STREAM : 0), id, block(fields));
}

export const CONNECT: readonly HeaderField[] = [
  [':method', 'CONNECT'],
  [':authority', '10.0.0.1:80'],
];
export const connect = (id: number, endStream = false): Buffer => headers(id, CONNECT, endStream);

/** A connection, and the pen of the peer. */
export class Bench {
  readonly recorder = new Recorder();
  readonly connection: Http2Connection<unknown>;

  constructor(role: Http2Role, options?: Http2Options) {
    this.connection = new Http2Connection<unknown>(role, this.recorder, options);
  }

  /** Receives the frames, each in one piece, and flushes. */
  receive(...frames: Buffer[]): this {
    for (const bytes of frames) this.connection.receive(bytes, 0, bytes.length);
    this.connection.flush();
    return this;
  }

  /** The events and frames since the last call. */
  take(): { events: string[]; frames: string[] } {
    return { events: this.recorder.events.splice(0), frames: this.recorder.frames() };
  }

  stream(id: number): Stream {
    const stream = this.recorder.streams.get(id);
    if (stream === undefined) throw new Error(`no stream ${id} so far`);
    return stream;
  }
}

/** A server that has seen the preface, SETTINGS and the acknowledgement of its own. */
export function serverBench(options?: Http2Options, ...peerSettings: [number, number][]): Bench {
  const bench = new Bench('server', options);
  bench.connection.start(0);
  bench.receive(CLIENT_PREFACE, settings(...peerSettings), settingsAck());
  bench.take();
  return bench;
}

/** A client whose server has sent SETTINGS and the acknowledgement. */
export function clientBench(options?: Http2Options, ...peerSettings: [number, number][]): Bench {
  const bench = new Bench('client', options);
  bench.connection.start(0);
  bench.receive(settings(...peerSettings), settingsAck());
  bench.take();
  return bench;
}
