import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import {
  EngineMemory,
  HboneTunnel,
  type PeerVerifier,
  PipePool,
  Reactor,
  type StreamObserver,
  TcpListener,
  TcpRelay,
  TlsContext,
  TunnelPool,
  type TunnelPoolOptions,
  type TunnelRoute,
  TunnelStream,
} from '../../src/engine/index.ts';
import type { Http2Options } from '../../src/http2/index.ts';
import { Certificate, CertificateAuthority, formatSpiffeId, tryParseSpiffeId } from '../../src/identity/index.ts';
import { openConnecting, openListener } from '../../src/socket/index.ts';
import { decodeSockaddr, libc, SOCKADDR_BYTES } from '../../src/system/index.ts';

/** Accepts any Istio identity of one trust domain. */
export function anyOf(trustDomain = 'cluster.local'): PeerVerifier {
  return {
    verifyPeer(der) {
      const identity = new Certificate(der).uriNames.map(tryParseSpiffeId).find((found) => found !== undefined);
      if (identity === undefined) throw new Error('no SPIFFE id');
      if (identity.trustDomain !== trustDomain) throw new Error(`trust domain ${identity.trustDomain}`);
      return identity.id;
    },
  };
}

const authority = await CertificateAuthority.create({ trustDomain: 'cluster.local' });

/** A context for one service account, of the one CA of this file unless another is given. */
export async function contextFor(serviceAccount: string, ca = authority): Promise<TlsContext> {
  const identity = formatSpiffeId({ trustDomain: ca.trustDomain, namespace: 'default', serviceAccount });
  const { chainPem, rootsPem, key } = await ca.issue({ identity });
  return new TlsContext({ chainPem, rootsPem, keyPem: key!.exportPem() });
}

/** How one joined connection ended. */
export interface Ended {
  readonly failure: string | undefined;
  readonly toTunnel: number;
  readonly fromTunnel: number;
}

export interface LoopbackOptions {
  readonly serverHttp2?: Http2Options;
  readonly pool?: TunnelPoolOptions;
  readonly clientVerifier?: PeerVerifier;
  readonly serverVerifier?: PeerVerifier;
  readonly clientContext?: TlsContext;
  readonly serverContext?: TlsContext;
}

/**
 * Client proxy, tunnel, server proxy in one reactor of this thread, over loopback, with ordinary node sockets as the two applications.
 * The reactor turns between node's own turns.
 */
export class Loopback {
  readonly reactor = new Reactor();
  readonly memory = new EngineMemory();
  readonly pipes = new PipePool();
  readonly pool: TunnelPool;
  readonly outbound: Ended[] = [];
  readonly inbound: Ended[] = [];
  readonly relays: (string | undefined)[] = [];
  readonly tunnels: HboneTunnel[] = [];
  readonly tunnelFailures: (string | undefined)[] = [];
  readonly requests: string[] = [];
  /** Set to make the server refuse with this status. */
  refuseWith: number | undefined;
  #turning = true;
  #listeners: TcpListener[] = [];
  readonly targets: Server[] = [];

  private constructor(options: LoopbackOptions) {
    this.pool = new TunnelPool(this.reactor, this.memory, options.pool);
    const turn = () => {
      if (!this.#turning) return;
      this.reactor.turn(0);
      setImmediate(turn);
    };
    turn();
  }

  /** @returns the port that an application connects to, its bytes going through the tunnel to `target` */
  static async start(target: (socket: Socket) => void, options: LoopbackOptions = {}) {
    const loopback = new Loopback(options);
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      // Connections that a test leaves open are reset when its mesh goes away.
      socket.on('error', () => {});
      target(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    loopback.targets.push(server);
    const targetPort = (server.address() as AddressInfo).port;
    const hbonePort = await loopback.#serve(options);
    const route: TunnelRoute = {
      key: 'one',
      context: options.clientContext ?? (await contextFor('client')),
      verifier: options.clientVerifier ?? anyOf(),
      dial: () => openConnecting({ host: '127.0.0.1', port: hbonePort }).release(),
    };
    const observer: StreamObserver = {
      onStreamClosed: (stream, failure) => {
        loopback.outbound.push({ failure, toTunnel: stream.bytesToTunnel, fromTunnel: stream.bytesFromTunnel });
      },
    };
    const port = loopback.#listen((fd) => {
      const stream = new TunnelStream(loopback.reactor, loopback.memory, observer);
      stream.attach(fd, false);
      loopback.pool.open(route, stream, `127.0.0.1:${targetPort}`, [['baggage', 'k8s.pod.name=client']]);
    });
    const relayPort = loopback.#listen((downstreamFd) => {
      new TcpRelay({
        reactor: loopback.reactor,
        memory: loopback.memory,
        pipes: loopback.pipes,
        downstreamFd,
        upstreamFd: openConnecting({ host: '127.0.0.1', port: targetPort }).release(),
        observer: { onRelayClosed: (_relay, failure) => loopback.relays.push(failure) },
      });
    });
    return { loopback, port, relayPort, hbonePort, targetPort };
  }

  #listen(onConnection: (fd: number) => void): number {
    const fd = openListener({ host: '127.0.0.1', port: 0, backlog: 1024 }).release();
    this.#listeners.push(new TcpListener(this.reactor, fd, { onConnection }));
    return boundPort(fd);
  }

  async #serve(options: LoopbackOptions): Promise<number> {
    const context = options.serverContext ?? (await contextFor('server'));
    const observer: StreamObserver = {
      onTargetConnected: (stream) => stream.accept([['baggage', 'k8s.pod.name=server']]),
      onStreamClosed: (stream, failure) => {
        this.inbound.push({ failure, toTunnel: stream.bytesToTunnel, fromTunnel: stream.bytesFromTunnel });
      },
    };
    return this.#listen((fd) => {
      this.tunnels.push(
        new HboneTunnel({
          reactor: this.reactor,
          memory: this.memory,
          role: 'server',
          fd,
          context,
          verifier: options.serverVerifier ?? anyOf(),
          ...(options.serverHttp2 === undefined ? {} : { http2: options.serverHttp2 }),
          owner: {
            onTunnelReady: () => {},
            onTunnelCapacity: () => {},
            onTunnelClosed: (_tunnel, failure) => this.tunnelFailures.push(failure),
            onTunnelRequest: (tunnel, http2Stream, request, endStream) => {
              this.requests.push(`${request.method} ${request.authority}`);
              const stream = new TunnelStream(this.reactor, this.memory, observer);
              tunnel.adopt(stream, http2Stream, endStream);
              if (this.refuseWith !== undefined) return stream.refuse(this.refuseWith, 'refused by the test');
              const port = Number(request.authority?.split(':')[1]);
              stream.attach(openConnecting({ host: '127.0.0.1', port }).release(), true);
            },
          },
        }),
      );
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.pool.close();
    for (const tunnel of this.tunnels) tunnel.close();
    for (const listener of this.#listeners) listener.close();
    for (const target of this.targets) target.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    this.#turning = false;
    this.pipes.close();
    this.reactor.close();
  }
}

function boundPort(fd: number): number {
  const address = Buffer.alloc(SOCKADDR_BYTES);
  libc().getsockname(fd, address, Int32Array.of(SOCKADDR_BYTES));
  return decodeSockaddr(address).port;
}
