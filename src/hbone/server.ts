import { EventEmitter } from 'node:events';
import { type AddressInfo, createServer, type Server, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Http2Request, Http2Stream } from '../http2/index.ts';
import { parseSpiffeId, type WorkloadCertificate, type WorkloadIdentity } from '../identity/index.ts';
import { parseAuthority } from './authority.ts';
import { currentCertificate } from './credentials.ts';
import { withDeadline } from './deadline.ts';
import { HBONE_PORT } from './destination.ts';
import { HboneError } from './hbone-error.ts';
import { type Authenticated, authenticateClient } from './mutual-tls.ts';
import { HboneRequest } from './request.ts';
import { type HboneServerOptions, type ResolvedServerOptions, resolveServerOptions } from './server-options.ts';
import { Tunnel, type TunnelOwner } from './tunnel.ts';
import { type StreamFate, TunnelStream } from './tunnel-stream.ts';

/** What an {@link HboneServer} tells. */
export interface HboneServerEvents {
  /** A CONNECT, to be accepted or rejected. Without a listener each is answered 503. */
  tunnel: [request: HboneRequest];
  /** A client has proved who it is. */
  connection: [client: { peer: WorkloadIdentity; remoteAddress: string | undefined }];
  /** A connection did not become a tunnel: TLS failed, the client is not to be believed, too slow, or one too many. */
  refused: [error: unknown, client: { remoteAddress: string | undefined }];
  /** A tunnel has ended; `error` is undefined after an orderly end. */
  disconnection: [client: { peer: WorkloadIdentity; remoteAddress: string | undefined }, error: HboneError | undefined];
}

/** Where to listen. */
export interface ListenOptions {
  /** Default: every address. */
  readonly host?: string | undefined;
  /** Default 15008; 0 for one that the kernel chooses. */
  readonly port?: number | undefined;
  /** Connections that wait to be accepted. Default 511, as Node. */
  readonly backlog?: number | undefined;
  /** Closes the server, at any time. */
  readonly signal?: AbortSignal | undefined;
}

const op = 'hbone.accept';

/**
 * The inbound side of HBONE: mutual TLS in, CONNECT requests out. Owns the connections it has accepted or was given; whoever
 * made it closes it.
 */
export class HboneServer extends EventEmitter<HboneServerEvents> implements AsyncDisposable {
  readonly #options: ResolvedServerOptions;
  readonly #listeners = new Set<Server>();
  readonly #handshakes = new Set<AbortController>();
  readonly #tunnels = new Set<Tunnel>();
  readonly #owner: TunnelOwner = {
    onRequest: (...args) => this.#onRequest(...args),
    // A server opens nothing.
    onCapacity: ignore,
    onClosed: (tunnel, error) => this.#onTunnelClosed(tunnel, error),
  };
  #draining = false;
  #closed = false;
  #onEmpty: (() => void) | undefined;

  /** @throws {InvalidInputError} `ERR_HBONE_INVALID`, `ERR_HTTP2_INVALID`; `field` is `options.<name>` */
  constructor(options: HboneServerOptions) {
    super();
    this.#options = resolveServerOptions('hbone.server', options);
  }

  /** Tunnels that stand. */
  get tunnelCount(): number {
    return this.#tunnels.size;
  }

  /**
   * Listens on an address; on several by several calls.
   *
   * @returns where it listens
   * @throws {HboneError} `ERR_HBONE_LISTEN` with the system's error as `cause`; `ERR_HBONE_CLOSED`; `signal.reason`
   */
  async listen(options: ListenOptions = {}): Promise<AddressInfo> {
    const { host, port = HBONE_PORT, backlog, signal } = options;
    signal?.throwIfAborted();
    this.#checkOpen('hbone.listen');
    const listener = createServer({
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 180_000,
      pauseOnConnect: true,
    });
    this.#listeners.add(listener);
    try {
      await new Promise<void>((resolve, reject) => {
        listener.once('error', reject);
        listener.listen({ host, port, backlog }, resolve);
      });
    } catch (cause) {
      this.#listeners.delete(listener);
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new HboneError({ code: 'ERR_HBONE_LISTEN', op: 'hbone.listen', message, cause });
    }
    // An accept that fails (EMFILE) is the next one's chance.
    listener.on('error', () => {});
    listener.on('connection', (socket) => this.accept(socket));
    const close = () => void this.close();
    signal?.addEventListener('abort', close, { once: true });
    listener.once('close', () => signal?.removeEventListener('abort', close));
    if (this.#closed || this.#draining) listener.close();
    return listener.address() as AddressInfo;
  }

  /**
   * Takes a connection that somebody else has accepted: by `listen` of `ambient-kit/socket`, or a stream of an outer tunnel. Nothing of it
   * may have been read. The server owns it from here on.
   */
  accept(raw: Duplex): void {
    const remoteAddress = raw instanceof Socket ? raw.remoteAddress : undefined;
    if (this.#closed || this.#draining) {
      raw.on('error', ignore).destroy();
      return;
    }
    if (this.#handshakes.size + this.#tunnels.size >= this.#options.maxConnections) {
      raw.on('error', ignore).destroy();
      const message = `${this.#options.maxConnections} connections are there already (maxConnections)`;
      this.emit('refused', new HboneError({ code: 'ERR_HBONE_TOO_MANY', op, message }), { remoteAddress });
      return;
    }
    const controller = new AbortController();
    this.#handshakes.add(controller);
    // Until TLS listens to it; also one that was taken and reset at once.
    raw.on('error', ignore);
    this.#authenticate(raw, controller.signal).then(
      (authenticated) => {
        this.#handshakes.delete(controller);
        this.#begin(authenticated, remoteAddress);
      },
      (error: unknown) => {
        this.#handshakes.delete(controller);
        raw.destroy();
        if (!this.#closed) this.emit('refused', error, { remoteAddress });
      },
    );
  }

  /**
   * Listens no more, tells its clients to go elsewhere, and lets open streams end (facts section 1.11). What is still open after
   * `drainTimeoutMs`, or when `signal` is aborted, is cut.
   */
  async drain(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (this.#closed) return;
    this.#draining = true;
    for (const listener of this.#listeners) listener.close();
    for (const tunnel of [...this.#tunnels]) tunnel.drain();
    const { drainTimeoutMs, clock } = this.#options;
    const run = async () => {
      if (this.#tunnels.size > 0) {
        await new Promise<void>((resolve) => {
          this.#onEmpty = resolve;
        });
      }
    };
    const what = 'the drain';
    const { signal } = options;
    await withDeadline({ op: 'hbone.drain', what, timeoutMs: drainTimeoutMs, clock, signal, run }).catch(ignore);
    await this.close();
  }

  /** Listens no more and cuts every tunnel: its streams are destroyed, without an `error`. Resolves when the ports are free. */
  async close(): Promise<void> {
    this.#closed = true;
    const reason = new HboneError({ code: 'ERR_HBONE_CLOSED', op: 'hbone.server', message: 'the server is closed' });
    for (const handshake of this.#handshakes) handshake.abort(reason);
    for (const tunnel of [...this.#tunnels]) tunnel.close(reason);
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    await Promise.all(listeners.map((listener) => new Promise<void>((resolve) => listener.close(() => resolve()))));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #authenticate(raw: Duplex, signal: AbortSignal): Promise<Authenticated> {
    const { credentials, handshakeTimeoutMs, clock } = this.#options;
    return withDeadline({
      op,
      what: 'the TLS handshake',
      timeoutMs: handshakeTimeoutMs,
      clock,
      signal,
      run: async (inner) => {
        const certificate = await currentCertificate(op, credentials, inner);
        const expected = this.#options.peers ?? { trustDomain: trustDomainOf(certificate) };
        return authenticateClient(raw, certificate, expected, inner);
      },
      release: (late) => late.socket.destroy(),
    });
  }

  #begin({ socket, peer }: Authenticated, remoteAddress: string | undefined): void {
    const tunnel = new Tunnel('server', socket, peer, this.#owner, this.#options);
    if (tunnel.closed) return;
    this.#tunnels.add(tunnel);
    if (this.#draining) tunnel.drain();
    this.emit('connection', { peer, remoteAddress });
  }

  #onRequest(tunnel: Tunnel, stream: Http2Stream<TunnelStream>, request: Http2Request, endStream: boolean): void {
    // Facts section 1.3: another method, and an authority without a port, are 400.
    if (request.method !== 'CONNECT') return this.#decline(tunnel, stream, 400, endStream);
    const target = parseAuthority(request.authority ?? '');
    if (target === undefined) return tunnel.refuse(stream, 400, []);
    if (this.listenerCount('tunnel') === 0) return tunnel.refuse(stream, 503, []);
    const { clock, answerTimeoutMs, streamBufferBytes } = this.#options;
    const authority = request.authority!;
    const { headers } = request;
    const asked = new HboneRequest({
      tunnel,
      authority,
      target,
      headers,
      clock,
      timeoutMs: answerTimeoutMs,
      makeStream: (fate) => {
        const made = new TunnelStream(tunnel, { authority, headers, highWaterMarkBytes: streamBufferBytes, fate });
        tunnel.adopt(made, stream, endStream);
        return made;
      },
    });
    // Not from within the parser: what a listener throws is the program's, and no reason to break the tunnel.
    process.nextTick(emitTunnel, this, asked);
  }

  /** Answers a request that has a body, and reads that to its end: until then its sender has mistakes to be told of. */
  #decline(tunnel: Tunnel, stream: Http2Stream<TunnelStream>, status: number, endStream: boolean): void {
    if (endStream) return tunnel.refuse(stream, status, []);
    const { clock, answerTimeoutMs, streamBufferBytes } = this.#options;
    const fate: StreamFate = { onAnswer: ignore, onFailed: ignore };
    const body = new TunnelStream(tunnel, { authority: '', headers: [], highWaterMarkBytes: streamBufferBytes, fate });
    tunnel.adopt(body, stream, false);
    tunnel.answer(body, status);
    const timer = clock.setTimeout(() => body.destroy(), answerTimeoutMs);
    body.once('close', () => clock.clearTimeout(timer)).end();
    body.resume();
  }

  #onTunnelClosed(tunnel: Tunnel, error: HboneError | undefined): void {
    if (!this.#tunnels.delete(tunnel)) return;
    this.emit('disconnection', { peer: tunnel.peer, remoteAddress: tunnel.remoteAddress }, error);
    if (this.#tunnels.size === 0) this.#onEmpty?.();
  }

  #checkOpen(where: string): void {
    if (!this.#closed && !this.#draining) return;
    throw new HboneError({ code: 'ERR_HBONE_CLOSED', op: where, message: 'the server is closed' });
  }
}

function emitTunnel(server: HboneServer, request: HboneRequest): void {
  if (!request.settled) server.emit('tunnel', request);
}

function trustDomainOf(certificate: WorkloadCertificate): string {
  return parseSpiffeId(certificate.identity).trustDomain;
}

function ignore(): void {}
