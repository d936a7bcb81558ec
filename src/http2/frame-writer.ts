import {
  CLIENT_PREFACE,
  FLAG_ACK,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADER_BYTES,
  FRAME_HEADERS,
  FRAME_PING,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  FRAME_WINDOW_UPDATE,
  writeFrameHeader,
  writeUint32,
} from './frame.ts';
import type { HeaderField } from './header-field.ts';
import type { HpackEncoder } from './hpack/encoder.ts';
import { SETTING_BYTES } from './settings.ts';

/** Where bytes go: consumed before `write` returns, since the buffer is used again. */
export interface ByteSink {
  write(buffer: Buffer, start: number, end: number): void;
}

const PING_BYTES = 8;

/**
 * Serializes frames. All but DATA are collected in one buffer that is allocated once, and written when {@link flush} is
 * called, when it is full, and before every DATA frame, so that frames leave in the order in which they were made.
 */
export class FrameWriter {
  readonly #sink: ByteSink;
  readonly #buffer: Buffer;
  #end = 0;

  constructor(sink: ByteSink, bufferBytes: number) {
    this.#sink = sink;
    this.#buffer = Buffer.allocUnsafeSlow(bufferBytes);
  }

  /** Bytes that wait for {@link flush}. */
  get pendingBytes(): number {
    return this.#end;
  }

  flush(): void {
    if (this.#end === 0) return;
    const end = this.#end;
    this.#end = 0;
    this.#sink.write(this.#buffer, 0, end);
  }

  preface(): void {
    const at = this.#reserve(CLIENT_PREFACE.length);
    CLIENT_PREFACE.copy(this.#buffer, at);
  }

  settings(settings: readonly (readonly [id: number, value: number])[]): void {
    let at = this.#frame(settings.length * SETTING_BYTES, FRAME_SETTINGS, 0, 0);
    for (const [id, value] of settings) {
      this.#buffer[at] = id >>> 8;
      this.#buffer[at + 1] = id;
      writeUint32(this.#buffer, at + 2, value);
      at += SETTING_BYTES;
    }
  }

  settingsAck(): void {
    this.#frame(0, FRAME_SETTINGS, FLAG_ACK, 0);
  }

  /** `payload` holds the eight opaque bytes at `start`. */
  ping(ack: boolean, payload: Buffer, start: number): void {
    const at = this.#frame(PING_BYTES, FRAME_PING, ack ? FLAG_ACK : 0, 0);
    payload.copy(this.#buffer, at, start, start + PING_BYTES);
  }

  windowUpdate(streamId: number, increment: number): void {
    writeUint32(this.#buffer, this.#frame(4, FRAME_WINDOW_UPDATE, 0, streamId), increment);
  }

  rstStream(streamId: number, errorCode: number): void {
    writeUint32(this.#buffer, this.#frame(4, FRAME_RST_STREAM, 0, streamId), errorCode);
  }

  /** `debug` is cut to 128 characters and sent as latin1. */
  goaway(lastStreamId: number, errorCode: number, debug = ''): void {
    const text = debug.slice(0, 128);
    const at = this.#frame(8 + text.length, FRAME_GOAWAY, 0, 0);
    writeUint32(this.#buffer, at, lastStreamId);
    writeUint32(this.#buffer, at + 4, errorCode);
    this.#buffer.write(text, at + 8, 'latin1');
  }

  /** One HEADERS frame, with CONTINUATION frames behind it where the block is larger than the peer's frames may be. */
  headers(
    streamId: number,
    endStream: boolean,
    fields: readonly HeaderField[],
    encoder: HpackEncoder,
    maxFrameBytes: number,
  ): void {
    const bound = encoder.bound(fields);
    if (bound > maxFrameBytes || bound + FRAME_HEADER_BYTES > this.#buffer.length) {
      this.#largeHeaders(streamId, endStream, encoder, fields, maxFrameBytes, bound);
      return;
    }
    const start = this.#reserve(FRAME_HEADER_BYTES + bound);
    const end = encoder.encode(fields, this.#buffer, start + FRAME_HEADER_BYTES);
    const flags = FLAG_END_HEADERS | (endStream ? FLAG_END_STREAM : 0);
    writeFrameHeader(this.#buffer, start, end - start - FRAME_HEADER_BYTES, FRAME_HEADERS, flags, streamId);
    this.#end = end;
  }

  /** DATA without a copy: the nine bytes before `start` are overwritten with the frame header. */
  data(streamId: number, endStream: boolean, buffer: Buffer, start: number, end: number): void {
    this.flush();
    const from = start - FRAME_HEADER_BYTES;
    writeFrameHeader(buffer, from, end - start, FRAME_DATA, endStream ? FLAG_END_STREAM : 0, streamId);
    this.#sink.write(buffer, from, end);
  }

  /** DATA with nothing but END_STREAM. */
  endStream(streamId: number): void {
    this.#frame(0, FRAME_DATA, FLAG_END_STREAM, streamId);
  }

  #largeHeaders(
    streamId: number,
    endStream: boolean,
    encoder: HpackEncoder,
    fields: readonly HeaderField[],
    maxFrameBytes: number,
    bound: number,
  ): void {
    this.flush();
    const block = Buffer.allocUnsafe(FRAME_HEADER_BYTES + bound);
    const end = encoder.encode(fields, block, FRAME_HEADER_BYTES);
    let type: number = FRAME_HEADERS;
    let flags = endStream ? FLAG_END_STREAM : 0;
    let at = FRAME_HEADER_BYTES;
    do {
      const stop = Math.min(end, at + maxFrameBytes);
      if (stop === end) flags |= FLAG_END_HEADERS;
      // Each header overwrites the last bytes of the fragment before it, which are written by then.
      writeFrameHeader(block, at - FRAME_HEADER_BYTES, stop - at, type, flags, streamId);
      this.#sink.write(block, at - FRAME_HEADER_BYTES, stop);
      type = FRAME_CONTINUATION;
      flags = 0;
      at = stop;
    } while (at < end);
  }

  /** Starts a frame of known length; gives the offset of its payload. */
  #frame(length: number, type: number, flags: number, streamId: number): number {
    const at = this.#reserve(FRAME_HEADER_BYTES + length);
    writeFrameHeader(this.#buffer, at, length, type, flags, streamId);
    return at + FRAME_HEADER_BYTES;
  }

  #reserve(bytes: number): number {
    if (this.#end + bytes > this.#buffer.length) this.flush();
    const at = this.#end;
    this.#end = at + bytes;
    return at;
  }
}
