import { FRAME_SIZE_ERROR, NO_ERROR, PROTOCOL_ERROR } from './error-code.ts';
import {
  CLIENT_PREFACE,
  FLAG_ACK,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FLAG_PADDED,
  FLAG_PRIORITY,
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADER_BYTES,
  FRAME_HEADERS,
  FRAME_PING,
  FRAME_PRIORITY,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  FRAME_WINDOW_UPDATE,
  readUint31,
  readUint32,
} from './frame.ts';
import {
  BAD_PREFACE,
  BLOCK_INTERRUPTED,
  BLOCK_TOO_LARGE,
  FRAME_TOO_LARGE,
  type FrameFault,
  frameFault,
  NO_BLOCK,
  NOT_SETTINGS_FIRST,
  PADDING_TOO_LONG,
  PRIORITY_CUT_OFF,
  TOO_MANY_CONTINUATIONS,
  TOO_MANY_SETTINGS,
} from './frame-rules.ts';
import type { Http2Role, ResolvedHttp2Options } from './options.ts';
import { SETTING_BYTES } from './settings.ts';

/** What a {@link FrameReader} finds. Frames arrive checked as far as they can be without knowing any stream. */
export interface FrameHandler {
  /** True stops the reader inside a chunk. */
  readonly stopped: boolean;
  /** A DATA frame begins; `length` is its whole payload, padding included, as flow control counts it. */
  onDataFrame(streamId: number, length: number, endStream: boolean): void;
  /** Payload of the current DATA frame as it arrives, padding left out. */
  onDataPiece(buffer: Buffer, start: number, end: number): void;
  onDataFrameEnd(): void;
  /** A complete header block, from HEADERS and its CONTINUATION frames. */
  onHeaderBlock(
    streamId: number,
    endStream: boolean,
    dependsOnItself: boolean,
    buffer: Buffer,
    start: number,
    end: number,
  ): void;
  /** `errorCode` is NO_ERROR, or that of the stream error which a malformed one is. */
  onPriority(streamId: number, errorCode: number): void;
  onRstStream(streamId: number, errorCode: number): void;
  onSettings(buffer: Buffer, start: number, end: number): void;
  onSettingsAck(): void;
  onPing(ack: boolean, buffer: Buffer, start: number): void;
  onGoaway(lastStreamId: number, errorCode: number, buffer: Buffer, debugStart: number, debugEnd: number): void;
  onWindowUpdate(streamId: number, increment: number): void;
  onUnknownFrame(type: number): void;
  /** A connection error (RFC 9113 section 5.4.1). */
  onViolation(errorCode: number, message: string): void;
}

const READ_PREFACE = 0;
const READ_HEADER = 1;
const READ_PAYLOAD = 2;
const READ_PAD_LENGTH = 3;
const READ_DATA = 4;
const SKIP = 5;

// Debug data of GOAWAY beyond this is skipped.
const MAX_GOAWAY_BYTES = 8 + 256;
const SMALL_FRAME_BYTES = 64;

/**
 * Cuts a byte stream into frames, whatever the pieces it comes in. DATA is handed on as it arrives and never collected;
 * other frames are read in place where a chunk holds them whole, and collected otherwise.
 */
export class FrameReader {
  readonly #handler: FrameHandler;
  readonly #maxFrameBytes: number;
  readonly #maxSettingsBytes: number;
  readonly #maxBlockBytes: number;
  readonly #maxContinuationFrames: number;

  #state: number;
  #prefaceRead = 0;
  #settingsSeen = false;
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  #headerRead = 0;
  #length = 0;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  /** Bytes of the state that are still to come: of the payload to collect, of DATA, to skip. */
  #left = 0;
  /** Bytes to skip when the state is done: padding of DATA, debug data of GOAWAY. */
  #skipAfter = 0;
  readonly #small = Buffer.allocUnsafeSlow(SMALL_FRAME_BYTES);
  #partial: Buffer = this.#small;
  #partialRead = 0;
  /** The header block under construction; id 0 for none. */
  #blockStreamId = 0;
  #blockEndStream = false;
  #blockDependsOnItself = false;
  #blockFrames = 0;
  #blockBytes = 0;
  #block: Buffer | undefined;

  constructor(role: Http2Role, options: ResolvedHttp2Options, handler: FrameHandler) {
    this.#handler = handler;
    this.#state = role === 'server' ? READ_PREFACE : READ_HEADER;
    this.#maxFrameBytes = options.maxFrameBytes;
    this.#maxSettingsBytes = options.maxSettingsEntries * SETTING_BYTES;
    this.#maxBlockBytes = options.maxHeaderListBytes * 2;
    this.#maxContinuationFrames = options.maxContinuationFrames;
  }

  /** Reads `buffer[start, end)`. Nothing of it is kept. */
  read(buffer: Buffer, start: number, end: number): void {
    const handler = this.#handler;
    let at = start;
    while (at < end && !handler.stopped) {
      switch (this.#state) {
        case READ_HEADER:
          at = this.#readHeader(buffer, at, end);
          break;
        case READ_DATA: {
          const stop = Math.min(end, at + this.#left);
          this.#left -= stop - at;
          handler.onDataPiece(buffer, at, stop);
          at = stop;
          if (this.#left === 0) this.#skip();
          break;
        }
        case READ_PAYLOAD:
          at = this.#readPayload(buffer, at, end);
          break;
        case READ_PAD_LENGTH:
          this.#readPadLength(buffer[at++]!);
          break;
        case SKIP: {
          const stop = Math.min(end, at + this.#left);
          this.#left -= stop - at;
          at = stop;
          if (this.#left === 0) this.#frameDone();
          break;
        }
        default:
          at = this.#readPreface(buffer, at, end);
      }
    }
  }

  #readPreface(buffer: Buffer, start: number, end: number): number {
    let at = start;
    while (at < end && this.#prefaceRead < CLIENT_PREFACE.length) {
      if (buffer[at++] !== CLIENT_PREFACE[this.#prefaceRead++]) {
        this.#violate(BAD_PREFACE);
        return end;
      }
    }
    if (this.#prefaceRead === CLIENT_PREFACE.length) this.#state = READ_HEADER;
    return at;
  }

  #readHeader(buffer: Buffer, start: number, end: number): number {
    if (this.#headerRead === 0 && end - start >= FRAME_HEADER_BYTES) {
      this.#begin(buffer, start);
      return start + FRAME_HEADER_BYTES;
    }
    const stop = Math.min(end, start + FRAME_HEADER_BYTES - this.#headerRead);
    buffer.copy(this.#header, this.#headerRead, start, stop);
    this.#headerRead += stop - start;
    if (this.#headerRead === FRAME_HEADER_BYTES) {
      this.#headerRead = 0;
      this.#begin(this.#header, 0);
    }
    return stop;
  }

  #begin(header: Buffer, at: number): void {
    const length = (header[at]! << 16) | (header[at + 1]! << 8) | header[at + 2]!;
    const type = header[at + 3]!;
    const flags = header[at + 4]!;
    const streamId = readUint31(header, at + 5);
    this.#length = length;
    this.#type = type;
    this.#flags = flags;
    this.#streamId = streamId;
    this.#skipAfter = 0;

    const fault = this.#fault(type, flags, length, streamId);
    if (fault !== undefined) {
      this.#violate(fault);
      return;
    }
    if (type === FRAME_DATA) this.#beginData();
    else if (type > FRAME_CONTINUATION || (type === FRAME_PRIORITY && length !== 5)) {
      // PRIORITY of a wrong size is an error of its stream only, so that its payload may have any length here.
      this.#skipAfter = length;
      this.#skip();
    } else {
      if (type === FRAME_GOAWAY) this.#skipAfter = Math.max(0, length - MAX_GOAWAY_BYTES);
      this.#collect(length - this.#skipAfter);
    }
  }

  #fault(type: number, flags: number, length: number, streamId: number): FrameFault | undefined {
    if (!this.#settingsSeen) {
      // RFC 9113 section 3.4: the first frame of either side is SETTINGS, and not an acknowledgement.
      if (type !== FRAME_SETTINGS || (flags & FLAG_ACK) !== 0) return NOT_SETTINGS_FIRST;
      this.#settingsSeen = true;
    }
    if (length > this.#maxFrameBytes) return FRAME_TOO_LARGE;
    if (this.#blockStreamId !== 0) {
      if (type !== FRAME_CONTINUATION || streamId !== this.#blockStreamId) return BLOCK_INTERRUPTED;
      if (++this.#blockFrames > this.#maxContinuationFrames) return TOO_MANY_CONTINUATIONS;
      if (this.#blockBytes + length > this.#maxBlockBytes) return BLOCK_TOO_LARGE;
    } else if (type === FRAME_CONTINUATION) return NO_BLOCK;
    if (type === FRAME_HEADERS && length > this.#maxBlockBytes) return BLOCK_TOO_LARGE;
    if (type === FRAME_SETTINGS && length > this.#maxSettingsBytes) return TOO_MANY_SETTINGS;
    return frameFault(type, flags, length, streamId);
  }

  #beginData(): void {
    this.#handler.onDataFrame(this.#streamId, this.#length, (this.#flags & FLAG_END_STREAM) !== 0);
    this.#left = this.#length;
    if ((this.#flags & FLAG_PADDED) !== 0) this.#state = READ_PAD_LENGTH;
    else if (this.#length > 0) this.#state = READ_DATA;
    else this.#frameDone();
  }

  #readPadLength(padding: number): void {
    const data = this.#length - 1 - padding;
    if (data < 0) {
      this.#violate(PADDING_TOO_LONG);
      return;
    }
    this.#skipAfter = padding;
    this.#left = data;
    if (data > 0) this.#state = READ_DATA;
    else this.#skip();
  }

  #collect(length: number): void {
    this.#left = length;
    this.#partialRead = 0;
    this.#state = READ_PAYLOAD;
    if (length === 0) {
      this.#dispatch(this.#small, 0, 0);
      this.#skip();
    }
  }

  #readPayload(buffer: Buffer, start: number, end: number): number {
    if (this.#partialRead === 0 && end - start >= this.#left) {
      const stop = start + this.#left;
      this.#dispatch(buffer, start, stop);
      this.#skip();
      return stop;
    }
    if (this.#partialRead === 0 && this.#left > SMALL_FRAME_BYTES) this.#partial = Buffer.allocUnsafe(this.#left);
    const stop = Math.min(end, start + this.#left);
    buffer.copy(this.#partial, this.#partialRead, start, stop);
    this.#partialRead += stop - start;
    this.#left -= stop - start;
    if (this.#left === 0) {
      const partial = this.#partial;
      this.#partial = this.#small;
      this.#dispatch(partial, 0, this.#partialRead);
      this.#skip();
    }
    return stop;
  }

  /** What is left of the frame is skipped; then it is done. */
  #skip(): void {
    this.#left = this.#skipAfter;
    if (this.#left === 0) this.#frameDone();
    else this.#state = SKIP;
  }

  #frameDone(): void {
    this.#state = READ_HEADER;
    if (this.#handler.stopped) return;
    if (this.#type === FRAME_DATA) this.#handler.onDataFrameEnd();
    else if (this.#type === FRAME_PRIORITY && this.#length !== 5)
      this.#handler.onPriority(this.#streamId, FRAME_SIZE_ERROR);
    else if (this.#type > FRAME_CONTINUATION) this.#handler.onUnknownFrame(this.#type);
  }

  #dispatch(buffer: Buffer, start: number, end: number): void {
    const handler = this.#handler;
    switch (this.#type) {
      case FRAME_HEADERS:
        this.#headersFrame(buffer, start, end);
        break;
      case FRAME_CONTINUATION:
        this.#fragment(buffer, start, end);
        break;
      case FRAME_PRIORITY:
        handler.onPriority(this.#streamId, readUint31(buffer, start) === this.#streamId ? PROTOCOL_ERROR : NO_ERROR);
        break;
      case FRAME_RST_STREAM:
        handler.onRstStream(this.#streamId, readUint32(buffer, start));
        break;
      case FRAME_SETTINGS:
        if ((this.#flags & FLAG_ACK) !== 0) handler.onSettingsAck();
        else handler.onSettings(buffer, start, end);
        break;
      case FRAME_PING:
        handler.onPing((this.#flags & FLAG_ACK) !== 0, buffer, start);
        break;
      case FRAME_GOAWAY:
        handler.onGoaway(readUint31(buffer, start), readUint32(buffer, start + 4), buffer, start + 8, end);
        break;
      case FRAME_WINDOW_UPDATE:
        handler.onWindowUpdate(this.#streamId, readUint31(buffer, start));
        break;
    }
  }

  #headersFrame(buffer: Buffer, start: number, end: number): void {
    let from = start;
    let to = end;
    if ((this.#flags & FLAG_PADDED) !== 0) to -= buffer[from++]!;
    this.#blockDependsOnItself = false;
    if ((this.#flags & FLAG_PRIORITY) !== 0) {
      if (end - from < 5) {
        this.#violate(PRIORITY_CUT_OFF);
        return;
      }
      this.#blockDependsOnItself = readUint31(buffer, from) === this.#streamId;
      from += 5;
    }
    if (from > to) {
      this.#violate(PADDING_TOO_LONG);
      return;
    }
    this.#blockStreamId = this.#streamId;
    this.#blockEndStream = (this.#flags & FLAG_END_STREAM) !== 0;
    this.#blockFrames = 0;
    this.#blockBytes = 0;
    this.#fragment(buffer, from, to);
  }

  #fragment(buffer: Buffer, start: number, end: number): void {
    const last = (this.#flags & FLAG_END_HEADERS) !== 0;
    if (last && this.#blockBytes === 0) {
      this.#blockDone(buffer, start, end);
      return;
    }
    const bytes = this.#blockBytes + end - start;
    if (this.#block === undefined || bytes > this.#block.length) {
      const grown = Buffer.allocUnsafe(Math.min(this.#maxBlockBytes, Math.max(1024, bytes * 2)));
      this.#block?.copy(grown, 0, 0, this.#blockBytes);
      this.#block = grown;
    }
    buffer.copy(this.#block, this.#blockBytes, start, end);
    this.#blockBytes = bytes;
    if (last) this.#blockDone(this.#block, 0, bytes);
  }

  #blockDone(buffer: Buffer, start: number, end: number): void {
    const streamId = this.#blockStreamId;
    this.#blockStreamId = 0;
    this.#block = undefined;
    this.#handler.onHeaderBlock(streamId, this.#blockEndStream, this.#blockDependsOnItself, buffer, start, end);
  }

  #violate(fault: FrameFault): void {
    this.#handler.onViolation(fault.errorCode, fault.message);
  }
}
