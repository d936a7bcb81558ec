import { once } from 'node:events';
import http2 from 'node:http2';
import { createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import { describe, expect, it } from 'vitest';
import {
  type ConnectOptions,
  dialTcp,
  HboneClient,
  type HboneClientOptions,
  type HboneRequest,
  type HboneStream,
} from '../../src/hbone/index.ts';
import { CertificateAuthority, createCertificateStore, formatSpiffeId, ManualClock } from '../../src/identity/index.ts';
import { authority, certificateFor, clientCertificate, idOf, listening, pair, serverCertificate } from './mesh.ts';
import { ACK, END_HEADERS, frame, HEADERS, hasFrame, PREFACE, SETTINGS, tlsOptions } from './raw-peer.ts';

const accept = (request: HboneRequest) =>
  void request
    .accept()
    .on('error', () => {})
    .resume();
const echo = (request: HboneRequest) => {
  const stream = request.accept().on('error', () => {});
  stream.pipe(stream);
};

describe('HboneClient', () => {
  it('facts section 1.3: gives a stream after 200, with the headers and the identity of the other side', async () => {
    await using mesh = await pair();
    mesh.server.on('tunnel', (request) => {
      expect(request.peer.id).toBe(idOf('client'));
      const stream = request.accept({ baggage: { namespace: 'default', workloadName: 'httpbin' } });
      stream.pipe(stream);
    });
    const stream = await mesh.open('10.0.0.9:80');
    expect(stream).toMatchObject({ authority: '10.0.0.9:80', streamId: 1, peer: { serviceAccount: 'server' } });
    expect(stream.headers).toEqual([['baggage', 'k8s.namespace.name=default,k8s.pod.name=httpbin']]);
    stream.end('through the tunnel');
    expect(await text(stream)).toBe('through the tunnel');
    expect([stream.bytesRead, stream.bytesWritten]).toEqual([18, 18]);
  });

  it.each([400, 401, 503])('facts section 1.3: a status of %i is ERR_HBONE_REFUSED', async (status) => {
    await using mesh = await pair();
    mesh.server.on('tunnel', (request) => request.reject(status));
    await expect(mesh.open()).rejects.toMatchObject({ code: 'ERR_HBONE_REFUSED', status });
  });

  it.each<[Partial<ConnectOptions>, string]>([
    [{ authority: '10.0.0.9' }, 'authority'],
    [{ authority: '' }, 'authority'],
    [{ authority: 7 as never }, 'authority'],
    [{ peerIdentity: [] }, 'peerIdentity'],
    [{ peerIdentity: 'cluster.local/sa/x' }, 'peerIdentity'],
    [{ peerIdentity: [idOf('server'), 'x'] }, 'peerIdentity[1]'],
    [{ destination: { port: 0 } }, 'destination.port'],
    [{ destination: { host: '' } }, 'destination.host'],
    [{ headers: { 'Bad-Name': 'x' } }, 'headers.Bad-Name'],
  ])('%j is refused by name before anything is done', async (bad, field) => {
    let dials = 0;
    const dial = () => {
      dials++;
      return Promise.reject(new Error('no'));
    };
    await using client = new HboneClient({ credentials: clientCertificate, dial });
    const options = { authority: '10.0.0.9:80', peerIdentity: idOf('server'), ...bad };
    await expect(client.connect(options)).rejects.toMatchObject({ code: 'ERR_HBONE_INVALID', field });
    expect(dials).toBe(0);
  });

  it.each<[Partial<HboneClientOptions>, string, string]>([
    [{ credentials: undefined as never }, 'ERR_HBONE_INVALID', 'options.credentials'],
    [{ maxStreamsPerTunnel: 0 }, 'ERR_HBONE_INVALID', 'options.maxStreamsPerTunnel'],
    [{ idleTimeoutMs: 1.5 }, 'ERR_HBONE_INVALID', 'options.idleTimeoutMs'],
    [{ connectTimeoutMs: 2 ** 31 }, 'ERR_HBONE_INVALID', 'options.connectTimeoutMs'],
    [{ sendBufferBytes: 1 }, 'ERR_HBONE_INVALID', 'options.sendBufferBytes'],
    [{ http2: { maxFrameBytes: 1 } }, 'ERR_HTTP2_INVALID', 'options.maxFrameBytes'],
  ])('the option %j is refused when it is given', (bad, code, field) => {
    expect(() => new HboneClient({ credentials: clientCertificate, ...bad })).toThrow(
      expect.objectContaining({ code, field }),
    );
  });
});

describe('no tunnel to be had', () => {
  const to = (port: number) => ({ authority: '127.0.0.1:80', peerIdentity: idOf('server'), destination: { port } });

  it('nobody listens: ERR_HBONE_CONNECT with the cause', async () => {
    await using client = new HboneClient({ credentials: clientCertificate });
    const failure = await client.connect(to(1)).catch((error) => error);
    expect(failure).toMatchObject({ code: 'ERR_HBONE_CONNECT', cause: { code: 'ECONNREFUSED' } });
    expect(failure.message).toContain('127.0.0.1:1');
  });

  it('a dial that takes too long: ERR_HBONE_TIMEOUT, and it is told to stop', async () => {
    const clock = new ManualClock();
    let stopped = false;
    const dial = (_to: unknown, signal: AbortSignal) =>
      new Promise<Socket>(() => {
        signal.addEventListener('abort', () => {
          stopped = true;
        });
      });
    await using client = new HboneClient({ credentials: clientCertificate, clock, dial });
    const failed = expect(client.connect(to(1))).rejects.toMatchObject({
      code: 'ERR_HBONE_TIMEOUT',
      message: expect.stringContaining('connection to 127.0.0.1:1'),
    });
    await sleep(10);
    await clock.advance(10_000);
    await failed;
    expect(stopped).toBe(true);
  });

  it('a server that never answers TLS: ERR_HBONE_TIMEOUT, and its connection is closed', async () => {
    const closed = Promise.withResolvers<void>();
    const mute = createServer((socket) => socket.resume().on('close', () => closed.resolve()));
    const port = await listening(mute);
    await using client = new HboneClient({ credentials: clientCertificate, handshakeTimeoutMs: 100 });
    await expect(client.connect(to(port))).rejects.toMatchObject({ code: 'ERR_HBONE_TIMEOUT' });
    await closed.promise;
    mute.close();
  });

  it('a server that speaks no TLS: ERR_HBONE_TLS', async () => {
    const web = createServer((socket) => socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const port = await listening(web);
    await using client = new HboneClient({ credentials: clientCertificate });
    await expect(client.connect(to(port))).rejects.toMatchObject({ code: 'ERR_HBONE_TLS' });
    web.close();
  });

  it('another identity than expected: ERR_HBONE_PEER, and no CONNECT is sent (facts section 1.6)', async () => {
    await using mesh = await pair();
    const requests: HboneRequest[] = [];
    mesh.server.on('tunnel', (request) => requests.push(request));
    const destination = { host: '127.0.0.1', port: mesh.hbone };
    const connecting = mesh.client.connect({ authority: '127.0.0.1:80', peerIdentity: idOf('other'), destination });
    await expect(connecting).rejects.toMatchObject({
      code: 'ERR_HBONE_PEER',
      cause: { code: 'ERR_IDENTITY_UNEXPECTED_PEER' },
    });
    await sleep(50);
    expect(requests).toEqual([]);
  });

  it('a server of another root: ERR_HBONE_PEER', async () => {
    const other = await CertificateAuthority.create({ trustDomain: 'cluster.local' });
    await using mesh = await pair({ server: { credentials: await other.issue({ identity: idOf('server') }) } });
    await expect(mesh.open()).rejects.toMatchObject({ code: 'ERR_HBONE_PEER' });
  });

  it('a client that the server does not believe: the stream fails, whatever TLS 1.3 has let through', async () => {
    const other = await CertificateAuthority.create({ trustDomain: 'cluster.local' });
    const { chainPem, key, ...rest } = await other.issue({ identity: idOf('client') });
    const credentials = { ...rest, chainPem, key, rootsPem: authority.rootsPem };
    await using mesh = await pair({ client: { credentials } });
    const refused = once(mesh.server, 'refused');
    const failure = await mesh.open().catch((error) => error);
    expect(['ERR_HBONE_TUNNEL_LOST', 'ERR_HBONE_TLS']).toContain(failure.code);
    expect((await refused)[0]).toMatchObject({ code: 'ERR_HBONE_PEER' });
  });

  it('credentials that cannot be had, or have no key: ERR_HBONE_CREDENTIALS', async () => {
    const because = new Error('the CA is away');
    await using client = new HboneClient({ credentials: () => Promise.reject(because) });
    const failure = await client.connect(to(1)).catch((error) => error);
    expect(failure).toMatchObject({ code: 'ERR_HBONE_CREDENTIALS', cause: because });
    const { key, ...keyless } = clientCertificate;
    await using other = new HboneClient({ credentials: keyless });
    await expect(other.connect(to(1))).rejects.toMatchObject({ code: 'ERR_HBONE_CREDENTIALS' });
  });

  it('no answer to CONNECT in time: ERR_HBONE_TIMEOUT, and the stream is reset', async () => {
    await using mesh = await pair({ client: { answerTimeoutMs: 100 } });
    const gone = Promise.withResolvers<unknown>();
    mesh.server.on('tunnel', ({ signal }) => {
      signal.addEventListener('abort', () => gone.resolve(signal.reason));
    });
    await expect(mesh.open()).rejects.toMatchObject({ code: 'ERR_HBONE_TIMEOUT' });
    expect(await gone.promise).toMatchObject({ code: 'ERR_HBONE_STREAM_RESET', errorCode: 8 });
  });
});

it('a server whose answer and whose mistake come in one piece: the stream is given, then its error, and nobody’s process ends', async () => {
  const server = createTlsServer({ ...tlsOptions(serverCertificate), requestCert: true }, (socket) => {
    socket.on('error', () => {});
    socket.write(Buffer.concat([frame(SETTINGS, 0, 0), frame(SETTINGS, ACK, 0)]));
    let seen = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      seen = Buffer.concat([seen, chunk]);
      if (!hasFrame(seen.subarray(PREFACE.length), HEADERS)) return;
      const [status200, oversized] = [Buffer.from([0x88]), Buffer.from([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])];
      socket.write(Buffer.concat([frame(HEADERS, END_HEADERS, 1, status200), oversized]));
    });
  });
  const port = await listening(server);
  await using client = new HboneClient({ credentials: clientCertificate });
  const to = { authority: 'a:1', peerIdentity: idOf('server'), destination: { host: '127.0.0.1', port } };
  const stream = await client.connect(to);
  const [error] = await once(stream, 'error');
  expect(error).toMatchObject({ code: 'ERR_HBONE_TUNNEL_LOST', cause: { code: 'ERR_HTTP2_FRAME_SIZE' } });
  expect(stream.destroyed).toBe(true);
  server.close();
});

describe('AbortSignal', () => {
  it('while the CONNECT is pending: the reason, and the stream is reset at once', async () => {
    await using mesh = await pair();
    const asked = once(mesh.server, 'tunnel') as Promise<[HboneRequest]>;
    const controller = new AbortController();
    const destination = { host: '127.0.0.1', port: mesh.hbone };
    const options = { authority: '127.0.0.1:80', peerIdentity: idOf('server'), destination };
    const connecting = mesh.client.connect({ ...options, signal: controller.signal });
    const [request] = await asked;
    controller.abort('the application went away');
    await expect(connecting).rejects.toBe('the application went away');
    await once(request.signal, 'abort');
    expect(request.settled).toBe(true);
    // Too late to be told, and no harm done.
    expect(request.accept().destroyed).toBe(true);
    expect(mesh.client.tunnelCount).toBe(1);
  });

  it('while the dial is under way, and nobody else waits for it: the dial is given up', async () => {
    let given: AbortSignal | undefined;
    const dial = (_to: unknown, signal: AbortSignal) => {
      given = signal;
      return new Promise<Socket>(() => {});
    };
    await using client = new HboneClient({ credentials: clientCertificate, dial });
    const controller = new AbortController();
    const options = { authority: '127.0.0.1:80', peerIdentity: idOf('server'), signal: controller.signal };
    const connecting = client.connect(options);
    await sleep(20);
    controller.abort('enough');
    await expect(connecting).rejects.toBe('enough');
    expect(given?.aborted).toBe(true);
    await expect(client.connect(options)).rejects.toBe('enough');
  });

  it('one that comes while an abandoned dial is ending gets a dial of its own', async () => {
    await using mesh = await pair();
    mesh.server.on('tunnel', accept);
    const controller = new AbortController();
    const to = { authority: '127.0.0.1:80', peerIdentity: idOf('server'), destination: { port: mesh.hbone } };
    const first = mesh.client.connect({ ...to, signal: controller.signal });
    const failed = expect(first).rejects.toBe('enough');
    controller.abort('enough');
    const stream = await mesh.client.connect(to);
    await failed;
    stream.destroy();
  });

  it('leaves a stream that was given alone', async () => {
    await using mesh = await pair();
    mesh.server.on('tunnel', echo);
    const controller = new AbortController();
    const to = { authority: '127.0.0.1:80', peerIdentity: idOf('server'), destination: { port: mesh.hbone } };
    const stream = await mesh.client.connect({ ...to, signal: controller.signal });
    controller.abort();
    stream.end('still here');
    expect(await text(stream)).toBe('still here');
  });
});

describe('the pool (facts section 1.8)', () => {
  it('shares by destination, credentials and expected identities, and dials once for all who wait', async () => {
    let dials = 0;
    const dial: HboneClientOptions['dial'] = (...args) => {
      dials++;
      return dialTcp(...args);
    };
    await using mesh = await pair({ client: { dial } });
    mesh.server.on('tunnel', accept);
    await Promise.all(Array.from({ length: 20 }, () => mesh.open()));
    expect(dials).toBe(1);
    const to = { authority: '127.0.0.1:80', destination: { host: '127.0.0.1', port: mesh.hbone } };
    await mesh.client.connect({ ...to, peerIdentity: [idOf('server'), idOf('other')] });
    expect(dials).toBe(2);
    await mesh.client.connect({ ...to, peerIdentity: idOf('server'), credentials: await certificateFor('client') });
    expect(dials).toBe(3);
    const localAddress = '127.0.0.1';
    const destination = { ...to.destination, localAddress };
    await mesh.client.connect({ ...to, peerIdentity: idOf('server'), destination });
    expect(dials).toBe(4);
    expect(mesh.client.tunnelCount).toBe(4);
  });

  it('a dial that fails fails those who waited for it, and the next one is tried anew', async () => {
    let dials = 0;
    const dial: HboneClientOptions['dial'] = (...args) => {
      dials++;
      return dials === 1 ? Promise.reject(new Error('once')) : dialTcp(...args);
    };
    await using mesh = await pair({ client: { dial } });
    mesh.server.on('tunnel', accept);
    const all = await Promise.allSettled(Array.from({ length: 5 }, () => mesh.open()));
    expect(all.map(({ status }) => status)).toEqual(Array(5).fill('rejected'));
    await mesh.open();
    expect(dials).toBe(2);
  });

  it('a tunnel without streams is released after its time, and not before', async () => {
    const clock = new ManualClock();
    await using mesh = await pair({ client: { clock, idleTimeoutMs: 5_000, http2: { keepaliveIntervalMs: 0 } } });
    mesh.server.on('tunnel', accept);
    const gone = once(mesh.server, 'disconnection');
    const stream = await mesh.open();
    await clock.advance(60_000);
    expect(mesh.client.tunnelCount).toBe(1);
    stream.destroy();
    await sleep(20);
    await clock.advance(4_000);
    expect(mesh.client.tunnelCount).toBe(1);
    await clock.advance(1_000);
    expect(mesh.client.tunnelCount).toBe(0);
    await gone;
  });

  it('uses a tunnel again whose streams have ended', async () => {
    await using mesh = await pair({ client: { maxStreamsPerTunnel: 2 } });
    mesh.server.on('tunnel', accept);
    for (let turn = 0; turn < 5; turn++) {
      const streams = await Promise.all([mesh.open(), mesh.open()]);
      for (const stream of streams) stream.destroy();
    }
    expect(mesh.client.tunnelCount).toBe(1);
  });

  it('maxTunnels: an unused one makes room, else ERR_HBONE_TOO_MANY', async () => {
    await using mesh = await pair({ client: { maxTunnels: 1, maxStreamsPerTunnel: 1 } });
    mesh.server.on('tunnel', accept);
    const first = await mesh.open();
    await expect(mesh.open()).rejects.toMatchObject({ code: 'ERR_HBONE_TOO_MANY' });
    first.destroy();
    await once(first, 'close');
    const to = { authority: '127.0.0.1:80', destination: { host: '127.0.0.1', port: mesh.hbone } };
    await mesh.client.connect({ ...to, peerIdentity: [idOf('server'), idOf('other')] });
    expect(mesh.client.tunnelCount).toBe(1);
  });

  it('maxWaiting: ERR_HBONE_TOO_MANY', async () => {
    const dial = () => new Promise<Socket>(() => {});
    await using client = new HboneClient({ credentials: clientCertificate, dial, maxWaiting: 2 });
    const to = { authority: '127.0.0.1:80', peerIdentity: idOf('server') };
    const waiting = [client.connect(to), client.connect(to)].map((one) => one.catch((error) => error.code));
    await expect(client.connect(to)).rejects.toMatchObject({ code: 'ERR_HBONE_TOO_MANY' });
    await client.close();
    expect(await Promise.all(waiting)).toEqual(['ERR_HBONE_CLOSED', 'ERR_HBONE_CLOSED']);
  });

  it('a server that takes one stream at a time gets a tunnel for each', async () => {
    await using mesh = await pair({ server: { http2: { maxConcurrentStreams: 1 } } });
    mesh.server.on('tunnel', accept);
    const streams = await Promise.all(Array.from({ length: 4 }, () => mesh.open()));
    expect(streams.length).toBe(4);
    expect(mesh.client.tunnelCount).toBe(4);
  });

  it.each([
    [1, 'a stream'],
    [2, 'ERR_HBONE_STREAM_RESET'],
  ])('RFC 9113 section 8.7: a CONNECT refused unprocessed %i times gives %s', async (times, expected) => {
    let left = times;
    const server = http2.createSecureServer({ ...tlsOptions(serverCertificate), requestCert: true });
    server.on('stream', (stream) => {
      stream.on('error', () => {});
      if (left-- > 0) stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
      else stream.respond({ ':status': 200 });
    });
    const port = await listening(server);
    await using client = new HboneClient({ credentials: clientCertificate });
    const to = { authority: 'a:1', peerIdentity: idOf('server'), destination: { host: '127.0.0.1', port } };
    const outcome = await client.connect(to).then(
      () => 'a stream',
      (error) => error.code,
    );
    expect(outcome).toBe(expected);
    server.close();
  });

  it('facts section 1.11: a rotated certificate is for new tunnels, live ones keep theirs', async () => {
    let serial = 0;
    await using store = createCertificateStore({
      issue: async (identity, signal) => {
        serial++;
        return authority.issue({ identity, signal });
      },
    });
    let current = await store.get(idOf('client'));
    await using mesh = await pair({ client: { credentials: () => current, maxStreamsPerTunnel: 1 } });
    const seen: string[] = [];
    mesh.server.on('connection', ({ peer }) => seen.push(peer.serviceAccount));
    mesh.server.on('tunnel', echo);
    const before = await mesh.open();
    current = await certificateFor('rotated');
    const after = await mesh.open();
    expect(seen).toEqual(['client', 'rotated']);
    before.end('before');
    after.end('after');
    expect([await text(before), await text(after)]).toEqual(['before', 'after']);
    expect(serial).toBe(1);
  });
});

describe('the end of a client', () => {
  it('close: streams are destroyed, told as a reset to the other side; what comes after fails', async () => {
    await using mesh = await pair();
    const accepted = Promise.withResolvers<HboneStream>();
    mesh.server.on('tunnel', (request) => accepted.resolve(request.accept()));
    const stream = await mesh.open();
    const failed = once(await accepted.promise, 'error');
    await mesh.client.close();
    expect(stream.destroyed).toBe(true);
    await expect(text(stream)).rejects.toThrow('Premature close');
    expect((await failed)[0]).toMatchObject({ code: 'ERR_HBONE_TUNNEL_LOST' });
    await expect(mesh.open()).rejects.toMatchObject({ code: 'ERR_HBONE_CLOSED' });
    expect(mesh.client.tunnelCount).toBe(0);
  });

  it('drain: what is open ends by itself, and then the tunnels close', async () => {
    await using mesh = await pair();
    mesh.server.on('tunnel', echo);
    const stream = await mesh.open();
    const drained = mesh.client.drain();
    await expect(mesh.open()).rejects.toMatchObject({ code: 'ERR_HBONE_CLOSED' });
    stream.end('to the last byte');
    expect(await text(stream)).toBe('to the last byte');
    await drained;
    expect(mesh.client.tunnelCount).toBe(0);
  });

  it('drain: cuts what is still open after its time', async () => {
    await using mesh = await pair({ client: { drainTimeoutMs: 50 } });
    mesh.server.on('tunnel', accept);
    const stream = await mesh.open();
    await mesh.client.drain();
    expect(stream.destroyed).toBe(true);
  });

  it('drain: nothing is open, so it is done; a dial under way fails', async () => {
    const dial = () => new Promise<Socket>(() => {});
    const client = new HboneClient({ credentials: clientCertificate, dial });
    const connecting = client.connect({ authority: '127.0.0.1:80', peerIdentity: idOf('server') });
    const failed = expect(connecting).rejects.toMatchObject({ code: 'ERR_HBONE_CLOSED' });
    await client.drain();
    await failed;
  });

  it('leaves no timer behind', async () => {
    const clock = new ManualClock();
    const mesh = await pair({ client: { clock } });
    mesh.server.on('tunnel', accept);
    (await mesh.open()).destroy();
    const stream = await mesh.open();
    stream.on('error', () => {});
    await mesh[Symbol.asyncDispose]();
    await sleep(10);
    expect(clock.pending).toBe(0);
  });
});

it('the server’s GOAWAY: open streams go on, new ones get a new tunnel', async () => {
  await using first = await pair({ server: { drainTimeoutMs: 5_000 } });
  first.server.on('tunnel', echo);
  const stream = await first.open();
  const drained = first.server.drain();
  await sleep(50);
  // The port is closed, so that a new tunnel is what fails: the old one takes none.
  await expect(first.open()).rejects.toMatchObject({ code: 'ERR_HBONE_CONNECT' });
  stream.end('until the end');
  expect(await text(stream)).toBe('until the end');
  await drained;
});

it('a trust domain of one’s own', async () => {
  const ca = await CertificateAuthority.create({ trustDomain: 'other.example' });
  const id = (serviceAccount: string) =>
    formatSpiffeId({ trustDomain: 'other.example', namespace: 'n', serviceAccount });
  const server = await ca.issue({ identity: id('server') });
  const client = await ca.issue({ identity: id('client') });
  await using mesh = await pair({ server: { credentials: server }, client: { credentials: client } });
  mesh.server.on('tunnel', echo);
  const destination = { host: '127.0.0.1', port: mesh.hbone };
  const stream = await mesh.client.connect({ authority: 'a:1', peerIdentity: id('server'), destination });
  stream.end('x');
  expect(await text(stream)).toBe('x');
});
