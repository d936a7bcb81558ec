import { Duplex } from 'node:stream';
import { CANCEL, CONNECT_ERROR, errorCodeName, type HeaderField, type Http2Stream, NO_ERROR } from '../http2/index.ts';
import type { WorkloadIdentity } from '../identity/index.ts';
import { HboneError } from './hbone-error.ts';
import type { HboneStream } from './hbone-stream.ts';
import type { Tunnel } from './tunnel.ts';
import { UnreadBytes } from './unread-bytes.ts';

/** Who decides what becomes of a stream before it is in the hands of its user. */
export interface StreamFate {
  /** Client: the answer. Call {@link TunnelStream.open}, or `destroy` it. */
  onAnswer(stream: TunnelStream, status: number, headers: readonly HeaderField[]): void;
  /** It failed unopened. It is destroyed already, and says nothing about it itself. */
  onFailed(stream: TunnelStream, error: HboneError): void;
}

/** Pieces of less are collected while the reader has something to read already. */
const SMALL_BYTES = 1024;

/**
 * One CONNECT stream as a Duplex. Exists from the CONNECT on, and reaches its user when that is answered by 200: until then
 * it must not emit anything, since nobody listens.
 */
export class TunnelStream extends Duplex implements HboneStream {
  readonly authority: string;
  readonly peer: WorkloadIdentity;
  headers: readonly HeaderField[];
  bytesRead = 0;
  bytesWritten = 0;
  /** Waits in the tunnel's list for room in its output. */
  waitsForRoom = false;
  readonly #tunnel: Tunnel;
  /** Undefined once it is open. */
  #fate: StreamFate | undefined;
  #http2: Http2Stream<TunnelStream> | undefined;
  readonly #unread = new UnreadBytes();
  /** The Readable has asked for bytes and was not told yet to stop. */
  #wanted = false;
  /** The last `read()` gave nothing: the next bytes are waited for. */
  #starved = false;
  #remoteEnded = false;
  #eofPushed = false;
  /** The peer takes no more (RST_STREAM NO_ERROR after its own end): what is written goes nowhere. */
  #unheard = false;
  #chunk: Buffer | undefined;
  #chunkAt = 0;
  #written: ((error?: Error | null) => void) | undefined;

  constructor(
    tunnel: Tunnel,
    init: { authority: string; headers: readonly HeaderField[]; highWaterMarkBytes: number; fate: StreamFate },
  ) {
    super({ allowHalfOpen: true, highWaterMark: init.highWaterMarkBytes });
    this.#tunnel = tunnel;
    this.#fate = init.fate;
    this.authority = init.authority;
    this.headers = init.headers;
    this.peer = tunnel.peer;
  }

  get streamId(): number {
    return this.#http2?.id ?? 0;
  }

  // ---- for the tunnel and those who open streams ----

  bind(stream: Http2Stream<TunnelStream>): void {
    this.#http2 = stream;
  }

  get http2(): Http2Stream<TunnelStream> {
    return this.#http2!;
  }

  /** Its peer takes fewer streams than it says, or none any more: the tunnel has had its last one. */
  leaveTunnel(): void {
    this.#tunnel.drain();
  }

  /** From here on the user has it. */
  open(): void {
    this.#fate = undefined;
  }

  onAnswer(status: number, headers: readonly HeaderField[]): void {
    this.#fate?.onAnswer(this, status, headers);
  }

  onData(buffer: Buffer, start: number, end: number): void {
    if (this.destroyed) return;
    const bytes = end - start;
    this.bytesRead += bytes;
    const readable = this.readableLength === 0 || this.#starved || bytes >= SMALL_BYTES;
    if (this.#wanted && readable && this.#unread.length === 0) {
      this.#starved = false;
      this.#wanted = this.push(buffer.subarray(start, end));
      this.#credit();
      return;
    }
    this.#unread.append(buffer, start, end);
    this.#deliver();
  }

  onEnd(): void {
    this.#remoteEnded = true;
    this.#deliver();
  }

  onReset(errorCode: number): void {
    if (errorCode === NO_ERROR && this.#remoteEnded && this.#fate === undefined) {
      this.#stopWriting();
      return;
    }
    const message = `the peer reset the stream to ${this.authority} with ${errorCodeName(errorCode)}`;
    this.fail(new HboneError({ code: 'ERR_HBONE_STREAM_RESET', op: 'hbone.stream', message, errorCode }));
  }

  /** The window, or the tunnel's output, has room again. */
  onWritable(): void {
    this.#pump();
  }

  /** Ends it with that error, told to its user or, before there is one, to its {@link StreamFate}. */
  fail(error: HboneError): void {
    if (this.destroyed) return;
    const fate = this.#fate;
    if (fate === undefined) {
      // Our own side has closed everything: no news to whoever did, as with a socket that is destroyed.
      if (error.code === 'ERR_HBONE_CLOSED') this.destroy();
      // It may have been opened by the same bytes, and be on its way to whoever will listen: an error now would be nobody's.
      else if (this.listenerCount('error') === 0) setImmediate(destroyWith, this, error);
      else this.destroy(error);
      return;
    }
    this.destroy();
    fate.onFailed(this, error);
  }

  // ---- Duplex ----

  /** As Readable's. Whatever takes bytes out takes them here, so that the peer gets exactly their credit. */
  // biome-ignore lint/suspicious/noExplicitAny: the type that Node gives it.
  override read(size?: number): any {
    const taken = super.read(size);
    this.#starved = taken === null;
    this.#deliver();
    this.#credit();
    return taken;
  }

  override _read(): void {
    this.#wanted = true;
    this.#deliver();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.bytesWritten += chunk.length;
    if (this.#unheard || chunk.length === 0) {
      callback();
      return;
    }
    this.#chunk = chunk;
    this.#chunkAt = 0;
    this.#written = callback;
    this.#pump();
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#tunnel.endStream(this);
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const stream = this.#http2;
    if (stream !== undefined) {
      if (!stream.closed) this.#tunnel.reset(this, codeOf(error));
      this.#tunnel.consume(this, stream.unconsumed);
      this.#tunnel.forget(this);
    }
    this.#unread.clear();
    const written = this.#written;
    this.#chunk = undefined;
    this.#written = undefined;
    const message = 'the stream was destroyed before it was written';
    written?.(error ?? new HboneError({ code: 'ERR_HBONE_STREAM_CLOSED', op: 'hbone.stream', message }));
    callback(error);
  }

  /** Bytes that came before they were asked for, when they are. */
  #deliver(): void {
    while (this.#wanted && this.#unread.length > 0 && this.#worthAPush()) {
      this.#starved = false;
      this.#wanted = this.push(this.#unread.take());
    }
    if (!this.#remoteEnded || this.#eofPushed || this.#unread.length > 0) return;
    this.#eofPushed = true;
    this.push(null);
  }

  #worthAPush(): boolean {
    return this.readableLength === 0 || this.#starved || this.#remoteEnded || this.#unread.length >= SMALL_BYTES;
  }

  #credit(): void {
    const stream = this.#http2;
    if (stream === undefined) return;
    const taken = stream.unconsumed - this.#unread.length - this.readableLength;
    if (taken > 0) this.#tunnel.consume(this, taken);
  }

  #pump(): void {
    const chunk = this.#chunk;
    if (chunk === undefined) return;
    while (this.#chunkAt < chunk.length) {
      const sent = this.#tunnel.send(this, chunk, this.#chunkAt);
      if (sent === 0) return;
      this.#chunkAt += sent;
    }
    this.#finishWrite();
  }

  #finishWrite(): void {
    const written = this.#written;
    this.#chunk = undefined;
    this.#written = undefined;
    written?.();
  }

  /** As a TCP peer that has closed: what it sent is there to be read, and then the stream is over. */
  #stopWriting(): void {
    this.#unheard = true;
    this.#finishWrite();
    if (this.readableEnded) this.destroy();
    else this.once('end', () => this.destroy());
  }
}

function destroyWith(stream: TunnelStream, error: HboneError): void {
  stream.destroy(error);
}

/** RFC 9113 section 8.5: an error of the other connection is CONNECT_ERROR. What another stream was reset with goes on as it is. */
function codeOf(error: Error | null): number {
  if (error === null) return CANCEL;
  return error instanceof HboneError && error.errorCode !== undefined ? error.errorCode : CONNECT_ERROR;
}
