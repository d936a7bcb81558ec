import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { dialTcp, HboneClient, type HboneRequest, HboneServer, relay } from '../../src/hbone/index.ts';
import { certificateOf, idOf } from './certificates.ts';
import type { Proxies, ProxyOptions } from './interop.ts';

/** `ambient-kit/hbone` as the two proxies of a node. */
export const hboneProxies: Proxies = {
  name: 'HboneClient and HboneServer',
  async startClient({ hbone, authority, serverId = idOf('server'), answerMs, ...options }) {
    let tunnels = 0;
    const client = new HboneClient({
      credentials: certificateOf('client'),
      ...limitsOf(options),
      ...(answerMs === undefined ? {} : { answerTimeoutMs: answerMs }),
      dial: (...args) => {
        tunnels++;
        return dialTcp(...args);
      },
    });
    const sockets = new Set<Socket>();
    const proxy = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      const gone = new AbortController();
      const onClose = () => gone.abort();
      // Read a little, and kept: who does not read hears of no reset.
      socket.once('close', onClose).once('readable', () => {});
      sockets.add(socket.on('error', () => {}).once('close', () => sockets.delete(socket)));
      const to = { authority, peerIdentity: serverId, destination: { host: '127.0.0.1', port: hbone } };
      client
        .connect({ ...to, baggage: { namespace: 'default', workloadName: 'client' }, signal: gone.signal })
        .then((stream) => relay(socket.off('close', onClose), stream))
        .catch(() => socket.destroyed || socket.resetAndDestroy());
    });
    await once(proxy.listen(0, '127.0.0.1'), 'listening');
    return {
      port: (proxy.address() as AddressInfo).port,
      tunnels: () => tunnels,
      async [Symbol.asyncDispose]() {
        proxy.close();
        await client.close();
        for (const socket of sockets) socket.destroy();
      },
    };
  },

  async startServer(options = {}) {
    const requests: { authority: string; peer: string; headers: HboneRequest['headers'] }[] = [];
    let refused = 0;
    const server = new HboneServer({ credentials: certificateOf('server'), ...limitsOf(options) });
    server.on('refused', () => refused++);
    server.on('tunnel', (request) => {
      requests.push({ authority: request.authority, peer: request.peer.id, headers: request.headers });
      const upstream = connect({ host: request.host, port: request.port, allowHalfOpen: true });
      upstream.once('error', () => request.settled || request.reject(503));
      upstream.once('connect', () => relay(upstream, request.accept()).catch(() => {}));
    });
    const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
    return {
      port,
      requests,
      refused: () => refused,
      tunnels: () => server.tunnelCount,
      [Symbol.asyncDispose]: () => server.close(),
    };
  },
};

function limitsOf({ http2, handshakeMs }: ProxyOptions) {
  return {
    ...(http2 === undefined ? {} : { http2 }),
    ...(handshakeMs === undefined ? {} : { handshakeTimeoutMs: handshakeMs }),
  };
}
