import type { HeaderField } from '../http2/index.ts';
import type { Clock, WorkloadIdentity } from '../identity/index.ts';
import type { Authority } from './authority.ts';
import { type Baggage, parseBaggage } from './baggage.ts';
import { type MeshHeaders, meshHeaderFields } from './connect-headers.ts';
import { parseForwarded } from './forwarded.ts';
import { HboneError, invalidInput } from './hbone-error.ts';
import type { HboneStream } from './hbone-stream.ts';
import { parseTraceParent, type TraceParent } from './traceparent.ts';
import type { Tunnel } from './tunnel.ts';
import type { StreamFate, TunnelStream } from './tunnel-stream.ts';

/** What goes with an answer. */
export type AnswerHeaders = Pick<MeshHeaders, 'baggage' | 'headers'>;

/**
 * A CONNECT that waits for its answer: {@link accept} or {@link reject}, once. Nothing has been decided about it but that its
 * client is whom `peer` says, and that its authority has a host and a port.
 */
export class HboneRequest {
  /** Whom the client's certificate names. */
  readonly peer: WorkloadIdentity;
  /** As sent: `10.0.0.9:80`. */
  readonly authority: string;
  /** The host and the port in it. */
  readonly host: string;
  readonly port: number;
  /** All header fields of the CONNECT, in the order of the wire. */
  readonly headers: readonly HeaderField[];
  /** Where the tunnel comes from; undefined where it is no TCP connection. For the source address, the port means nothing. */
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly #tunnel: Tunnel;
  readonly #stream: TunnelStream;
  readonly #clock: Clock;
  readonly #timer: unknown;
  #aborter: AbortController | undefined;
  #answered = false;
  #failure: HboneError | undefined;

  /** @internal Made by the server. */
  constructor(init: {
    tunnel: Tunnel;
    authority: string;
    target: Authority;
    headers: readonly HeaderField[];
    clock: Clock;
    timeoutMs: number;
    makeStream: (fate: StreamFate) => TunnelStream;
  }) {
    const { tunnel, target, clock } = init;
    this.peer = tunnel.peer;
    this.authority = init.authority;
    this.host = target.kind === 'address' ? target.ip : target.hostname;
    this.port = target.port;
    this.headers = init.headers;
    this.remoteAddress = tunnel.remoteAddress;
    this.remotePort = tunnel.remotePort;
    this.#tunnel = tunnel;
    this.#clock = clock;
    this.#stream = init.makeStream({
      // A server asks nothing.
      onAnswer: () => {},
      onFailed: (_stream, error) => this.#onGone(error),
    });
    // A listener that never answers would hold the stream for ever.
    this.#timer = clock.setTimeout(() => this.reject(503), init.timeoutMs);
  }

  /** The first header of that name (lower case). */
  header(name: string): string | undefined {
    return this.headers.find(([known]) => known === name)?.[1];
  }

  /** What the client tells of the workload it speaks for (facts section 1.4). For logs and metrics; it proves nothing. */
  get baggage(): Baggage {
    return parseBaggage(this.headers.filter(([name]) => name === 'baggage').map(([, value]) => value));
  }

  /** The service that the client meant (facts section 1.3). Proves nothing either. */
  get forwardedHost(): string | undefined {
    return parseForwarded(this.header('forwarded') ?? '');
  }

  get traceParent(): TraceParent | undefined {
    return parseTraceParent(this.header('traceparent') ?? '');
  }

  /** Aborted when the client gives it up before it is answered: what is being done for it can stop. */
  get signal(): AbortSignal {
    this.#aborter ??= new AbortController();
    if (this.#failure !== undefined) this.#aborter.abort(this.#failure);
    return this.#aborter.signal;
  }

  /** It has had its answer, or its client has gone. */
  get settled(): boolean {
    return this.#answered || this.#failure !== undefined;
  }

  /**
   * Answers 200: to be called when the upstream is connected (facts section 1.3). Where the client has gone, gives a stream
   * that is destroyed.
   *
   * @returns the stream, owned by the caller. What the client has sent already is in it.
   * @throws {HboneError} `ERR_HBONE_STATE` when it is answered already
   * @throws {InvalidInputError} `ERR_HBONE_INVALID` with `field`: nothing was sent
   */
  accept(answer: AnswerHeaders = {}): HboneStream {
    const fields = meshHeaderFields('hbone.accept', { baggage: answer.baggage, headers: answer.headers });
    this.#answer('hbone.accept');
    if (this.#failure !== undefined) return this.#stream;
    try {
      this.#tunnel.accept(this.#stream, fields);
      this.#stream.open();
    } catch {
      // A client that takes hardly any header (SETTINGS_MAX_HEADER_LIST_SIZE) harms its own stream only.
      this.#stream.destroy();
    }
    return this.#stream;
  }

  /**
   * Answers another status, and ends the stream: 400, 401 or 503 in Istio's usage (facts section 1.3).
   *
   * @throws {HboneError} `ERR_HBONE_STATE`
   * @throws {InvalidInputError} `ERR_HBONE_INVALID`
   */
  reject(status: number, answer: AnswerHeaders = {}): void {
    const op = 'hbone.reject';
    if (!Number.isInteger(status) || status < 300 || status > 599) {
      throw invalidInput(op, 'status', 'must be a whole number from 300 to 599');
    }
    const fields = meshHeaderFields(op, { baggage: answer.baggage, headers: answer.headers });
    this.#answer(op);
    if (this.#failure !== undefined) return;
    this.#tunnel.refuse(this.#stream.http2, status, fields);
    this.#stream.destroy();
  }

  /** The client, or its tunnel, has gone. */
  #onGone(error: HboneError): void {
    this.#failure = error;
    this.#clock.clearTimeout(this.#timer);
    this.#aborter?.abort(error);
  }

  #answer(op: string): void {
    if (this.#answered) {
      throw new HboneError({ code: 'ERR_HBONE_STATE', op, message: `CONNECT ${this.authority} is answered already` });
    }
    this.#answered = true;
    this.#clock.clearTimeout(this.#timer);
  }
}
