import {
  EngineMemory,
  HboneTunnel,
  type PeerVerifier,
  Reactor,
  type StreamObserver,
  TcpListener,
  TlsContext,
  TunnelPool,
  TunnelStream,
} from '../../src/engine/index.ts';
import type { Http2Request } from '../../src/http2/index.ts';
import { type ExpectedPeer, peerIdentity } from '../../src/identity/index.ts';
import { openConnecting, openListener } from '../../src/socket/index.ts';
import { decodeSockaddr, libc, SOCKADDR_BYTES } from '../../src/system/index.ts';
import { certificateOf, idOf, type Workload } from './certificates.ts';
import type { Proxies, ProxyOptions } from './interop.ts';

/** `ambient-kit/engine` as the two proxies of a node: a reactor each, which turns between Node's own turns. */
export const engineProxies: Proxies = {
  name: 'the engine',
  async startClient({ hbone, authority, serverId = idOf('server'), answerMs = 30_000, ...options }) {
    const proxy = new ReactorProxy();
    let tunnels = 0;
    const pool = new TunnelPool(proxy.reactor, proxy.memory, limitsOf(options));
    const route = {
      key: 'one',
      context: contextOf('client'),
      verifier: expecting({ oneOf: [serverId as ReturnType<typeof idOf>] }),
      dial: () => {
        tunnels++;
        return openConnecting({ host: '127.0.0.1', port: hbone }).release();
      },
    };
    const port = proxy.listen((fd) => {
      const stream = new TunnelStream(
        proxy.reactor,
        proxy.memory,
        { onStreamClosed: () => {} },
        { connectMs: 10_000, answerMs },
      );
      stream.attach(fd, false);
      pool.open(route, stream, authority, [['baggage', 'k8s.namespace.name=default,k8s.pod.name=client']]);
    });
    return { port, tunnels: () => tunnels, [Symbol.asyncDispose]: () => proxy.close(() => pool.close()) };
  },

  async startServer(options = {}) {
    const proxy = new ReactorProxy();
    const requests: { authority: string; peer: string; headers: Http2Request['headers'] }[] = [];
    const tunnels = new Set<HboneTunnel>();
    const context = contextOf('server');
    let refused = 0;
    const observer: StreamObserver = { onTargetConnected: (stream) => stream.accept([]), onStreamClosed: () => {} };
    const port = proxy.listen((fd) => {
      const tunnel = new HboneTunnel({
        reactor: proxy.reactor,
        memory: proxy.memory,
        role: 'server',
        fd,
        context,
        verifier: expecting({ trustDomain: 'cluster.local' }),
        ...limitsOf(options),
        owner: {
          onTunnelReady: () => {},
          onTunnelCapacity: () => {},
          onTunnelClosed: (closed) => {
            tunnels.delete(closed);
            if (closed.peerIdentity === undefined) refused++;
          },
          onTunnelRequest: (by, http2Stream, request, endStream) => {
            const stream = new TunnelStream(proxy.reactor, proxy.memory, observer);
            by.adopt(stream, http2Stream, endStream);
            if (request.method !== 'CONNECT') return stream.decline(400, 'no CONNECT');
            requests.push({ authority: request.authority!, peer: by.peerIdentity!, headers: request.headers });
            const [host, targetPort] = request.authority!.split(':');
            stream.attach(openConnecting({ host: host!, port: Number(targetPort) }).release(), true);
          },
        },
      });
      tunnels.add(tunnel);
    });
    const close = () => {
      for (const tunnel of tunnels) tunnel.close();
    };
    return {
      port,
      requests,
      refused: () => refused,
      tunnels: () => tunnels.size,
      [Symbol.asyncDispose]: () => proxy.close(close),
    };
  },
};

class ReactorProxy {
  readonly reactor = new Reactor();
  readonly memory = new EngineMemory();
  readonly #listeners: TcpListener[] = [];
  #turning = true;

  constructor() {
    const turn = () => {
      if (!this.#turning) return;
      this.reactor.turn(0);
      setImmediate(turn);
    };
    turn();
  }

  listen(onConnection: (fd: number) => void): number {
    const fd = openListener({ host: '127.0.0.1', port: 0, backlog: 1024 }).release();
    this.#listeners.push(new TcpListener(this.reactor, fd, { onConnection }));
    const address = Buffer.alloc(SOCKADDR_BYTES);
    libc().getsockname(fd, address, Int32Array.of(SOCKADDR_BYTES));
    return decodeSockaddr(address).port;
  }

  async close(cut: () => void): Promise<void> {
    cut();
    for (const listener of this.#listeners) listener.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    this.#turning = false;
    this.reactor.close();
  }
}

function limitsOf({ http2, handshakeMs }: ProxyOptions) {
  return {
    ...(http2 === undefined ? {} : { http2 }),
    ...(handshakeMs === undefined ? {} : { limits: { connectMs: 10_000, handshakeMs } }),
  };
}

function contextOf(name: Workload): TlsContext {
  const { chainPem, rootsPem, key } = certificateOf(name);
  return new TlsContext({ chainPem, rootsPem, keyPem: key!.exportPem() });
}

function expecting(expected: ExpectedPeer): PeerVerifier {
  return { verifyPeer: (leaf) => peerIdentity({ leaf, expected }).id };
}
