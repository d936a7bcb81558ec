import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Loopback, type LoopbackOptions } from './loopback.ts';

const MEGABYTE = 1 << 20;

async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  socket.on('error', () => {});
  return socket;
}

/** Not `for await`, which destroys the socket at the end of its readable side, whatever the other still has to write. */
async function received(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.resume();
  await once(socket, 'end');
  return Buffer.concat(chunks);
}

function expectSame(actual: Buffer, expected: Buffer) {
  expect(actual.length).toBe(expected.length);
  expect(sha256(actual)).toBe(sha256(expected));
}

const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex');

/** The same promises, whatever joins the two connections. */
function carriesFaithfully(
  name: string,
  pick: (ports: { port: number; relayPort: number }) => number,
  options?: LoopbackOptions,
) {
  describe(name, () => {
    it('brings 64 MiB through, unharmed, both ways at once', { timeout: 60_000 }, async () => {
      const up = randomBytes(64 * MEGABYTE);
      const down = randomBytes(64 * MEGABYTE);
      let seen: Promise<Buffer> | undefined;
      const started = await Loopback.start((socket) => {
        seen = received(socket);
        socket.end(down);
      }, options);
      await using _ = started.loopback;
      const socket = await dial(pick(started));
      socket.end(up);
      expectSame(await received(socket), down);
      expectSame(await seen!, up);
    });

    it('carries an answer after the client has ended its own direction', async () => {
      const started = await Loopback.start(async (socket) => {
        const question = await received(socket);
        socket.end(`you said ${question}`);
      }, options);
      await using _ = started.loopback;
      const socket = await dial(pick(started));
      socket.end('hello');
      expect(`${await received(socket)}`).toBe('you said hello');
    });

    it('carries a question after the target has ended its own direction', async () => {
      let question: Promise<Buffer> | undefined;
      const started = await Loopback.start((socket) => {
        question = received(socket);
        socket.end('I speak first and last');
      }, options);
      await using _ = started.loopback;
      const socket = await dial(pick(started));
      expect(`${await received(socket)}`).toBe('I speak first and last');
      socket.end('and I answer');
      expect(`${await question!}`).toBe('and I answer');
    });

    it('turns a reset by the target into a reset of the client, never a clean end', async () => {
      const started = await Loopback.start((socket) => {
        socket.write('half of the ans');
        setTimeout(() => socket.resetAndDestroy(), 50);
      }, options);
      await using _ = started.loopback;
      const socket = await dial(pick(started));
      socket.resume();
      await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    });

    it('turns a reset by the client into a reset of the target', async () => {
      let code: Promise<string> | undefined;
      const started = await Loopback.start((socket) => {
        socket.resume();
        code = once(socket, 'error').then(([error]) => (error as NodeJS.ErrnoException).code ?? '');
      }, options);
      await using _ = started.loopback;
      const socket = await dial(pick(started));
      socket.write('x');
      await sleep(100);
      socket.resetAndDestroy();
      await sleep(100);
      expect(await code!).toBe('ECONNRESET');
    });

    it('holds a sender back while the reader does not read, and loses nothing', { timeout: 60_000 }, async () => {
      const down = randomBytes(48 * MEGABYTE);
      let written = 0;
      const started = await Loopback.start(async (socket) => {
        for (let at = 0; at < down.length; at += 65536) {
          const more = socket.write(down.subarray(at, at + 65536));
          written = at;
          if (!more) await once(socket, 'drain');
        }
        socket.end();
      }, options);
      await using _ = started.loopback;
      const socket = await dial(pick(started));
      socket.pause();
      await sleep(500);
      const heldAt = written;
      expect(heldAt).toBeLessThan(40 * MEGABYTE);
      await sleep(200);
      expect(written).toBe(heldAt);
      expectSame(await received(socket), down);
    });

    it('ends the client when the target refuses', async () => {
      const started = await Loopback.start(() => {}, options);
      await using _ = started.loopback;
      for (const server of started.loopback.targets) server.close();
      await sleep(20);
      const socket = await dial(pick(started));
      await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    });
  });
}

carriesFaithfully('TunnelStream', ({ port }) => port);
carriesFaithfully('TunnelStream with a peer of 16 KiB frames and 64 KiB windows', ({ port }) => port, {
  serverHttp2: { maxFrameBytes: 16384, initialWindowBytes: 65535, connectionWindowBytes: 65535 },
});
carriesFaithfully('TcpRelay', ({ relayPort }) => relayPort);

describe('TunnelStream', () => {
  it('facts 1.3: tells the client nothing but a reset when CONNECT is refused, and records the status', async () => {
    const { loopback, port } = await Loopback.start(() => {});
    await using _ = loopback;
    loopback.refuseWith = 401;
    const socket = await dial(port);
    await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(loopback.outbound).toEqual([{ failure: 'http status: 401', toTunnel: 0, fromTunnel: 0 }]);
  });

  it('counts the payload of both directions at both ends', async () => {
    const { loopback, port } = await Loopback.start((socket) => {
      socket.on('data', (data) => socket.write(data));
      socket.on('end', () => socket.end('bye'));
    });
    await using _ = loopback;
    const socket = await dial(port);
    socket.end('12345');
    await received(socket);
    await sleep(50);
    expect(loopback.outbound).toEqual([{ failure: undefined, toTunnel: 5, fromTunnel: 8 }]);
    expect(loopback.inbound).toEqual([{ failure: undefined, toTunnel: 8, fromTunnel: 5 }]);
  });

  it('facts 1.8: carries 64 concurrent connections over one tunnel, 150 over two', async () => {
    const { loopback, port } = await Loopback.start((socket) => socket.pipe(socket));
    await using _ = loopback;
    const echo = async (index: number) => {
      const socket = await dial(port);
      socket.write(`connection ${index}`);
      const [answer] = await once(socket, 'data');
      expect(`${answer}`).toBe(`connection ${index}`);
      return socket;
    };
    const first = await Promise.all(Array.from({ length: 64 }, (_, index) => echo(index)));
    expect(loopback.tunnels.length).toBe(1);
    const second = await Promise.all(Array.from({ length: 86 }, (_, index) => echo(index)));
    expect(loopback.tunnels.length).toBe(2);
    for (const socket of [...first, ...second]) socket.destroy();
  });

  it('opens further tunnels for a peer that allows few streams, instead of waiting', async () => {
    const { loopback, port } = await Loopback.start((socket) => socket.pipe(socket), {
      serverHttp2: { maxConcurrentStreams: 5 },
    });
    await using _ = loopback;
    const sockets = await Promise.all(
      Array.from({ length: 12 }, async (_, index) => {
        const socket = await dial(port);
        socket.write(`${index}`);
        await once(socket, 'data');
        return socket;
      }),
    );
    expect(loopback.tunnels.length).toBe(3);
    for (const socket of sockets) socket.destroy();
  });

  it('1,000 connections one after the other lose nothing', { timeout: 60_000 }, async () => {
    const { loopback, port } = await Loopback.start((socket) => socket.end('pong'));
    await using _ = loopback;
    for (let index = 0; index < 1000; index++) {
      const socket = await dial(port);
      socket.end('ping');
      expect(`${await received(socket)}`).toBe('pong');
    }
    expect(loopback.outbound.every(({ failure }) => failure === undefined)).toBe(true);
    expect(loopback.tunnels.length).toBe(1);
  });
});
