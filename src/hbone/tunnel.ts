import type { TLSSocket } from 'node:tls';
import {
  CANCEL,
  ENHANCE_YOUR_CALM,
  type HeaderField,
  Http2Connection,
  type Http2Error,
  type Http2Request,
  type Http2Role,
  type Http2Sink,
  type Http2Stream,
  INTERNAL_ERROR,
  NO_ERROR,
} from '../http2/index.ts';
import type { WorkloadIdentity } from '../identity/index.ts';
import { HboneError } from './hbone-error.ts';
import { OutputBuffer } from './output-buffer.ts';
import type { ResolvedTunnelOptions } from './tunnel-options.ts';
import type { TunnelStream } from './tunnel-stream.ts';

/** Who made the tunnel, and hears of it. */
export interface TunnelOwner {
  /** Server: a request. Take it by {@link Tunnel.adopt} or answer it by {@link Tunnel.refuse}, before this returns. */
  onRequest(tunnel: Tunnel, stream: Http2Stream<TunnelStream>, request: Http2Request, endStream: boolean): void;
  /** A stream ended, the peer's SETTINGS came, or it is going away: how many streams may be opened has changed. */
  onCapacity(tunnel: Tunnel): void;
  /** It takes no more streams, and its streams have been told. Once, last. `error` is undefined after a wanted end. */
  onClosed(tunnel: Tunnel, error: HboneError | undefined): void;
}

const TICK_MS = 1000;
/** How long a connection that is over may take to send its last words. */
const LINGER_MS = 2000;
/** What one stream sends before the others that wait get their turn. */
const TURN_BYTES = 64 << 10;

/**
 * One TLS connection with HTTP/2 on it and CONNECT streams inside, either end of HBONE (facts section 1). Drives an
 * `Http2Connection` over a TLS socket, which it owns.
 */
export class Tunnel implements Http2Sink<TunnelStream> {
  readonly peer: WorkloadIdentity;
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly #socket: TLSSocket;
  readonly #owner: TunnelOwner;
  readonly #options: ResolvedTunnelOptions;
  readonly #http2: Http2Connection<TunnelStream>;
  readonly #output: OutputBuffer;
  readonly #streams = new Set<TunnelStream>();
  #waiters: TunnelStream[] = [];
  #ready = false;
  #closed = false;
  #receiving = false;
  #flushScheduled = false;
  /** Waiting streams are being served, each up to a share. */
  #serving = false;
  #turnLeft = 0;
  #reason: HboneError | undefined;
  #ticker: unknown;

  constructor(
    role: Http2Role,
    socket: TLSSocket,
    peer: WorkloadIdentity,
    owner: TunnelOwner,
    options: ResolvedTunnelOptions,
  ) {
    this.peer = peer;
    this.remoteAddress = socket.remoteAddress;
    this.remotePort = socket.remotePort;
    this.#socket = socket;
    this.#owner = owner;
    this.#options = options;
    this.#output = new OutputBuffer(socket, options.sendBufferBytes, () => this.#onRoom());
    this.#http2 = new Http2Connection(role, this, options.http2);
    socket.on('data', (chunk: Buffer) => this.#onChunk(chunk));
    socket.on('end', () => this.#lost('the peer closed the tunnel'));
    socket.on('error', (error) => this.#lost(`the tunnel broke: ${error.message}`, error));
    socket.on('close', () => this.#lost('the tunnel was closed'));
    this.#http2.start(options.clock.now());
    this.#output.flush();
    this.#arm();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The peer's SETTINGS have come, and with them the number of streams it takes. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Streams that are open in at least one direction. */
  get activeStreams(): number {
    return this.#http2.activeStreams;
  }

  /** Client: may {@link open} be called now? */
  get canOpen(): boolean {
    return !this.#closed && this.#http2.canOpen;
  }

  /** Whatever happens to it from here on, new streams go elsewhere. */
  get goingAway(): boolean {
    return this.#closed || this.#http2.goingAway;
  }

  /**
   * Client: sends CONNECT for `stream`.
   *
   * @throws {Http2Error} where {@link canOpen} is false, and for headers that the peer does not take; nothing was sent then
   */
  open(stream: TunnelStream, headers: readonly HeaderField[]): void {
    stream.bind(this.#http2.open(stream.authority, headers, stream));
    this.#streams.add(stream);
    this.#flushLater();
  }

  /** Server: `stream` is what becomes of this request. */
  adopt(stream: TunnelStream, http2: Http2Stream<TunnelStream>, endStream: boolean): void {
    http2.context = stream;
    stream.bind(http2);
    this.#streams.add(stream);
    if (endStream) stream.onEnd();
  }

  /** Server: answers 200. @throws {Http2Error} as `Http2Connection.respond` */
  accept(stream: TunnelStream, headers: readonly HeaderField[]): void {
    this.#http2.respond(stream.http2, 200, headers, false);
    this.#flushLater();
  }

  /** Server: answers with another status and ends our direction. The body, should there be one, is still read. */
  answer(stream: TunnelStream, status: number): void {
    try {
      this.#http2.respond(stream.http2, status, [], true);
    } catch {
      // It takes hardly any header: the reset says what can be said.
      this.#http2.reset(stream.http2, CANCEL);
    }
    this.#flushLater();
  }

  /** Server: answers with another status, and ends the stream. */
  refuse(http2: Http2Stream<TunnelStream>, status: number, headers: readonly HeaderField[]): void {
    try {
      this.#http2.respond(http2, status, headers, true);
      // RFC 9113 section 8.1: an early answer, then RST_STREAM(NO_ERROR) tells the client to stop sending.
      if (!http2.closed) this.#http2.reset(http2, NO_ERROR);
    } catch {
      // It takes hardly any header: the reset says what can be said.
      this.#http2.reset(http2, CANCEL);
    }
    this.#flushLater();
  }

  /** Asks the peer for no more streams; the tunnel closes after its last one (facts section 1.11). */
  drain(): void {
    if (this.#closed) return;
    this.#http2.goaway(NO_ERROR);
    this.#flushLater();
  }

  /** Ends it now, GOAWAY first. Its streams fail with `reason`. */
  close(reason: HboneError, errorCode: number = NO_ERROR): void {
    if (this.#closed) return;
    this.#reason = reason;
    this.#http2.close(errorCode);
  }

  // ---- for its streams ----

  /**
   * Sends as much of `chunk[at…)` as may go now. 0: nothing, and `stream.onWritable` follows when something may.
   */
  send(stream: TunnelStream, chunk: Buffer, at: number): number {
    if (this.#closed) return 0;
    const room = this.#output.payloadRoom;
    const mayGo = this.#serving ? this.#turnLeft > 0 : this.#waiters.length === 0;
    if (room === 0 || !mayGo) {
      this.#waitForRoom(stream);
      return 0;
    }
    const bytes = Math.min(this.#http2.capacity(stream.http2), room, chunk.length - at);
    if (bytes === 0) return 0;
    this.#turnLeft -= bytes;
    this.#http2.flush();
    const start = this.#output.place(chunk, at, at + bytes);
    this.#http2.sendData(stream.http2, this.#output.buffer, start, start + bytes, false);
    this.#flushLater();
    return bytes;
  }

  endStream(stream: TunnelStream): void {
    if (this.#closed || stream.http2.localEnded) return;
    this.#http2.endStream(stream.http2);
    this.#flushLater();
    this.#settle(stream);
  }

  reset(stream: TunnelStream, errorCode: number): void {
    if (this.#closed) return;
    this.#http2.reset(stream.http2, errorCode);
    this.#flushLater();
  }

  /** Bytes that the reader of a stream has taken. */
  consume(stream: TunnelStream, bytes: number): void {
    if (this.#closed || bytes === 0) return;
    this.#http2.consume(stream.http2, bytes);
    this.#flushLater();
  }

  forget(stream: TunnelStream): void {
    if (this.#streams.delete(stream) && !this.#closed) this.#owner.onCapacity(this);
  }

  #waitForRoom(stream: TunnelStream): void {
    if (stream.waitsForRoom) return;
    stream.waitsForRoom = true;
    this.#waiters.push(stream);
    this.#flushLater();
  }

  /** A stream that has ended on both sides no longer depends on the tunnel, whatever its reader still has to read. */
  #settle(stream: TunnelStream): void {
    if (stream.http2.closed) this.forget(stream);
  }

  // ---- bytes ----

  #onChunk(chunk: Buffer): void {
    if (this.#closed) return;
    this.#receiving = true;
    try {
      this.#http2.receive(chunk, 0, chunk.length);
    } catch (error) {
      // Only a listener of our user's can have thrown: in the middle of a frame, so that nothing after it could be read.
      this.#receiving = false;
      const message = 'a listener threw while bytes were delivered to it';
      const reason = new HboneError({ code: 'ERR_HBONE_TUNNEL_LOST', op: 'hbone.tunnel', message, cause: error });
      this.close(reason, INTERNAL_ERROR);
      throw error;
    }
    this.#receiving = false;
    this.#flush();
  }

  #flushLater(): void {
    if (this.#flushScheduled || this.#receiving || this.#closed) return;
    this.#flushScheduled = true;
    process.nextTick(flushScheduled, this);
  }

  flushScheduled(): void {
    this.#flushScheduled = false;
    if (!this.#closed) this.#flush();
  }

  #flush(): void {
    this.#http2.flush();
    if (this.#closed) return;
    this.#output.flush();
    const { sendBufferBytes, controlBufferBytes } = this.#options;
    if (this.#output.pendingBytes <= sendBufferBytes + controlBufferBytes) return;
    const message = 'the peer asks for answers and does not read them';
    this.close(new HboneError({ code: 'ERR_HBONE_OUTPUT_FULL', op: 'hbone.tunnel', message }), ENHANCE_YOUR_CALM);
  }

  /** The socket has got rid of something. Who waits gets it in turn, each a share. */
  #onRoom(): void {
    if (this.#closed || this.#waiters.length === 0) return;
    if (this.#output.pendingBytes > this.#options.sendBufferBytes / 2) return;
    const waiters = this.#waiters;
    this.#serving = true;
    // One that has had its share waits anew, behind those who got nothing.
    for (let left = waiters.length; left > 0 && this.#output.payloadRoom > 0; left--) {
      const stream = waiters.shift();
      if (stream === undefined) break;
      stream.waitsForRoom = false;
      this.#turnLeft = TURN_BYTES;
      stream.onWritable();
    }
    this.#serving = false;
    this.#flushLater();
  }

  // ---- time ----

  #arm(): void {
    this.#ticker = this.#options.clock.setTimeout(() => this.#onTick(), TICK_MS);
  }

  #onTick(): void {
    this.#http2.tick(this.#options.clock.now());
    if (this.#closed) return;
    this.#output.flush();
    this.#arm();
  }

  // ---- the end ----

  #lost(message: string, cause?: Error): void {
    if (this.#closed) return;
    this.#reason = new HboneError({ code: 'ERR_HBONE_TUNNEL_LOST', op: 'hbone.tunnel', message, cause });
    this.#http2.close();
  }

  #end(error: HboneError | undefined): void {
    this.#closed = true;
    this.#options.clock.clearTimeout(this.#ticker);
    this.#waiters = [];
    if (!this.#socket.destroyed) {
      this.#output.flush();
      this.#socket.destroySoon();
      // Not the caller's clock: this is about a kernel that does not take the last bytes.
      const linger = setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
      this.#socket.once('close', () => clearTimeout(linger));
    }
    const message = 'the tunnel was closed';
    const reason = error ?? new HboneError({ code: 'ERR_HBONE_TUNNEL_LOST', op: 'hbone.tunnel', message });
    for (const stream of [...this.#streams]) stream.fail(reason);
    this.#streams.clear();
    this.#owner.onClosed(this, error);
  }

  // ---- Http2Sink ----

  write(buffer: Buffer, start: number, end: number): void {
    if (this.#closed) return;
    this.#output.append(buffer, start, end);
  }

  onRequest(stream: Http2Stream<TunnelStream>, request: Http2Request, endStream: boolean): void {
    this.#owner.onRequest(this, stream, request, endStream);
  }

  onResponse(stream: Http2Stream<TunnelStream>, status: number, headers: readonly HeaderField[], end: boolean): void {
    const { context } = stream;
    context.onAnswer(status, headers);
    if (end) this.onEnd(stream);
  }

  onData(stream: Http2Stream<TunnelStream>, buffer: Buffer, start: number, end: number): void {
    stream.context.onData(buffer, start, end);
  }

  onEnd(stream: Http2Stream<TunnelStream>): void {
    stream.context.onEnd();
    this.#settle(stream.context);
  }

  onReset(stream: Http2Stream<TunnelStream>, errorCode: number): void {
    stream.context.onReset(errorCode);
    this.forget(stream.context);
  }

  onWritable(stream: Http2Stream<TunnelStream>): void {
    stream.context.onWritable();
  }

  onGoaway(): void {
    this.#owner.onCapacity(this);
  }

  onSettings(): void {
    this.#ready = true;
    this.#owner.onCapacity(this);
  }

  onClosed(error: Http2Error | undefined): void {
    const { message } = error ?? {};
    this.#end(
      error === undefined
        ? this.#reason
        : new HboneError({ code: 'ERR_HBONE_TUNNEL_LOST', op: 'hbone.tunnel', message: `${message}`, cause: error }),
    );
  }
}

function flushScheduled(tunnel: Tunnel): void {
  tunnel.flushScheduled();
}
