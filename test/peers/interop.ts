import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HeaderField, Http2Options } from '../../src/http2/index.ts';
import { dial, digest, received, take } from '../hbone/fidelity.ts';
import { BAD, envoyFiles, goFlags, idOf, type Workload } from './certificates.ts';
import { Envoy, Hbonepeer } from './peer.ts';
import { describeWithPeer } from './programs.ts';

/** Our outbound proxy: TCP in, CONNECT streams out. */
export interface ClientProxy extends AsyncDisposable {
  readonly port: number;
  /** Tunnels that were made so far. */
  tunnels(): number;
}

/** Our inbound proxy: CONNECT streams in, TCP to their authority out. */
export interface ServerProxy extends AsyncDisposable {
  readonly port: number;
  readonly requests: readonly {
    readonly authority: string;
    readonly peer: string;
    readonly headers: readonly HeaderField[];
  }[];
  /** Connections that did not get through the handshake. */
  refused(): number;
  /** Tunnels that stand. */
  tunnels(): number;
}

/** What a test wants to be other than usual; times in milliseconds. */
export interface ProxyOptions {
  readonly http2?: Http2Options;
  readonly handshakeMs?: number;
  /** Of a client: from the application's connection to the answer. */
  readonly answerMs?: number;
}

/** Both proxies of one implementation, with the certificates of `certificates.ts`. */
export interface Proxies {
  readonly name: string;
  startClient(to: { hbone: number; authority: string; serverId?: string } & ProxyOptions): Promise<ClientProxy>;
  startServer(options?: ProxyOptions): Promise<ServerProxy>;
}

const MIB = 1 << 20;
const SLOW = { timeout: 60_000 };
const BAGGAGE =
  'k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=client,service.name=client,service.version=v1';

let applications: Applications;

/** Our two proxies with Envoy and Istio's Go package at the other end, bodies checked by hash. README.md says what the peers do. */
export function peerInterop(ours: Proxies): void {
  beforeAll(async () => {
    applications = await Applications.start();
  });
  afterAll(() => applications.close());

  describeWithPeer(`${ours.name} → Envoy`, ['envoy'], () => {
    const start = (more = {}) => Envoy.start('envoy-hbone-server.yaml', { ...envoyFiles('server'), ...more });
    carries(ours, async () => {
      const envoy = await start();
      return { port: envoy.ports.hbone!, stop: () => envoy.stop() };
    });

    it('shows its identity, the authority and TLS 1.3, and no SNI (facts sections 1.2 and 1.5)', async () => {
      await using envoy = await start();
      const { echo } = applications;
      await using client = await ours.startClient({ hbone: envoy.ports.hbone!, authority: `127.0.0.1:${echo}` });
      await echoes(client.port, 'hello');
      const line = await envoy.until(() => envoy.events()[0], 'access log line');
      expect(line).toMatchObject({ method: 'CONNECT', authority: `127.0.0.1:${echo}`, status: 200, tls: 'TLSv1.3' });
      expect(line).toMatchObject({ client_id: idOf('client'), sni: null, bytes_in: 5, bytes_out: 5 });
      expect(line.baggage).toBe('k8s.namespace.name=default,k8s.pod.name=client');
    });

    it('windows of 64 KiB', SLOW, async () => {
      await using envoy = await start({ STREAM_WINDOW: 65535, CONN_WINDOW: 65535 });
      await using client = await ours.startClient({ hbone: envoy.ports.hbone!, authority: applications.echoAuthority });
      await echoes(client.port, randomBytes(8 * MIB));
    });

    it('5 streams a tunnel: 12 connections, 3 tunnels, nobody waits', async () => {
      await using envoy = await start({ MAX_STREAMS: 5 });
      await using client = await ours.startClient({ hbone: envoy.ports.hbone!, authority: applications.echoAuthority });
      await atOnce(client.port, 12);
      expect(client.tunnels()).toBe(3);
    });

    it('answers its PINGs, a second apart', SLOW, async () => {
      await using envoy = await start({ PING_INTERVAL: '1s' });
      await using client = await ours.startClient({ hbone: envoy.ports.hbone!, authority: applications.echoAuthority });
      const socket = await dial(client.port);
      await sleep(2500);
      socket.write('still there');
      expect(`${await take(socket, 11)}`).toBe('still there');
      expect(await envoy.count('keepalive_timeout')).toBe(0);
      socket.destroy();
    });

    it('GOAWAY: what is open goes on, what is new goes elsewhere (facts section 1.11)', async () => {
      await using envoy = await start();
      await using client = await ours.startClient({ hbone: envoy.ports.hbone!, authority: applications.echoAuthority });
      const before = await dial(client.port);
      before.write('1');
      await take(before, 1);
      await envoy.admin('/healthcheck/fail', 'POST');
      await echoes(client.port, 'the stream that brings the GOAWAY');
      await envoy.admin('/healthcheck/ok', 'POST');
      await echoes(client.port, 'after it');
      before.write('2');
      expect(`${await take(before, 1)}`).toBe('2');
      expect(client.tunnels()).toBeGreaterThan(1);
      before.destroy();
    });

    it('503 resets the application (facts section 1.3)', async () => {
      await using envoy = await start();
      await using client = await ours.startClient({ hbone: envoy.ports.hbone!, authority: '127.0.0.1:1' });
      await isReset(client.port);
    });

    it('a reset of its upstream arrives as one', async () => {
      await using envoy = await start();
      await using client = await ours.startClient({
        hbone: envoy.ports.hbone!,
        authority: applications.resetAuthority,
      });
      await isReset(client.port);
    });

    it('another identity than expected is refused (facts section 1.6)', async () => {
      await using envoy = await start();
      await using client = await ours.startClient({
        hbone: envoy.ports.hbone!,
        authority: applications.echoAuthority,
        serverId: idOf('other'),
      });
      await isReset(client.port);
      expect(await envoy.count('^http.hbone.downstream_rq_total$')).toBe(0);
    });
  });

  describeWithPeer(`${ours.name} → hbonepeer (istio.io/istio/pkg/hbone)`, ['hbonepeer'], () => {
    carries(ours, async () => {
      const peer = await Hbonepeer.start('server', ...goFlags('server'));
      return { port: peer.port, stop: () => peer.stop() };
    });

    it('another identity than expected is refused (facts section 1.6)', async () => {
      await using peer = await Hbonepeer.start('server', ...goFlags('server'));
      const authority = applications.echoAuthority;
      await using client = await ours.startClient({ hbone: peer.port, authority, serverId: idOf('other') });
      await isReset(client.port);
    });
  });

  describeWithPeer(`Envoy → ${ours.name}`, ['envoy'], () => {
    const start = (hbone: number, target: string, more = {}) =>
      Envoy.start('envoy-hbone-client.yaml', {
        ...envoyFiles('client'),
        HBONE_PORT: hbone,
        TARGET: target,
        SERVER_ID: idOf('server'),
        ...more,
      });
    takes(ours, async (hbone, target, cert) => {
      const envoy = await start(hbone, target, envoyFiles(cert));
      return {
        port: envoy.ports.app!,
        tunnels: () => envoy.count('^cluster.hbone.upstream_cx_total$'),
        stop: () => envoy.stop(),
      };
    });

    it('reads the headers that Envoy sends as Istio does (facts sections 1.2 to 1.4)', async () => {
      await using server = await ours.startServer();
      await using envoy = await start(server.port, applications.echoAuthority);
      await echoes(envoy.ports.app!, 'hello');
      const [request] = server.requests;
      expect(request).toMatchObject({ authority: applications.echoAuthority, peer: idOf('client') });
      expect(request!.headers).toContainEqual(['baggage', BAGGAGE]);
      expect(request!.headers).toContainEqual([
        'traceparent',
        '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',
      ]);
      expect(request!.headers.find(([name]) => name === 'forwarded')?.[1]).toMatch(/^for="127\.0\.0\.1:\d+"$/);
    });

    it('the application ends first, and still gets the answer', async () => {
      await using server = await ours.startServer();
      await using envoy = await start(server.port, applications.afterEndAuthority);
      await answersAfterEnd(envoy.ports.app!);
    });

    it('a target that refuses is told as 503', async () => {
      await using server = await ours.startServer();
      await using envoy = await start(server.port, '127.0.0.1:1');
      await isReset(envoy.ports.app!);
      const line = await envoy.until(() => envoy.events()[0], 'access log line');
      expect(JSON.stringify(line)).toContain('tunnel_response:503');
    });

    it('a reset of the target is RST_STREAM, whatever Envoy makes of it', async () => {
      await using server = await ours.startServer();
      await using envoy = await start(server.port, applications.resetAuthority);
      const socket = await dial(envoy.ports.app!);
      socket.write('x');
      // To its application Envoy makes a FIN of it.
      await received(socket).catch(() => {});
      expect(await envoy.count('^cluster.hbone.http2.rx_reset$')).toBe(1);
      socket.destroy();
    });

    it('windows of 64 KiB', SLOW, async () => {
      await using server = await ours.startServer();
      const small = { STREAM_WINDOW: 65535, CONN_WINDOW: 65535 };
      await using envoy = await start(server.port, applications.echoAuthority, small);
      await echoes(envoy.ports.app!, randomBytes(8 * MIB));
    });

    it('another identity of the server than Envoy expects gets no request', async () => {
      await using server = await ours.startServer();
      await using envoy = await start(server.port, applications.echoAuthority, { SERVER_ID: idOf('other') });
      await isReset(envoy.ports.app!);
      expect(server.requests).toEqual([]);
    });
  });

  describeWithPeer(`hbonepeer (istio.io/istio/pkg/hbone) → ${ours.name}`, ['hbonepeer'], () => {
    takes(ours, async (hbone, target, cert) => {
      const to = ['-hbone', `127.0.0.1:${hbone}`, '-target', target, '-id', idOf('server')];
      const peer = await Hbonepeer.start('client', ...goFlags(cert), ...to);
      const tunnels = async () => peer.events().filter(({ event }) => event === 'handshake').length;
      return { port: peer.port, tunnels, stop: () => peer.stop() };
    });
  });

  describeWithPeer(`${ours.name} → Envoy as waypoint → ${ours.name}`, ['envoy'], () => {
    it('is routed by what the HTTP request says, and known to the application by its SPIFFE id', SLOW, async () => {
      await using server = await ours.startServer();
      await using waypoint = await Envoy.start('envoy-waypoint.yaml', {
        ...envoyFiles('waypoint'),
        NEXT_HBONE_PORT: server.port,
        DEST_V1: applications.webAuthority('v1'),
        DEST_V2: applications.webAuthority('v2'),
      });
      await using client = await ours.startClient({
        hbone: waypoint.ports.hbone!,
        authority: '10.0.0.9:80',
        serverId: idOf('waypoint'),
      });
      const get = async (path: string, headers: Record<string, string> = {}) => {
        const url = `http://127.0.0.1:${client.port}${path}`;
        const response = await fetch(url, { headers: { connection: 'close', ...headers } });
        return `${response.status} ${await response.text()}`;
      };
      const seen = `peer ${idOf('client')}, dialled 10.0.0.9:80`;
      expect(await get('/')).toBe(`200 v1: ${seen}`);
      expect(await get('/', { 'x-version': 'v2' })).toBe(`200 v2: ${seen}`);
      expect(await get('/denied')).toBe('403 denied by waypoint\n');
      expect(server.requests.map(({ peer }) => peer)).toEqual([idOf('waypoint'), idOf('waypoint')]);
    });
  });
}

/** What either server makes possible for our client. */
function carries(ours: Proxies, start: () => Promise<{ port: number; stop(): Promise<void> }>): void {
  describe('either server', () => {
    let server: { port: number; stop(): Promise<void> };
    beforeAll(async () => {
      server = await start();
    });
    afterAll(() => server.stop());

    it('16 MiB are echoed unharmed', SLOW, async () => {
      await using client = await ours.startClient({ hbone: server.port, authority: applications.echoAuthority });
      await echoes(client.port, randomBytes(16 * MIB));
    });

    it('50 connections at once share one tunnel (facts section 1.8)', async () => {
      await using client = await ours.startClient({ hbone: server.port, authority: applications.echoAuthority });
      await atOnce(client.port, 50);
      expect(client.tunnels()).toBe(1);
    });

    it('the application ends first, and still gets the answer (facts section 1.10)', async () => {
      await using client = await ours.startClient({ hbone: server.port, authority: applications.afterEndAuthority });
      await answersAfterEnd(client.port);
    });
  });
}

/** What either client makes possible for our server. */
function takes(
  ours: Proxies,
  start: (
    hbone: number,
    target: string,
    cert: Workload,
  ) => Promise<{ port: number; tunnels(): Promise<number>; stop(): Promise<void> }>,
): void {
  describe('either client', () => {
    let server: ServerProxy;
    beforeAll(async () => {
      server = await ours.startServer();
    });
    afterAll(() => server[Symbol.asyncDispose]());

    it('16 MiB are echoed unharmed', SLOW, async () => {
      const client = await start(server.port, applications.echoAuthority, 'client');
      await echoes(client.port, randomBytes(16 * MIB));
      await client.stop();
    });

    it('50 connections at once, in one tunnel', async () => {
      const client = await start(server.port, applications.echoAuthority, 'client');
      await atOnce(client.port, 50);
      expect(await client.tunnels()).toBe(1);
      await client.stop();
    });

    it.each(BAD)('a certificate that is %s is refused (facts section 1.6)', async (cert) => {
      const before = server.refused();
      const requests = server.requests.length;
      const client = await start(server.port, applications.echoAuthority, cert);
      const socket = await dial(client.port);
      socket.end('x');
      expect((await received(socket).catch(() => Buffer.alloc(0))).length).toBe(0);
      await client.stop();
      expect(server.refused()).toBeGreaterThan(before);
      expect(server.requests.length).toBe(requests);
    });
  });
}

async function echoes(port: number, data: Buffer | string): Promise<void> {
  const bytes = Buffer.from(data);
  const socket = await dial(port);
  socket.write(bytes);
  expect(digest(await take(socket, bytes.length))).toBe(digest(bytes));
  socket.end();
  socket.resume();
  // Envoy's log line, and hbonepeer's, wait for it.
  await once(socket, 'close').catch(() => {});
}

async function atOnce(port: number, count: number): Promise<void> {
  const sockets = await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const socket = await dial(port);
      const text = `connection ${index}`;
      socket.write(text);
      expect(`${await take(socket, text.length)}`).toBe(text);
      return socket;
    }),
  );
  for (const socket of sockets) socket.destroy();
}

async function answersAfterEnd(port: number): Promise<void> {
  const socket = await dial(port);
  socket.end('x'.repeat(100));
  expect(`${await received(socket)}`).toBe('got 100');
}

async function isReset(port: number): Promise<void> {
  const socket = await dial(port);
  socket.write('x');
  socket.resume();
  await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
}

/** What is behind the tunnels. */
class Applications {
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  echo = 0;
  #afterEnd = 0;
  #reset = 0;
  readonly #web = new Map<string, number>();

  static async start(): Promise<Applications> {
    const these = new Applications();
    these.echo = await these.#serve(createServer({ allowHalfOpen: true }, (socket) => void socket.pipe(socket)));
    these.#afterEnd = await these.#serve(
      createServer({ allowHalfOpen: true }, async (socket) => socket.end(`got ${(await received(socket)).length}`)),
    );
    these.#reset = await these.#serve(
      createServer((socket) => {
        socket.write('half of the ans');
        socket.resume();
        setTimeout(() => socket.resetAndDestroy(), 50);
      }),
    );
    for (const name of ['v1', 'v2']) {
      const web = http.createServer((request, response) => {
        response.end(`${name}: peer ${request.headers['x-peer-id']}, dialled ${request.headers['x-dialled']}`);
      });
      these.#web.set(name, await these.#serve(web));
    }
    return these;
  }

  get echoAuthority(): string {
    return `127.0.0.1:${this.echo}`;
  }
  get afterEndAuthority(): string {
    return `127.0.0.1:${this.#afterEnd}`;
  }
  get resetAuthority(): string {
    return `127.0.0.1:${this.#reset}`;
  }
  webAuthority(name: string): string {
    return `127.0.0.1:${this.#web.get(name)}`;
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  async #serve(server: Server): Promise<number> {
    this.#servers.push(server);
    server.on('connection', (socket) => {
      this.#sockets.add(socket.on('error', () => {}).once('close', () => this.#sockets.delete(socket)));
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    return (server.address() as AddressInfo).port;
  }
}
