import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  createSecureServer,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, connect as connectTcp, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { EngineMemory, TcpListener, TlsContext, TunnelPool, TunnelStream } from '../../src/engine/index.ts';
import { openConnecting, openListener } from '../../src/socket/index.ts';
import { Loopback } from './loopback.ts';
import { httpbinCredentials, sleepCredentials, verifier } from './mesh.ts';
import { localPort } from './sockets.ts';
import { TurningReactor } from './turning.ts';

const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex');

async function collect(stream: NodeJS.ReadableStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(stream, 'end');
  return Buffer.concat(chunks);
}

describe('node:http2 as the client of an engine server', () => {
  async function start(target: (socket: Socket) => void, use: (open: () => ClientHttp2Stream) => Promise<void>) {
    const { loopback, hbonePort, targetPort } = await Loopback.start(target, {
      serverContext: new TlsContext(httpbinCredentials),
    });
    await using _ = loopback;
    const session: ClientHttp2Session = connectHttp2('https://127.0.0.1', {
      createConnection: () =>
        connectTls({
          host: '127.0.0.1',
          port: hbonePort,
          cert: sleepCredentials.chainPem,
          key: sleepCredentials.keyPem,
          ca: sleepCredentials.rootsPem,
          ALPNProtocols: ['h2'],
          checkServerIdentity: () => undefined,
        }),
    });
    session.on('error', () => {});
    try {
      await use(() => session.request({ ':method': 'CONNECT', ':authority': `127.0.0.1:${targetPort}` }));
      return loopback;
    } finally {
      session.destroy();
    }
  }

  it('brings 8 MiB through a CONNECT stream and back, then ends', async () => {
    const data = randomBytes(8 << 20);
    await start(
      (socket) => socket.pipe(socket),
      async (open) => {
        const stream = open();
        const answer = once(stream, 'response');
        const echoed = collect(stream);
        stream.end(data);
        expect((await answer)[0][':status']).toBe(200);
        expect(sha256(await echoed)).toBe(sha256(data));
      },
    );
  });

  it('64 streams at once, each with its own bytes', async () => {
    await start(
      (socket) => socket.pipe(socket),
      async (open) => {
        await Promise.all(
          Array.from({ length: 64 }, async () => {
            const data = randomBytes(50_000);
            const stream = open();
            stream.end(data);
            expect(sha256(await collect(stream))).toBe(sha256(data));
          }),
        );
      },
    );
  });

  it('a reset of the target arrives as CONNECT_ERROR (RFC 9113 section 8.5), never as an end', async () => {
    await start(
      (socket) => {
        socket.once('data', () => socket.resetAndDestroy());
      },
      async (open) => {
        const stream = open();
        stream.write('x');
        stream.resume();
        const [error] = await once(stream, 'error');
        expect(stream.rstCode).toBe(10);
        expect(error.message).toMatch(/NGHTTP2_CONNECT_ERROR/);
      },
    );
  });

  it('a reset of the client arrives at the target as RST', async () => {
    let code: Promise<string> | undefined;
    await start(
      (socket) => {
        socket.resume();
        code = once(socket, 'error').then(([error]) => error.code);
      },
      async (open) => {
        const stream = open();
        stream.write('x');
        await once(stream, 'response');
        // The kernel answers for a target that has not accepted yet.
        while (code === undefined) await setImmediate();
        // Not close(), which says END_STREAM first.
        stream.on('error', () => {}).destroy(new Error('gone'));
        expect(await code).toBe('ECONNRESET');
      },
    );
  });
});

describe('an engine client with node:http2 as its server', () => {
  async function start(serve: (stream: ServerHttp2Stream) => void, use: (port: number) => Promise<void>) {
    const server = createSecureServer({
      cert: httpbinCredentials.chainPem,
      key: httpbinCredentials.keyPem,
      ca: httpbinCredentials.rootsPem,
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: ['h2'],
    });
    const requests: Record<string, unknown>[] = [];
    // Node calls CONNECT requests streams too, where its compatibility layer would refuse them.
    server.on('session', (session) => {
      session.on('error', () => {});
      session.on('stream', (stream, headers) => {
        requests.push(headers);
        stream.on('error', () => {});
        serve(stream as ServerHttp2Stream);
      });
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port: serverPort } = server.address() as AddressInfo;
    using reactor = new TurningReactor();
    const memory = new EngineMemory();
    const context = new TlsContext(sleepCredentials);
    const pool = new TunnelPool(reactor, memory);
    const dial = () => openConnecting({ host: '127.0.0.1', port: serverPort }).release();
    const fd = openListener({ host: '127.0.0.1', port: 0 }).release();
    const listener = new TcpListener(reactor, fd, {
      onConnection: (fd) => {
        const stream = new TunnelStream(reactor, memory, { onStreamClosed: () => {} });
        stream.attach(fd, false);
        pool.open({ key: 'node', context, verifier, dial }, stream, '10.0.0.1:80', [['baggage', 'k8s.pod.name=sleep']]);
      },
    });
    try {
      await use(localPort(fd));
    } finally {
      pool.close();
      listener.close();
      context.close();
      server.close();
    }
    return requests;
  }

  async function dialApp(port: number): Promise<Socket> {
    const socket = connectTcp({ port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  }

  it('facts 1.2: sends CONNECT with authority and headers, and 8 MiB both ways', async () => {
    const data = randomBytes(8 << 20);
    const requests = await start(
      (stream) => {
        stream.respond({ ':status': 200 });
        stream.pipe(stream);
      },
      async (port) => {
        const socket = await dialApp(port);
        const echoed = collect(socket);
        socket.end(data);
        expect(sha256(await echoed)).toBe(sha256(data));
      },
    );
    expect(requests).toEqual([
      expect.objectContaining({ ':method': 'CONNECT', ':authority': '10.0.0.1:80', baggage: 'k8s.pod.name=sleep' }),
    ]);
    expect(Object.keys(requests[0]!)).not.toContain(':path');
  });

  it('a reset by the server arrives as RST', async () => {
    await start(
      (stream) => {
        stream.respond({ ':status': 200 });
        stream.write('half an ans');
        stream.once('data', () => stream.destroy(new Error('gone')));
      },
      async (port) => {
        const socket = await dialApp(port);
        socket.write('x');
        socket.resume();
        await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
      },
    );
  });

  it('a refusal arrives as RST', async () => {
    await start(
      (stream) => stream.respond({ ':status': 503 }, { endStream: true }),
      async (port) => {
        const socket = await dialApp(port);
        socket.resume();
        await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
      },
    );
  });
});
