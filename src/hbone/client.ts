import { InvalidInputError } from '../errors/index.ts';
import { parseSpiffeId, type SpiffeId } from '../identity/index.ts';
import { parseAuthority } from './authority.ts';
import { type HboneClientOptions, type ResolvedClientOptions, resolveClientOptions } from './client-options.ts';
import { type MeshHeaders, meshHeaderFields } from './connect-headers.ts';
import type { Credentials } from './credentials.ts';
import { withDeadline } from './deadline.ts';
import { type Destination, resolveDestination } from './destination.ts';
import { HboneError, invalidInput } from './hbone-error.ts';
import type { HboneStream } from './hbone-stream.ts';
import { PendingConnect } from './pending-connect.ts';
import { TunnelPool, type TunnelRoute } from './tunnel-pool.ts';

/** One connection to be made through a tunnel. */
export interface ConnectOptions extends MeshHeaders {
  /** Where it leads to: `10.0.0.9:80`, `[fd00::9]:80`, or, for a gateway or waypoint that resolves it, `httpbin.default:80`. */
  readonly authority: string;
  /** SPIFFE ids: the other end of the tunnel must be one of them (facts section 1.6). */
  readonly peerIdentity: string | readonly string[];
  /** The other end of the tunnel. Default: the authority's host, port 15008. */
  readonly destination?: Partial<Destination> | undefined;
  /** Who we are on this one. Default: the client's. */
  readonly credentials?: Credentials | undefined;
  /** Gives it up: the CONNECT that is under way is reset at once. Without effect on a stream that was given. */
  readonly signal?: AbortSignal | undefined;
}

const op = 'hbone.connect';

/**
 * The outbound side of HBONE: connections through a pool of mutual TLS tunnels, shared by destination and identities. Owns its
 * tunnels; whoever made it closes it. It keeps the process alive as long as it has a tunnel, as any socket does.
 */
export class HboneClient implements AsyncDisposable {
  readonly #options: ResolvedClientOptions;
  readonly #pool: TunnelPool;
  /** Credentials are one identity each: in a pool's key, the object stands for it. */
  readonly #identities = new WeakMap<object, number>();
  #nextIdentity = 0;
  #closed = false;

  /** @throws {InvalidInputError} `ERR_HBONE_INVALID`, `ERR_HTTP2_INVALID`; `field` is `options.<name>` */
  constructor(options: HboneClientOptions) {
    this.#options = resolveClientOptions('hbone.client', options);
    this.#pool = new TunnelPool(this.#options);
  }

  /** Tunnels that stand, with and without streams. */
  get tunnelCount(): number {
    return this.#pool.tunnelCount;
  }

  /**
   * Opens a stream: over a tunnel that stands, or over a new one.
   *
   * @returns the stream after the answer 200, owned by the caller
   * @throws {InvalidInputError} `ERR_HBONE_INVALID` with `field`: nothing was done
   * @throws {HboneError} `ERR_HBONE_CREDENTIALS`, `ERR_HBONE_CONNECT`, `ERR_HBONE_TLS`, `ERR_HBONE_PEER`: no tunnel to be had;
   *   `ERR_HBONE_REFUSED` with `status`; `ERR_HBONE_STREAM_RESET` with `errorCode`; `ERR_HBONE_TUNNEL_LOST`;
   *   `ERR_HBONE_TIMEOUT`; `ERR_HBONE_TOO_MANY`; `ERR_HBONE_CLOSED`
   * @throws {Http2Error} `ERR_HTTP2_HEADERS_TOO_LARGE`: more than the server takes
   * @throws `signal.reason`
   */
  async connect(options: ConnectOptions): Promise<HboneStream> {
    const route = this.#routeOf(options);
    const { clock, answerTimeoutMs } = this.#options;
    const headers = meshHeaderFields(op, options);
    options.signal?.throwIfAborted();
    const connect = new PendingConnect({
      authority: options.authority,
      headers,
      signal: options.signal,
      clock,
      timeoutMs: answerTimeoutMs,
      onUnprocessed: (again) => this.#pool.resubmit(route, again),
      onLeft: (gone) => this.#pool.withdraw(route, gone),
    });
    this.#pool.submit(route, connect);
    return connect.promise;
  }

  /**
   * Takes no new connections, lets those that are open end, and then closes. What is still open after `drainTimeoutMs`, or
   * when `signal` is aborted, is cut.
   */
  async drain(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (this.#closed) return;
    const { drainTimeoutMs, clock } = this.#options;
    await withDeadline({
      op: 'hbone.drain',
      what: 'the drain',
      timeoutMs: drainTimeoutMs,
      clock,
      signal: options.signal,
      run: () => this.#pool.drain(closed('the client is draining')),
    }).catch(() => {});
    await this.close();
  }

  /** Cuts every tunnel: its streams are destroyed, without an `error`. `connect` fails from here on. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#pool.close(closed('the client is closed'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #routeOf(options: ConnectOptions): TunnelRoute {
    const authority = typeof options.authority === 'string' ? parseAuthority(options.authority) : undefined;
    if (authority === undefined) throw invalidInput(op, 'authority', 'must be ip:port, [ipv6]:port or name:port');
    const destination = resolveDestination(op, options.destination, authority);
    const peers = peerIds(options.peerIdentity);
    const credentials = options.credentials ?? this.#options.credentials;
    const { host, port, localAddress = '' } = destination;
    const key = [this.#identityOf(credentials), host, port, localAddress, ...peers].join(' ');
    return { key, destination, credentials, peers };
  }

  #identityOf(credentials: Credentials): number {
    let number = this.#identities.get(credentials);
    if (number === undefined) {
      number = this.#nextIdentity++;
      this.#identities.set(credentials, number);
    }
    return number;
  }
}

function peerIds(given: string | readonly string[]): SpiffeId[] {
  const texts = typeof given === 'string' ? [given] : given;
  if (!Array.isArray(texts) || texts.length === 0) {
    throw invalidInput(op, 'peerIdentity', 'must name whom to expect at the other end');
  }
  return texts.map((text, index) => {
    try {
      return parseSpiffeId(text).id;
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error;
      throw invalidInput(op, typeof given === 'string' ? 'peerIdentity' : `peerIdentity[${index}]`, error.message);
    }
  });
}

function closed(message: string): HboneError {
  return new HboneError({ code: 'ERR_HBONE_CLOSED', op: 'hbone.client', message });
}
