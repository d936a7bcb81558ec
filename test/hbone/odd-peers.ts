import { once } from 'node:events';
import http2 from 'node:http2';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { certificateOf } from '../peers/certificates.ts';
import type { ClientProxy, Proxies, ProxyOptions, ServerProxy } from '../peers/interop.ts';
import { dial, take } from './fidelity.ts';
import {
  ACK,
  CONNECT_BLOCK,
  DATA,
  END_HEADERS,
  everything,
  frame,
  GOAWAY,
  goawayCode,
  HEADERS,
  PING,
  PREFACE,
  RST_STREAM,
  rawTls,
  SETTINGS,
  tlsOptions,
  WINDOW_UPDATE,
} from './raw-peer.ts';

const [PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM] = [1, 3, 6, 7];
const [CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM] = [8, 9, 10, 11];
const CONTINUATION = 9;
const MIB = 1 << 20;
const SLOW = { timeout: 30_000 };
/** Less than the 20 s of HTTP/2's own limit, and of what a test does not want to be its answer. */
const IN_TIME = { timeout: 15_000 };
/** HPACK: `:status 200`, entry 8 of the static table. */
const STATUS_200 = Buffer.from([0x88]);
const HELLO = Buffer.concat([frame(SETTINGS, 0, 0), frame(SETTINGS, ACK, 0)]);
const QUICK: ProxyOptions = { handshakeMs: 300, answerMs: 300 };
/** Beside what is unwanted, a flood's bytes themselves are in memory for a while. */
const MOST_GROWTH_BYTES = 48 * MIB;

const repeat = (count: number, make: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => make(index)));
const open = (streamId: number) => frame(HEADERS, END_HEADERS, streamId, CONNECT_BLOCK);
const code = (value: number) => Buffer.from([0, 0, 0, value]);

/** One header of 3,900 bytes for the table, then a reference to it for every byte: 60 MB out of 20 KB (CVE-2016-6581). */
const BOMB = Buffer.concat([
  CONNECT_BLOCK,
  Buffer.from([0x40, 1, 0x78, 0x7f, 0xbd, 0x1d]),
  Buffer.alloc(3900, 'y'),
  Buffer.alloc(15_000, 0xbe),
]);

/** What either end may do to the other, as bytes after the greeting; the code is that of the GOAWAY it gets. */
const floods: [what: string, bytes: Buffer, goaway: number][] = [
  ['garbage', Buffer.alloc(4000, 0xff), FRAME_SIZE_ERROR],
  ['a frame over the limit', Buffer.from([0x20, 0, 0, DATA, 0, 0, 0, 0, 1]), FRAME_SIZE_ERROR],
  ['a flood of SETTINGS', repeat(200, () => frame(SETTINGS, 0, 0)), ENHANCE_YOUR_CALM],
  ['a flood of PING', repeat(1500, () => frame(PING, 0, 0, Buffer.alloc(8))), ENHANCE_YOUR_CALM],
  ['a flood of frames of no known type', repeat(1500, () => frame(0x42, 0, 0)), ENHANCE_YOUR_CALM],
];

/** Peers that are hostile, slow, or gone, at the wire: one suite for every implementation. */
export function oddPeers(ours: Proxies): void {
  describe(`${ours.name}: odd clients`, () => {
    oddClients(ours);
  });
  describe(`${ours.name}: odd servers`, () => {
    oddServers(ours);
  });
  describe(`${ours.name}: what both ends say of themselves (facts section 1.7)`, () => {
    manners(ours);
  });
  describe(`${ours.name}: a peer that is gone`, () => {
    gone(ours);
  });
}

function oddClients({ startServer }: Proxies): void {
  it.each<[string, Buffer, number]>([
    ...floods,
    ['broken HPACK', frame(HEADERS, END_HEADERS, 1, Buffer.alloc(6, 0xff)), COMPRESSION_ERROR],
    ['a flood of empty DATA', Buffer.concat([open(1), repeat(1500, () => frame(DATA, 0, 1))]), ENHANCE_YOUR_CALM],
    [
      'a flood of CONTINUATION',
      Buffer.concat([frame(HEADERS, 0, 1), repeat(100, () => frame(CONTINUATION, 0, 1))]),
      ENHANCE_YOUR_CALM,
    ],
    [
      'rapid reset (CVE-2023-44487)',
      repeat(1000, (index) => Buffer.concat([open(2 * index + 1), frame(RST_STREAM, 0, 2 * index + 1, code(CANCEL))])),
      ENHANCE_YOUR_CALM,
    ],
    [
      'HPACK bombs, one after the other',
      repeat(150, (index) => headerFrames(2 * index + 1, index === 0 ? BOMB : BOMB.subarray(-15_000))),
      ENHANCE_YOUR_CALM,
    ],
  ])(
    '%s: cut with the right code; memory stays bounded, and nobody else notices',
    SLOW,
    async (_what, bytes, goaway) => {
      await using echo = await Echo.start();
      await using server = await startServer({ http2: { maxFailedStreamsPerSecond: 100 } });
      const honest = await honestStream(server, echo);
      const before = memoryNow();
      const hostile = await rawTls(server.port, tlsOptions(certificateOf('client')));
      const answered = everything(hostile);
      hostile.write(Buffer.concat([PREFACE, HELLO, bytes]));
      expect(goawayCode(await answered)).toBe(goaway);
      expect(memoryNow() - before).toBeLessThan(MOST_GROWTH_BYTES);
      await until(() => server.tunnels() === 1);
      expect(await honest.ask('still served')).toBe('still served');
      honest.close();
    },
  );

  it('garbage instead of HTTP/2', async () => {
    await using server = await startServer();
    const hostile = await rawTls(server.port, tlsOptions(certificateOf('client')));
    hostile.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
    expect(goawayCode(await everything(hostile))).toBe(PROTOCOL_ERROR);
    await until(() => server.tunnels() === 0);
  });

  it('an HPACK bomb costs its stream, and the next one is served', async () => {
    await using echo = await Echo.start();
    await using server = await startServer();
    const client = await RawPeer.client(server);
    client.write(headerFrames(1, BOMB));
    expect((await client.next(RST_STREAM)).payload).toEqual(code(ENHANCE_YOUR_CALM));
    client.write(connectTo(3, echo.port));
    expect((await client.next(HEADERS)).streamId).toBe(3);
    client.socket.destroy();
  });

  it('more than the window of a stream: that stream is reset', SLOW, async () => {
    await using echo = await Echo.start((socket) => socket.pause());
    await using server = await startServer();
    const client = await RawPeer.client(server);
    client.write(connectTo(1, echo.port));
    await client.next(HEADERS);
    // The target reads nothing; its kernel, and the proxy's, take some.
    let reset: Buffer | undefined;
    client.next(RST_STREAM).then(({ payload }) => {
      reset = payload;
    });
    for (let sent = 0; sent < 15 && reset === undefined; sent++) {
      client.write(frame(DATA, 0, 1, Buffer.alloc(MIB)));
      await sleep(20);
    }
    await until(() => reset !== undefined);
    expect(reset).toEqual(code(FLOW_CONTROL_ERROR));
    client.socket.destroy();
  });

  it('slowloris: TCP without TLS, TLS that stops halfway, TLS without HTTP/2; all cut in time', IN_TIME, async () => {
    await using server = await startServer(QUICK);
    const silent = await dial(server.port);
    const halfway = await dial(server.port);
    halfway.write(Buffer.from('16030100c5010000c10303', 'hex'));
    const dripping = await dial(server.port);
    const drip = setInterval(() => dripping.write(Buffer.from([0x16])), 50);
    const waiting = await rawTls(server.port, tlsOptions(certificateOf('client')));
    const preface = await rawTls(server.port, tlsOptions(certificateOf('client')));
    preface.write(PREFACE.subarray(0, 10));
    await Promise.all(
      [silent, halfway, dripping, waiting, preface].map((socket) => {
        socket.once('end', () => socket.end()).resume();
        return new Promise((resolve) => socket.once('close', resolve));
      }),
    );
    clearInterval(drip);
    await until(() => server.tunnels() === 0);
    expect(server.refused()).toBe(3);
  });

  it('TLS that is truncated: in the handshake, and in the middle of a transfer', async () => {
    const ended = Promise.withResolvers<string>();
    await using echo = await Echo.start((socket) => {
      socket
        .on('error', (error: NodeJS.ErrnoException) => ended.resolve(error.code!))
        .on('end', () => ended.resolve('a clean end'));
      socket.resume();
    });
    await using server = await startServer();
    const early = await dial(server.port);
    early.end(Buffer.from('16030100c5010000c10303', 'hex'));
    early.resume();
    await once(early, 'close');
    const client = await RawPeer.client(server);
    client.write(connectTo(1, echo.port));
    await client.next(HEADERS);
    client.write(frame(DATA, 0, 1, Buffer.from('half of the ')));
    await sleep(50);
    // The descriptor alone: no close_notify, as a proxy that was killed.
    client.cut();
    expect(await ended.promise).toBe('ECONNRESET');
    await until(() => server.tunnels() === 0);
  });

  it(
    'answers PING within a second while 20 streams move all they can, both ways (facts section 1.7)',
    SLOW,
    async () => {
      await using echo = await Echo.start();
      await using server = await startServer();
      const socket = await rawTls(server.port, tlsOptions(certificateOf('client')));
      const session = http2.connect('https://a', {
        createConnection: () => socket,
        settings: { initialWindowSize: 4 * MIB },
      });
      session.on('error', () => {});
      let moved = 0;
      const chunk = Buffer.alloc(MIB);
      for (let index = 0; index < 20; index++) {
        const stream = session.request({ ':method': 'CONNECT', ':authority': `127.0.0.1:${echo.port}` });
        const more = () => {
          while (!stream.destroyed && stream.write(chunk));
        };
        stream
          .on('error', () => {})
          .on('drain', more)
          .on('response', more);
        stream.on('data', (data: Buffer) => {
          moved += data.length;
        });
      }
      await until(() => moved > 20 * MIB);
      for (let count = 0; count < 5; count++) {
        const before = moved;
        const [error, tookMs] = await new Promise<[Error | null, number]>((resolve) => {
          session.ping((problem, duration) => resolve([problem, duration]));
        });
        expect(error).toBe(null);
        expect(tookMs).toBeLessThan(1000);
        await until(() => moved > before + MIB);
      }
      session.destroy();
      socket.destroy();
    },
  );
}

function oddServers(ours: Proxies): void {
  const start = async (behave: (peer: RawPeer, index: number) => void, options: ProxyOptions = {}) => {
    const servers: RawPeer[] = [];
    const tls = createTlsServer({
      ...tlsOptions(certificateOf('server')),
      requestCert: true,
      rejectUnauthorized: false,
    });
    tls.on('secureConnection', (socket) => {
      const peer = new RawPeer(
        socket.on('error', () => {}),
        PREFACE.length,
      );
      servers.push(peer);
      behave(peer, servers.length - 1);
    });
    tls.on('tlsClientError', () => {});
    const client = await startClientOf(ours, await listening(tls), options);
    return {
      servers,
      client,
      async [Symbol.asyncDispose]() {
        await client[Symbol.asyncDispose]();
        for (const { socket } of servers) socket.destroy();
        tls.close();
      },
    };
  };

  it.each<[string, Buffer, number]>([
    ...floods,
    ['broken HPACK', frame(HEADERS, END_HEADERS, 1, Buffer.alloc(6, 0xff)), COMPRESSION_ERROR],
    ['a flood of empty DATA', repeat(1500, () => frame(DATA, 0, 1)), ENHANCE_YOUR_CALM],
    [
      'a flood of CONTINUATION',
      Buffer.concat([frame(HEADERS, 0, 1), repeat(100, () => frame(CONTINUATION, 0, 1))]),
      ENHANCE_YOUR_CALM,
    ],
    [
      'a flood of informational answers',
      repeat(1500, () => frame(HEADERS, END_HEADERS, 3, Buffer.from([0x08, 3, 0x31, 0x30, 0x33]))),
      ENHANCE_YOUR_CALM,
    ],
    ['a stream that was never opened', frame(DATA, 0, 99, Buffer.from('x')), PROTOCOL_ERROR],
    ['PUSH_PROMISE', frame(5, END_HEADERS, 1, Buffer.from([0, 0, 0, 2, 0x88])), PROTOCOL_ERROR],
  ])(
    '%s: cut with the right code; its applications are reset, the next one gets a new tunnel',
    SLOW,
    async (what, bytes, goaway) => {
      const ended = Promise.withResolvers<Buffer>();
      await using hostile = await start(async (peer, index) => {
        peer.write(HELLO);
        if (index > 0) return;
        everything(peer.socket as TLSSocket).then(ended.resolve);
        await peer.next(HEADERS);
        peer.write(frame(HEADERS, END_HEADERS, 1, STATUS_200));
        if (what.includes('informational')) await peer.next(HEADERS);
        peer.write(bytes);
      });
      const before = memoryNow();
      const application = await dial(hostile.client.port);
      const second = what.includes('informational') ? await dial(hostile.client.port) : undefined;
      application.resume();
      await expect(once(application, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
      expect(goawayCode((await ended.promise).subarray(PREFACE.length))).toBe(goaway);
      expect(memoryNow() - before).toBeLessThan(MOST_GROWTH_BYTES);
      const next = await dial(hostile.client.port);
      await until(() => hostile.servers.length === 2);
      await hostile.servers[1]!.next(HEADERS);
      for (const socket of [next, second]) socket?.destroy();
    },
  );

  it.each<[string, ProxyOptions, (peer: RawPeer) => void]>([
    ['says no SETTINGS', { ...QUICK, answerMs: 20_000 }, () => {}],
    ['answers no CONNECT', QUICK, (peer) => peer.write(HELLO)],
  ])('slowloris: a server that %s: the application is reset in time', IN_TIME, async (_what, options, behave) => {
    await using slow = await start(behave, options);
    const application = await dial(slow.client.port);
    application.resume();
    await expect(once(application, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('slowloris: a server that does no TLS: the application is reset in time', IN_TIME, async () => {
    const sockets: Socket[] = [];
    const tcp = createServer((socket) => sockets.push(socket.on('error', () => {})));
    await using client = await startClientOf(ours, await listening(tcp), { ...QUICK, answerMs: 20_000 });
    const application = await dial(client.port);
    application.resume();
    await expect(once(application, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    for (const socket of sockets) socket.destroy();
    tcp.close();
  });

  it('an application that goes away while its CONNECT is pending: RST_STREAM at once', async () => {
    await using server = await start((peer) => peer.write(HELLO));
    const [application, other] = [await dial(server.client.port), await dial(server.client.port)];
    await until(() => server.servers.length === 1);
    const peer = server.servers[0]!;
    const asked = [(await peer.next(HEADERS)).streamId, (await peer.next(HEADERS)).streamId];
    // FIN alone would be no going away: half-close, and an answer is waited for.
    application.resetAndDestroy();
    const { streamId, payload } = await peer.next(RST_STREAM);
    expect(asked).toContain(streamId);
    expect([CANCEL, CONNECT_ERROR]).toContain(payload[3]);
    other.destroy();
  });

  it.each<[string, (peer: RawPeer, streamId: number) => void]>([
    ['REFUSED_STREAM', (peer, streamId) => peer.write(frame(RST_STREAM, 0, streamId, code(REFUSED_STREAM)))],
    ['GOAWAY with a lower last id', (peer) => peer.write(frame(GOAWAY, 0, 0, Buffer.from([0, 0, 0, 1, 0, 0, 0, 0])))],
  ])('%s: a CONNECT that nobody has looked at goes to another tunnel (RFC 9113 section 8.7)', async (_what, refuse) => {
    await using server = await start(async (peer, index) => {
      peer.write(HELLO);
      for (;;) {
        const { streamId } = await peer.next(HEADERS);
        if (index === 0 && streamId > 1) refuse(peer, streamId);
        else {
          peer.write(frame(HEADERS, END_HEADERS, streamId, STATUS_200));
          peer.write(frame(DATA, 0, streamId, Buffer.from(`tunnel ${index}`)));
        }
      }
    });
    const first = await dial(server.client.port);
    expect(`${await take(first, 8)}`).toBe('tunnel 0');
    const second = await dial(server.client.port);
    expect(`${await take(second, 8)}`).toBe('tunnel 1');
    const third = await dial(server.client.port);
    expect(`${await take(third, 8)}`).toBe('tunnel 1');
    // And the stream that stood is not touched.
    first.write('still here');
    expect(`${(await server.servers[0]!.next(DATA)).payload}`).toBe('still here');
    for (const socket of [first, second, third]) socket.destroy();
  });

  it('more than the window of a stream: that stream is reset, and its application', SLOW, async () => {
    await using server = await start(async (peer) => {
      peer.write(HELLO);
      await peer.next(HEADERS);
      peer.write(frame(HEADERS, END_HEADERS, 1, STATUS_200));
    });
    const application = (await dial(server.client.port)).pause();
    await until(() => server.servers.length === 1);
    const peer = server.servers[0]!;
    let reset: Buffer | undefined;
    peer.next(RST_STREAM).then(({ payload }) => {
      reset = payload;
    });
    for (let sent = 0; sent < 15 && reset === undefined; sent++) {
      peer.write(frame(DATA, 0, 1, Buffer.alloc(MIB)));
      await sleep(20);
    }
    await until(() => reset !== undefined);
    expect(reset).toEqual(code(FLOW_CONTROL_ERROR));
    application.resume();
    await expect(once(application, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('REFUSED_STREAM again and again: the application is reset after one more try', async () => {
    await using server = await start(async (peer) => {
      peer.write(HELLO);
      for (;;) peer.write(frame(RST_STREAM, 0, (await peer.next(HEADERS)).streamId, code(REFUSED_STREAM)));
    });
    const application = await dial(server.client.port);
    application.resume();
    await expect(once(application, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(server.servers.length).toBe(2);
  });
}

function manners(ours: Proxies): void {
  const settings = (payload: Buffer) => {
    const found = new Map<number, number>();
    for (let at = 0; at < payload.length; at += 6) found.set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    return found;
  };
  /** INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, and the window of the connection. */
  const announced = async (peer: RawPeer) => {
    const own = settings((await peer.next(SETTINGS)).payload);
    const update = await peer.next(WINDOW_UPDATE);
    return [own.get(4), own.get(5), update.streamId, update.payload.readUInt32BE(0) + 65_535];
  };

  it('a server announces windows of 4 MiB and 16 MiB and frames of 1 MiB, and takes one', SLOW, async () => {
    await using echo = await Echo.start();
    await using server = await ours.startServer();
    const client = await RawPeer.client(server, false);
    expect(await announced(client)).toEqual([4 * MIB, MIB, 0, 16 * MIB]);
    client.write(Buffer.concat([HELLO, frame(SETTINGS, 0, 0, Buffer.from([0, 4, 0, 0x40, 0, 0]))]));
    client.write(frame(WINDOW_UPDATE, 0, 0, Buffer.from([0, 0x40, 0, 0])));
    client.write(connectTo(1, echo.port));
    await client.next(HEADERS);
    client.write(frame(DATA, 0, 1, Buffer.alloc(MIB, 'm')));
    // Nothing was said about frames: those that come back are of 16 KiB at most.
    let largest = 0;
    for (let got = 0; got < MIB; ) {
      const { payload } = await client.next(DATA);
      largest = Math.max(largest, payload.length);
      got += payload.length;
    }
    expect(largest).toBeLessThanOrEqual(16_384);
    client.socket.destroy();
  });

  it('a client announces the same, and sends no larger frames than it may', SLOW, async () => {
    const seen = Promise.withResolvers<unknown>();
    const frames: number[] = [];
    const tls = createTlsServer({ ...tlsOptions(certificateOf('server')), requestCert: true });
    const echoed = Promise.withResolvers<void>();
    const sockets: TLSSocket[] = [];
    tls.on('secureConnection', async (socket) => {
      sockets.push(socket);
      const peer = new RawPeer(
        socket.on('error', () => {}),
        PREFACE.length,
      );
      seen.resolve(await announced(peer));
      peer.write(HELLO);
      await peer.next(HEADERS);
      peer.write(frame(HEADERS, END_HEADERS, 1, STATUS_200));
      peer.write(frame(DATA, 0, 1, Buffer.alloc(MIB, 'm')));
      for (let got = 0; got < 65_535; got += frames.at(-1)!) frames.push((await peer.next(DATA)).payload.length);
      echoed.resolve();
    });
    await using client = await startClientOf(ours, await listening(tls));
    const application = await dial(client.port);
    expect(await seen.promise).toEqual([4 * MIB, MIB, 0, 16 * MIB]);
    expect((await take(application, MIB)).length).toBe(MIB);
    application.write(Buffer.alloc(MIB));
    await echoed.promise;
    expect(Math.max(...frames)).toBeLessThanOrEqual(16_384);
    // A window of 65,535 bytes, and not a byte more.
    expect(frames.reduce((sum, bytes) => sum + bytes)).toBe(65_535);
    application.destroy();
    for (const socket of sockets) socket.destroy();
    tls.close();
  });

  it(
    '10 s and 20 s of keepalive by default, as options here: PING of both ends, after every answer',
    SLOW,
    async () => {
      const options = { http2: { keepaliveIntervalMs: 500, keepaliveTimeoutMs: 10_000 } };
      await using server = await ours.startServer(options);
      const client = await RawPeer.client(server);
      for (let count = 0; count < 2; count++) {
        const { payload, flags } = await client.next(PING);
        expect(flags).toBe(0);
        client.write(frame(PING, ACK, 0, payload));
      }
      client.socket.destroy();
      const tls = createTlsServer({ ...tlsOptions(certificateOf('server')), requestCert: true });
      const pinged = Promise.withResolvers<void>();
      const sockets: TLSSocket[] = [];
      tls.on('secureConnection', async (socket) => {
        sockets.push(socket);
        const peer = new RawPeer(
          socket.on('error', () => {}),
          PREFACE.length,
        );
        peer.write(HELLO);
        for (let count = 0; count < 2; count++) peer.write(frame(PING, ACK, 0, (await peer.next(PING)).payload));
        pinged.resolve();
      });
      await using own = await startClientOf(ours, await listening(tls), options);
      const application = await dial(own.port);
      await pinged.promise;
      application.destroy();
      for (const socket of sockets) socket.destroy();
      tls.close();
    },
  );
}

function gone(ours: Proxies): void {
  it(
    'vanishes in the middle of a transfer, without a packet: noticed by PING, and both applications are reset',
    SLOW,
    async () => {
      const target = Promise.withResolvers<string>();
      await using echo = await Echo.start((socket) => {
        const timer = setInterval(() => socket.write('more and more'), 5);
        socket
          .on('error', (error: NodeJS.ErrnoException) => target.resolve(error.code!))
          .on('end', () => target.resolve('a clean end'));
        socket.once('close', () => clearInterval(timer)).resume();
      });
      const options = { http2: { keepaliveIntervalMs: 200, keepaliveTimeoutMs: 300 } };
      await using server = await ours.startServer(options);
      await using wire = await Wire.start(server.port);
      await using client = await ours.startClient({
        hbone: wire.port,
        authority: `127.0.0.1:${echo.port}`,
        ...options,
      });
      const application = await dial(client.port);
      await take(application, 1000);
      wire.cut();
      application.resume();
      await expect(once(application, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
      expect(await target.promise).toBe('ECONNRESET');
      await until(() => server.tunnels() === 0);
      // And the way is free for the next.
      const next = await dial(client.port);
      await take(next, 1000);
      expect(client.tunnels()).toBe(2);
      next.destroy();
    },
  );

  it('is behind a slow wire: one with everything to send does not starve 20 siblings', SLOW, async () => {
    let drunk = 0;
    await using echo = await Echo.start((socket) => {
      socket.once('data', (first: Buffer) => {
        if (first.length === 10) socket.write(first);
        if (first.length === 10) return void socket.pipe(socket);
        socket.on('data', (chunk: Buffer) => {
          drunk += chunk.length;
        });
      });
    });
    await using server = await ours.startServer();
    await using wire = await Wire.start(server.port, 16 << 10);
    await using client = await ours.startClient({ hbone: wire.port, authority: `127.0.0.1:${echo.port}` });
    const greedy = await dial(client.port);
    const chunk = Buffer.alloc(MIB);
    const more = () => {
      while (!greedy.destroyed && greedy.write(chunk));
    };
    greedy.on('drain', more);
    more();
    await until(() => drunk > 4 * MIB);
    const siblings = await Promise.all(Array.from({ length: 20 }, () => dial(client.port)));
    for (let round = 0; round < 3; round++) {
      await Promise.all(
        siblings.map(async (socket) => {
          socket.write('a question');
          expect(`${await take(socket, 10)}`).toBe('a question');
        }),
      );
    }
    for (const socket of [greedy, ...siblings]) socket.destroy();
  });

  it('is behind a slow wire: eight with everything to send all get on', SLOW, async () => {
    const drunk: number[] = [];
    await using echo = await Echo.start((socket) => {
      const index = drunk.push(0) - 1;
      socket.on('data', (chunk: Buffer) => {
        drunk[index]! += chunk.length;
      });
    });
    await using server = await ours.startServer();
    await using wire = await Wire.start(server.port, 64 << 10);
    await using client = await ours.startClient({ hbone: wire.port, authority: `127.0.0.1:${echo.port}` });
    const chunk = Buffer.alloc(MIB);
    const greedy = await Promise.all(Array.from({ length: 8 }, () => dial(client.port)));
    for (const socket of greedy) {
      const more = () => {
        while (!socket.destroyed && socket.write(chunk));
      };
      socket.on('drain', more);
      more();
    }
    // More than a window each.
    await until(() => drunk.length === 8 && drunk.every((bytes) => bytes > 5 * MIB));
    expect(Math.max(...drunk)).toBeLessThan(4 * Math.min(...drunk));
    for (const socket of greedy) socket.destroy();
  });

  it('ends TCP without ending TLS: never a clean end', async () => {
    await using echo = await Echo.start((socket) => socket.write('half of the ans'));
    await using server = await ours.startServer();
    await using wire = await Wire.start(server.port);
    await using client = await ours.startClient({ hbone: wire.port, authority: `127.0.0.1:${echo.port}` });
    const application = await dial(client.port);
    await take(application, 15);
    application.resume();
    wire.end();
    await expect(once(application, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });
}

function startClientOf(ours: Proxies, hbone: number, options: ProxyOptions = {}): Promise<ClientProxy> {
  return ours.startClient({ hbone, authority: '127.0.0.1:80', ...options });
}

/** HEADERS and as many CONTINUATION frames as a block of that size needs. */
function headerFrames(streamId: number, block: Buffer): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < block.length; at += 16_384) {
    const last = at + 16_384 >= block.length;
    pieces.push(
      frame(at === 0 ? HEADERS : CONTINUATION, last ? END_HEADERS : 0, streamId, block.subarray(at, at + 16_384)),
    );
  }
  return Buffer.concat(pieces);
}

function connectTo(streamId: number, port: number): Buffer {
  const authority = Buffer.from(`127.0.0.1:${port}`);
  const block = Buffer.concat([CONNECT_BLOCK.subarray(0, 9), Buffer.from([0x01, authority.length]), authority]);
  return frame(HEADERS, END_HEADERS, streamId, block);
}

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** One end of HTTP/2 made of nothing: writes any bytes, and hands out the frames that come, in their order. */
class RawPeer {
  readonly socket: TLSSocket;
  readonly #frames: Frame[] = [];
  #bytes = Buffer.alloc(0);
  #wake: (() => void) | undefined;

  /** @param skip - bytes before the first frame: the preface of a client */
  constructor(socket: TLSSocket, skip = 0) {
    this.socket = socket;
    let left = skip;
    socket.on('data', (chunk: Buffer) => {
      const dropped = Math.min(left, chunk.length);
      left -= dropped;
      this.#bytes = Buffer.concat([this.#bytes, chunk.subarray(dropped)]);
      this.#split();
      this.#wake?.();
    });
  }

  static async client(server: ServerProxy, greet = true): Promise<RawPeer> {
    const peer = new RawPeer(await rawTls(server.port, tlsOptions(certificateOf('client'))));
    peer.write(greet ? Buffer.concat([PREFACE, HELLO]) : PREFACE);
    return peer;
  }

  write(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** Ends TCP, and TLS not. */
  cut(): void {
    // What tls.connect made of its options; a descriptor closed with nothing unread is a FIN.
    (this.socket as unknown as { _handle: { close(): void } })._handle.close();
  }

  /** The next frame of that type; those of others before it are dropped. */
  async next(type: number): Promise<Frame> {
    for (;;) {
      for (let found = this.#frames.shift(); found !== undefined; found = this.#frames.shift()) {
        if (found.type === type && !(type === SETTINGS && (found.flags & ACK) !== 0)) return found;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #split(): void {
    let at = 0;
    const bytes = this.#bytes;
    while (at + 9 <= bytes.length && at + 9 + bytes.readUIntBE(at, 3) <= bytes.length) {
      const end = at + 9 + bytes.readUIntBE(at, 3);
      const payload = bytes.subarray(at + 9, end);
      this.#frames.push({ type: bytes[at + 3]!, flags: bytes[at + 4]!, streamId: bytes.readUInt32BE(at + 5), payload });
      at = end;
    }
    this.#bytes = bytes.subarray(at);
  }
}

/** An application's server; says everything back unless told otherwise. */
class Echo implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, port: number, sockets: Set<Socket>) {
    this.#server = server;
    this.port = port;
    this.#sockets = sockets;
  }

  static async start(serve: (socket: Socket) => void = (socket) => socket.pipe(socket)): Promise<Echo> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket.on('error', () => {}));
      serve(socket);
    });
    return new Echo(server, await listening(server), sockets);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** A wire between two proxies that can be cut, with no packet more to either side. */
class Wire implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #pairs: [Socket, Socket][];

  private constructor(server: Server, port: number, pairs: [Socket, Socket][]) {
    this.#server = server;
    this.port = port;
    this.#pairs = pairs;
  }

  /** @param piece - carried every two milliseconds from the client to the server; everything at once where it is left out */
  static async start(to: number, piece?: number): Promise<Wire> {
    const pairs: [Socket, Socket][] = [];
    const server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true });
      for (const socket of [near, far]) socket.on('error', () => {});
      if (piece === undefined) near.pipe(far);
      else {
        const timer = setInterval(() => far.write(near.read(Math.min(piece, near.readableLength)) ?? ''), 2);
        near.once('readable', () => {}).once('close', () => clearInterval(timer));
      }
      far.pipe(near);
      pairs.push([near, far]);
    });
    return new Wire(server, await listening(server), pairs);
  }

  /** From now on the connections that there are carry nothing. */
  cut(): void {
    for (const [near, far] of this.#pairs) {
      near.unpipe(far);
      far.unpipe(near);
      near.removeAllListeners('end').pause();
      far.removeAllListeners('end').pause();
    }
  }

  /** FIN to both. */
  end(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#server.close();
  }
}

/** A stream of a client that behaves, to a target that echoes. */
async function honestStream(server: ServerProxy, echo: Echo) {
  const socket = await rawTls(server.port, tlsOptions(certificateOf('client')));
  const session = http2.connect('https://a', { createConnection: () => socket });
  session.on('error', () => {});
  const stream = session.request(
    { ':method': 'CONNECT', ':authority': `127.0.0.1:${echo.port}` },
    { endStream: false },
  );
  stream.on('error', () => {});
  await once(stream, 'response');
  return {
    async ask(question: string): Promise<string> {
      stream.write(question);
      const [answer] = await once(stream, 'data');
      return String(answer);
    },
    close() {
      session.destroy();
      socket.destroy();
    },
  };
}

async function listening(server: Server): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return (server.address() as AddressInfo).port;
}

async function until(done: () => boolean): Promise<void> {
  while (!done()) await sleep(10);
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function memoryNow(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
