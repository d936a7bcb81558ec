import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { dialTcp, HboneClient, type HboneRequest, HboneServer, relay } from '../../src/hbone/index.ts';
import { certificateOf, idOf } from './certificates.ts';
import type { Proxies } from './interop.ts';

/** `ambient-kit/hbone` as the two proxies of a node. */
export const hboneProxies: Proxies = {
  name: 'HboneClient and HboneServer',
  async startClient({ hbone, authority, serverId = idOf('server') }) {
    let tunnels = 0;
    const client = new HboneClient({
      credentials: certificateOf('client'),
      dial: (...args) => {
        tunnels++;
        return dialTcp(...args);
      },
    });
    const sockets = new Set<Socket>();
    const proxy = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      sockets.add(socket.on('error', () => {}).once('close', () => sockets.delete(socket)));
      const to = { authority, peerIdentity: serverId, destination: { host: '127.0.0.1', port: hbone } };
      client
        .connect({ ...to, baggage: { namespace: 'default', workloadName: 'client' } })
        .then((stream) => relay(socket, stream))
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

  async startServer() {
    const requests: { authority: string; peer: string; headers: HboneRequest['headers'] }[] = [];
    let refused = 0;
    const server = new HboneServer({ credentials: certificateOf('server') });
    server.on('refused', () => refused++);
    server.on('tunnel', (request) => {
      requests.push({ authority: request.authority, peer: request.peer.id, headers: request.headers });
      const upstream = connect({ host: request.host, port: request.port, allowHalfOpen: true });
      upstream.once('error', () => request.settled || request.reject(503));
      upstream.once('connect', () => relay(upstream, request.accept()).catch(() => {}));
    });
    const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
    return { port, requests, refused: () => refused, [Symbol.asyncDispose]: () => server.close() };
  },
};
