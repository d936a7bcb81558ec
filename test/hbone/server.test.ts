import { once } from 'node:events';
import type http2 from 'node:http2';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { HboneClient, type HboneRequest, HboneServer, type HboneServerOptions } from '../../src/hbone/index.ts';
import { ManualClock } from '../../src/identity/index.ts';
import { certificateFor, clientCertificate, idOf, pair, serverCertificate } from './mesh.ts';
import { ACK, frame, nodeConnect, nodeSession, PREFACE, rawTls, SETTINGS } from './raw-peer.ts';

const echo = (request: HboneRequest) => {
  const stream = request.accept().on('error', () => {});
  stream.pipe(stream);
};

async function status(port: number, headers: http2.OutgoingHttpHeaders): Promise<unknown> {
  const session = await nodeSession(port);
  const stream = session.request(headers, { endStream: true });
  const result = await Promise.race([
    once(stream, 'response').then(([answer]) => answer[':status']),
    once(stream, 'close').then(() => `reset ${stream.rstCode}`),
  ]).catch(() => `reset ${stream.rstCode}`);
  session.destroy();
  return result;
}

describe('requests (facts section 1.3)', () => {
  it('tells who asks for what, and what the client says of itself', async () => {
    await using mesh = await pair();
    const asked = once(mesh.server, 'tunnel') as Promise<[HboneRequest]>;
    const connecting = mesh.client.connect({
      authority: '[fd00::9]:8080',
      peerIdentity: idOf('server'),
      destination: { host: '127.0.0.1', port: mesh.hbone },
      baggage: { clusterName: 'Kubernetes', namespace: 'default', workloadName: 'sleep', workloadType: 'deployment' },
      forwarded: { source: { ip: '10.1.0.5', port: 41000 }, host: 'httpbin.default.svc.cluster.local' },
      traceParent: { traceId: '0af7651916cd43dd8448eb211c80319c', parentId: 'b7ad6b7169203331', flags: '01' },
      headers: [['x-forwarded-network', 'network-1']],
    });
    const [request] = await asked;
    expect(request).toMatchObject({
      authority: '[fd00::9]:8080',
      host: 'fd00::9',
      port: 8080,
      remoteAddress: '127.0.0.1',
      peer: { id: idOf('client'), trustDomain: 'cluster.local' },
    });
    expect(request.baggage).toEqual({
      clusterName: 'Kubernetes',
      namespace: 'default',
      workloadName: 'sleep',
      workloadType: 'deployment',
    });
    expect(request.forwardedHost).toBe('httpbin.default.svc.cluster.local');
    expect(request.traceParent).toMatchObject({ parentId: 'b7ad6b7169203331' });
    expect(request.header('x-forwarded-network')).toBe('network-1');
    expect(request.headers.map(([name]) => name)).toEqual([
      'baggage',
      'forwarded',
      'traceparent',
      'x-forwarded-network',
    ]);
    request.reject(401, { headers: { 'x-why': 'policy' } });
    await expect(connecting).rejects.toMatchObject({ status: 401 });
  });

  it.each<[string, http2.OutgoingHttpHeaders, unknown]>([
    ['GET', { ':method': 'GET', ':path': '/', ':scheme': 'https', ':authority': 'a:80' }, 400],
    ['an authority without a port', { ':method': 'CONNECT', ':authority': '10.0.0.9' }, 400],
    ['an authority that is none', { ':method': 'CONNECT', ':authority': 'a b:80' }, 400],
    ['port 0', { ':method': 'CONNECT', ':authority': 'a:0' }, 400],
    ['CONNECT', { ':method': 'CONNECT', ':authority': '10.0.0.9:80' }, 200],
  ])('%s: %j is answered %s', async (_what, headers, expected) => {
    await using mesh = await pair();
    mesh.server.on('tunnel', (request) => request.accept().resume().end());
    expect(await status(mesh.hbone, headers)).toBe(expected);
  });

  it('without a listener: 503', async () => {
    await using mesh = await pair();
    await expect(mesh.open()).rejects.toMatchObject({ code: 'ERR_HBONE_REFUSED', status: 503 });
  });

  it('a listener that does not answer in time: 503', async () => {
    const clock = new ManualClock();
    await using mesh = await pair({ server: { clock, answerTimeoutMs: 5_000, http2: { keepaliveIntervalMs: 0 } } });
    const asked = once(mesh.server, 'tunnel') as Promise<[HboneRequest]>;
    const refused = expect(mesh.open()).rejects.toMatchObject({ status: 503 });
    const [request] = await asked;
    await clock.advance(5_000);
    await refused;
    expect(request.settled).toBe(true);
    expect(() => request.accept()).toThrow(expect.objectContaining({ code: 'ERR_HBONE_STATE' }));
  });

  it('answers once', async () => {
    await using mesh = await pair();
    const asked = once(mesh.server, 'tunnel') as Promise<[HboneRequest]>;
    const connecting = mesh.open();
    const [request] = await asked;
    expect(() => request.reject(200)).toThrow(expect.objectContaining({ code: 'ERR_HBONE_INVALID', field: 'status' }));
    expect(() => request.accept({ headers: { A: 'x' } })).toThrow(expect.objectContaining({ field: 'headers.A' }));
    request.accept();
    expect(() => request.accept()).toThrow(expect.objectContaining({ code: 'ERR_HBONE_STATE' }));
    expect(() => request.reject(503)).toThrow(expect.objectContaining({ code: 'ERR_HBONE_STATE' }));
    await connecting;
  });

  it('gives what the client has sent before the answer, too', async () => {
    await using mesh = await pair();
    const early = Promise.withResolvers<string>();
    mesh.server.on('tunnel', async (request) => {
      await sleep(50);
      early.resolve(await text(request.accept()));
    });
    const session = await nodeSession(mesh.hbone);
    const stream = session.request({ ':method': 'CONNECT', ':authority': 'a:1' });
    stream.end('sent early, and all of it');
    expect(await early.promise).toBe('sent early, and all of it');
    session.destroy();
  });
});

describe('connections', () => {
  it.each<[string, (port: number) => Duplex | Promise<Duplex>, string]>([
    ['nothing', (port) => connect(port, '127.0.0.1'), 'ERR_HBONE_TIMEOUT'],
    [
      'half a ClientHello',
      (port) =>
        connect(port, '127.0.0.1', function (this: Duplex) {
          this.write('\x16\x03\x01');
        }),
      'ERR_HBONE_TIMEOUT',
    ],
    [
      'plain text',
      (port) =>
        connect(port, '127.0.0.1', function (this: Duplex) {
          this.write('GET / HTTP/1.0\r\n\r\n');
        }),
      'ERR_HBONE_TLS',
    ],
    [
      'a FIN',
      (port) =>
        connect(port, '127.0.0.1', function (this: Duplex) {
          this.end();
        }),
      'ERR_HBONE_TLS',
    ],
  ])('slowloris: a peer that sends %s is closed, and told of', async (_what, dial, code) => {
    await using mesh = await pair({ server: { handshakeTimeoutMs: 150 } });
    const refused = once(mesh.server, 'refused');
    const peer = (await dial(mesh.hbone)).on('error', () => {}).resume();
    const closed = once(peer, 'close');
    const [error, client] = await refused;
    expect(error).toMatchObject({ code });
    expect(client).toEqual({ remoteAddress: '127.0.0.1' });
    await closed;
  });

  it('slowloris: TLS without an HTTP/2 preface is cut in time', async () => {
    const clock = new ManualClock();
    await using mesh = await pair({ server: { clock, handshakeTimeoutMs: 10_000 } });
    const gone = once(mesh.server, 'disconnection');
    const accepted = once(mesh.server, 'connection');
    const socket = (await rawTls(mesh.hbone)).resume();
    await accepted;
    await clock.advance(11_000);
    expect((await gone)[1]).toMatchObject({ cause: { code: 'ERR_HTTP2_SETTINGS_TIMEOUT' } });
    if (!socket.destroyed) await once(socket, 'close');
  });

  it('a silent peer is noticed by PING (facts section 1.7)', async () => {
    const clock = new ManualClock();
    await using mesh = await pair({ server: { clock } });
    const gone = once(mesh.server, 'disconnection');
    const silent = (await rawTls(mesh.hbone)).resume();
    silent.write(Buffer.concat([PREFACE, frame(SETTINGS, 0, 0), frame(SETTINGS, ACK, 0)]));
    await sleep(50);
    for (let second = 0; second < 40; second++) await clock.advance(1000);
    const [, error] = await gone;
    expect(error).toMatchObject({ cause: { code: 'ERR_HTTP2_KEEPALIVE_TIMEOUT' } });
    silent.destroy();
  });

  it('maxConnections: one more is closed at once', async () => {
    await using mesh = await pair({ server: { maxConnections: 1 } });
    const first = await rawTls(mesh.hbone);
    const refused = once(mesh.server, 'refused');
    const second = connect(mesh.hbone, '127.0.0.1')
      .on('error', () => {})
      .resume();
    expect((await refused)[0]).toMatchObject({ code: 'ERR_HBONE_TOO_MANY' });
    await once(second, 'close');
    first.destroy();
  });

  it('credentials that cannot be had refuse the connection, and not the next one', async () => {
    let calls = 0;
    const credentials = () =>
      ++calls === 1 ? Promise.reject(new Error('the CA is away')) : Promise.resolve(serverCertificate);
    await using mesh = await pair({ server: { credentials } });
    mesh.server.on('tunnel', echo);
    const refused = once(mesh.server, 'refused');
    await expect(mesh.open()).rejects.toMatchObject({ code: 'ERR_HBONE_TLS' });
    expect((await refused)[0]).toMatchObject({ code: 'ERR_HBONE_CREDENTIALS' });
    (await mesh.open()).destroy();
  });

  it('facts section 1.11: a rotated certificate is for new tunnels, live ones keep theirs', async () => {
    let current = serverCertificate;
    await using mesh = await pair({ server: { credentials: () => current }, client: { maxStreamsPerTunnel: 1 } });
    mesh.server.on('tunnel', echo);
    const to = { authority: 'a:1', peerIdentity: [idOf('server'), idOf('rotated')] };
    const destination = { host: '127.0.0.1', port: mesh.hbone };
    const before = await mesh.client.connect({ ...to, destination });
    current = await certificateFor('rotated');
    const after = await mesh.client.connect({ ...to, destination });
    expect([before.peer.serviceAccount, after.peer.serviceAccount]).toEqual(['server', 'rotated']);
    before.end('x');
    expect(await text(before)).toBe('x');
  });

  it('peers: who else may come', async () => {
    await using mesh = await pair({ server: { peers: { oneOf: [idOf('gateway')] } } });
    mesh.server.on('tunnel', echo);
    const refused = once(mesh.server, 'refused');
    await expect(mesh.open()).rejects.toMatchObject({ name: 'HboneError' });
    expect((await refused)[0]).toMatchObject({ code: 'ERR_HBONE_PEER' });
    const destination = { host: '127.0.0.1', port: mesh.hbone };
    const credentials = await certificateFor('gateway');
    const stream = await mesh.client.connect({
      authority: 'a:1',
      peerIdentity: idOf('server'),
      destination,
      credentials,
    });
    stream.end('x');
    expect(await text(stream)).toBe('x');
  });
});

describe('double HBONE (facts section 2.5)', () => {
  it('a tunnel in a stream of another one', async () => {
    await using outer = await pair();
    await using inner = new HboneServer({ credentials: await certificateFor('inner') });
    inner.on('tunnel', echo);
    outer.server.on('tunnel', (request) => inner.accept(request.accept()));
    await using client = new HboneClient({
      credentials: clientCertificate,
      dial: () => outer.open('httpbin.default.svc:80'),
    });
    const stream = await client.connect({ authority: 'httpbin.default.svc:80', peerIdentity: idOf('inner') });
    expect(stream.peer.serviceAccount).toBe('inner');
    const data = 'x'.repeat(1 << 20);
    stream.end(data);
    expect((await text(stream)).length).toBe(data.length);
  });
});

describe('the life of a server', () => {
  it.each<[Partial<HboneServerOptions>, string]>([
    [{ credentials: undefined as never }, 'options.credentials'],
    [{ maxConnections: 0 }, 'options.maxConnections'],
    [{ handshakeTimeoutMs: -1 }, 'options.handshakeTimeoutMs'],
    [{ http2: { maxConcurrentStreams: -1 } }, 'options.maxConcurrentStreams'],
  ])('the option %j is refused when it is given', (bad, field) => {
    expect(() => new HboneServer({ credentials: serverCertificate, ...bad })).toThrow(
      expect.objectContaining({ field }),
    );
  });

  it('listen: a port that is taken is ERR_HBONE_LISTEN with the cause', async () => {
    await using mesh = await pair();
    await using other = new HboneServer({ credentials: serverCertificate });
    await expect(other.listen({ host: '127.0.0.1', port: mesh.hbone })).rejects.toMatchObject({
      code: 'ERR_HBONE_LISTEN',
      cause: { code: 'EADDRINUSE' },
    });
  });

  it('listen: its signal closes the server; closed, it listens no more', async () => {
    const controller = new AbortController();
    await using server = new HboneServer({ credentials: serverCertificate });
    const { port } = await server.listen({ host: '127.0.0.1', port: 0, signal: controller.signal });
    controller.abort();
    await sleep(20);
    const refused = connect(port, '127.0.0.1');
    expect((await once(refused, 'error'))[0]).toMatchObject({ code: 'ECONNREFUSED' });
    await expect(server.listen({ port: 0 })).rejects.toMatchObject({ code: 'ERR_HBONE_CLOSED' });
  });

  it('drain: the announced GOAWAY, then that of the last stream; a CONNECT under way is served (RFC 9113 section 6.8)', async () => {
    await using mesh = await pair();
    mesh.server.on('tunnel', echo);
    const session = await nodeSession(mesh.hbone);
    const { stream } = await nodeConnect(session);
    const last: number[] = [];
    session.on('goaway', (code, lastId) => last.push(code, lastId));
    const drained = mesh.server.drain();
    await sleep(50);
    expect(last).toEqual([0, 2 ** 31 - 1, 0, 1]);
    stream.end('still served');
    expect(await text(stream)).toBe('still served');
    await drained;
    expect(mesh.server.tunnelCount).toBe(0);
  });

  it('drain: cuts what is open after its time, or when told to', async () => {
    await using mesh = await pair({ server: { drainTimeoutMs: 60_000 } });
    mesh.server.on('tunnel', echo);
    const stream = await mesh.open();
    const failed = once(stream, 'error');
    const controller = new AbortController();
    const drained = mesh.server.drain({ signal: controller.signal });
    await sleep(20);
    controller.abort();
    await drained;
    expect((await failed)[0]).toMatchObject({ code: 'ERR_HBONE_TUNNEL_LOST' });
  });

  it('close: handshakes under way end, without an event', async () => {
    const mesh = await pair();
    const refusals: unknown[] = [];
    mesh.server.on('refused', (error) => refusals.push(error));
    const half = connect(mesh.hbone, '127.0.0.1')
      .on('error', () => {})
      .resume();
    await once(half, 'connect');
    await sleep(20);
    const closed = once(half, 'close');
    await mesh[Symbol.asyncDispose]();
    await closed;
    expect(refusals).toEqual([]);
  });
});
