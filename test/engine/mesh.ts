import {
  EngineMemory,
  HboneTunnel,
  Reactor,
  type StreamLimits,
  type StreamObserver,
  TcpListener,
  TlsContext,
  type TunnelInit,
  type TunnelLimits,
  type TunnelRoute,
  TunnelStream,
} from '../../src/engine/index.ts';
import type { Http2Options, Http2Request, Http2Stream } from '../../src/http2/index.ts';
import { openConnecting, openListener } from '../../src/socket/index.ts';
import { libc } from '../../src/system/index.ts';
import { authority, credentials, HTTPBIN, ofTrustDomain, SLEEP } from './credentials.ts';
import { localPort, receiveNow, tcpPair } from './sockets.ts';
import { turnUntil } from './turning.ts';

const ca = await authority('test mesh');
export const sleepCredentials = await credentials(ca, SLEEP);
export const httpbinCredentials = await credentials(ca, HTTPBIN);
export const verifier = ofTrustDomain('cluster.local');

/** One CONNECT stream's end: what became of it, and the application on its TCP side. */
export class Joined implements StreamObserver {
  readonly stream: TunnelStream;
  /** The application's end of the TCP connection. */
  readonly app: number;
  readonly events: string[] = [];
  closed: string | undefined | false = false;
  /** Called last thing in each event, to do mischief. */
  react: (event: string) => void = () => {};
  readonly #mesh: Mesh;

  constructor(mesh: Mesh, options: { smallBuffers?: boolean } = {}) {
    this.#mesh = mesh;
    this.stream = new TunnelStream(mesh.reactor, mesh.memory, this, mesh.streamLimits);
    const [app, ours] = tcpPair(options);
    this.app = app;
    mesh.descriptors.push(app);
    this.attach = (connecting) => this.stream.attach(ours, connecting);
  }

  /** Gives the stream its TCP side. */
  readonly attach: (connecting: boolean) => void;

  onTargetConnected(): void {
    this.#tell('connected');
    this.stream.accept([]);
  }
  onAnswer(_stream: TunnelStream, status: number): void {
    this.#tell(`answer ${status}`);
  }
  onStreamClosed(_stream: TunnelStream, failure: string | undefined): void {
    this.closed = failure;
    this.#tell('closed');
  }

  #tell(event: string): void {
    this.events.push(event);
    this.react(event);
  }

  /** Turns until the application has this many bytes, or the end, or a reset. */
  read(bytes = 1): Buffer | 'reset' {
    const chunks: Buffer[] = [];
    let total = 0;
    let reset = false;
    turnUntil(this.#mesh.reactor, () => {
      const got = receiveNow(this.app);
      if (got === undefined) return false;
      if (got === 'reset') reset = true;
      else chunks.push(got);
      if (reset || got.length === 0) return true;
      total += got.length;
      return total >= bytes;
    });
    return reset ? 'reset' : Buffer.concat(chunks);
  }

  write(data: string | Buffer): void {
    libc().sendData(this.app, Buffer.from(data), Buffer.byteLength(data), 0);
  }
}

export interface MeshOptions {
  readonly limits?: TunnelLimits;
  readonly serverHttp2?: Http2Options;
  readonly clientHttp2?: Http2Options;
}

/** A client and any number of server tunnels in one reactor that turns only when told to: everything in it is synchronous. */
export class Mesh {
  readonly reactor = new Reactor();
  readonly memory = new EngineMemory();
  readonly clientContext = new TlsContext(sleepCredentials);
  readonly serverContext = new TlsContext(httpbinCredentials);
  readonly servers: HboneTunnel[] = [];
  /** The server ends of all streams, in the order of their requests. */
  readonly inbound: Joined[] = [];
  readonly tunnelFailures: (string | undefined)[] = [];
  readonly descriptors: number[] = [];
  readonly listener: TcpListener;
  readonly port: number;
  dials = 0;
  /** What the server does about a request; by default it joins it with an application and answers 200. */
  onRequest = (joined: Joined, _request: Http2Request): void => joined.attach(true);
  /** Called when a server tunnel stands. */
  onServerReady = (_tunnel: HboneTunnel): void => {};
  inboundOptions: { smallBuffers?: boolean } = {};
  /** Of the server ends of all streams. */
  streamLimits: StreamLimits | undefined;
  readonly #options: MeshOptions;

  constructor(options: MeshOptions = {}) {
    this.#options = options;
    const fd = openListener({ host: '127.0.0.1', port: 0, backlog: 1024 }).release();
    this.port = localPort(fd);
    this.listener = new TcpListener(this.reactor, fd, { onConnection: (fd) => this.#serve(fd) });
  }

  readonly #dial = (): number => {
    this.dials++;
    return openConnecting({ host: '127.0.0.1', port: this.port }).release();
  };

  route(more: Partial<TunnelRoute> = {}): TunnelRoute {
    return { key: 'one', context: this.clientContext, verifier, dial: this.#dial, ...more };
  }

  /** A client tunnel to this mesh's server (or to `fd`), with an owner that writes down what it hears. */
  client(init: Partial<TunnelInit> = {}): { tunnel: HboneTunnel; events: string[] } {
    const events: string[] = [];
    const tunnel = new HboneTunnel({
      reactor: this.reactor,
      memory: this.memory,
      role: 'client',
      fd: init.fd ?? this.#dial(),
      context: this.clientContext,
      verifier,
      owner: {
        onTunnelReady: () => events.push('ready'),
        onTunnelRequest: () => events.push('request'),
        onTunnelCapacity: () => events.push('capacity'),
        onTunnelClosed: (_tunnel, failure) => events.push(`closed: ${failure}`),
      },
      ...(this.#options.limits === undefined ? {} : { limits: this.#options.limits }),
      ...(this.#options.clientHttp2 === undefined ? {} : { http2: this.#options.clientHttp2 }),
      ...init,
    });
    return { tunnel, events };
  }

  #serve(fd: number): void {
    const tunnel: HboneTunnel = new HboneTunnel({
      reactor: this.reactor,
      memory: this.memory,
      role: 'server',
      fd,
      context: this.serverContext,
      verifier,
      ...(this.#options.limits === undefined ? {} : { limits: this.#options.limits }),
      ...(this.#options.serverHttp2 === undefined ? {} : { http2: this.#options.serverHttp2 }),
      owner: {
        onTunnelReady: (tunnel) => this.onServerReady(tunnel),
        onTunnelCapacity: () => {},
        onTunnelClosed: (_tunnel, failure) => this.tunnelFailures.push(failure),
        onTunnelRequest: (
          tunnel: HboneTunnel,
          stream: Http2Stream<TunnelStream>,
          request: Http2Request,
          endStream: boolean,
        ) => {
          const joined = new Joined(this, this.inboundOptions);
          this.inbound.push(joined);
          tunnel.adopt(joined.stream, stream, endStream);
          this.onRequest(joined, request);
        },
      },
    });
    this.servers.push(tunnel);
  }

  until(done: () => boolean, limitMs?: number): void {
    turnUntil(this.reactor, done, limitMs);
  }

  [Symbol.dispose](): void {
    for (const tunnel of this.servers) tunnel.close();
    this.listener.close();
    this.clientContext.close();
    this.serverContext.close();
    for (const fd of this.descriptors) libc().close(fd);
    this.reactor.close();
  }
}
