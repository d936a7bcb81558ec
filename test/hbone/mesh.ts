import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import {
  dialTcp,
  HboneClient,
  type HboneClientOptions,
  HboneServer,
  type HboneServerOptions,
  relay,
} from '../../src/hbone/index.ts';
import {
  CertificateAuthority,
  formatSpiffeId,
  type SpiffeId,
  type WorkloadCertificate,
} from '../../src/identity/index.ts';
import type { Implementation } from './fidelity.ts';

export const trustDomain = 'cluster.local';
export const authority: CertificateAuthority = await CertificateAuthority.create({ trustDomain });

export function idOf(serviceAccount: string): SpiffeId {
  return formatSpiffeId({ trustDomain, namespace: 'default', serviceAccount });
}

export function certificateFor(serviceAccount: string): Promise<WorkloadCertificate> {
  return authority.issue({ identity: idOf(serviceAccount) });
}

/** Issued once: most tests do not care. */
export const clientCertificate: WorkloadCertificate = await certificateFor('client');
export const serverCertificate: WorkloadCertificate = await certificateFor('server');

export async function listening(server: Server): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return (server.address() as AddressInfo).port;
}

/** A server that joins each CONNECT with a TCP connection to its authority, as a node's proxy does. */
export function connectingServer(options: Partial<HboneServerOptions> = {}): HboneServer {
  const server = new HboneServer({ credentials: serverCertificate, ...options });
  server.on('tunnel', (request) => {
    const upstream = connect({ host: request.host, port: request.port, allowHalfOpen: true });
    upstream.once('error', () => request.settled || request.reject(503));
    upstream.once('connect', () => relay(upstream, request.accept()).catch(() => {}));
  });
  return server;
}

export interface Pair extends AsyncDisposable {
  readonly client: HboneClient;
  readonly server: HboneServer;
  readonly hbone: number;
  /** `client.connect` to that server. */
  readonly open: (authority?: string) => ReturnType<HboneClient['connect']>;
}

/** A client and a server that know each other; tests listen to `tunnel` themselves. */
export async function pair(
  init: { client?: Partial<HboneClientOptions>; server?: Partial<HboneServerOptions> } = {},
): Promise<Pair> {
  const server = new HboneServer({ credentials: serverCertificate, ...init.server });
  const { port: hbone } = await server.listen({ host: '127.0.0.1', port: 0 });
  const client = new HboneClient({ credentials: clientCertificate, ...init.client });
  return {
    client,
    server,
    hbone,
    open: (to = '127.0.0.1:80') =>
      client.connect({ authority: to, peerIdentity: idOf('server'), destination: { host: '127.0.0.1', port: hbone } }),
    async [Symbol.asyncDispose]() {
      await client.close();
      await server.close();
    },
  };
}

/** This module's client and server as two proxies, for the suite that every implementation passes. */
export const hbone: Implementation = {
  name: 'HboneClient and HboneServer',
  async start(target, options = {}) {
    const application = createServer({ allowHalfOpen: true }, (socket) => target(socket.on('error', () => {})));
    const applicationPort = await listening(application);
    const http2 = {
      ...(options.smallWindows
        ? { maxFrameBytes: 16384, initialWindowBytes: 65535, connectionWindowBytes: 65535 }
        : undefined),
      ...(options.maxStreams === undefined ? undefined : { maxConcurrentStreams: options.maxStreams }),
    };
    const server = connectingServer({ http2 });
    const { port: hbonePort } = await server.listen({ host: '127.0.0.1', port: 0 });
    const dialled: Duplex[] = [];
    const client = new HboneClient({
      credentials: clientCertificate,
      dial: async (...args) => {
        const raw = await dialTcp(...args);
        dialled.push(raw);
        return raw;
      },
    });
    const proxy = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      socket.on('error', () => {});
      client
        .connect({
          authority: `127.0.0.1:${applicationPort}`,
          peerIdentity: idOf('server'),
          destination: { port: hbonePort },
        })
        .then(
          (stream) => relay(socket, stream),
          () => socket.resetAndDestroy(),
        )
        .catch(() => {});
    });
    const sockets = new Set<Socket>();
    proxy.on('connection', (socket) => sockets.add(socket.once('close', () => sockets.delete(socket))));
    application.on('connection', (socket) => sockets.add(socket.once('close', () => sockets.delete(socket))));
    return {
      port: await listening(proxy),
      tunnels: () => dialled.length,
      closeTarget: () => application.close(),
      cut() {
        for (const raw of dialled) if (raw instanceof Socket) raw.resetAndDestroy();
      },
      async close() {
        proxy.close();
        application.close();
        await client.close();
        await server.close();
        for (const socket of sockets) socket.destroy();
      },
    };
  },
};
