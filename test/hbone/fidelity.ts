import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';

/** Two proxies with an HBONE tunnel between them, and an application behind the second. */
export interface Mesh {
  /** Where an application connects to on loopback; its bytes come out at the target. */
  readonly port: number;
  /** Tunnels that were made so far. */
  tunnels(): number;
  /** From now on nobody listens at the target. */
  closeTarget(): void;
  /** The second proxy vanishes: its tunnels break, without a word about their streams. */
  cut(): void;
  close(): Promise<void>;
}

/** What a mesh is wanted to be like. */
export interface MeshOptions {
  /** The server says 16 KiB frames and windows of 64 KiB, as HTTP/2 has them where nothing is said. */
  readonly smallWindows?: boolean;
  /** The server takes that many streams in one tunnel. */
  readonly maxStreams?: number;
}

/** An implementation of both proxies. */
export interface Implementation {
  readonly name: string;
  /** @param target - serves the connections that come out; half-open ones are allowed, errors have a listener */
  start(target: (socket: Socket) => void, options?: MeshOptions): Promise<Mesh>;
}

const MIB = 1 << 20;
const SLOW = { timeout: 90_000 };

/** What TCP promises, kept by a pair of proxies: one suite for every implementation. */
export function hboneFidelity(implementation: Implementation): void {
  describe(`${implementation.name}: fidelity`, () => {
    bytes('windows of 4 MiB', implementation, {});
    bytes('windows of 64 KiB, frames of 16 KiB', implementation, { smallWindows: true });
    ends(implementation);
    backPressure(implementation);
    fairness(implementation);
    sharing(implementation);
  });
}

function bytes(name: string, { start }: Implementation, options: MeshOptions): void {
  describe(`bytes, ${name}`, () => {
    it('64 MiB go through unharmed, both ways at once', SLOW, async () => {
      const [up, down] = [randomBytes(64 * MIB), randomBytes(64 * MIB)];
      let seen: Promise<Buffer> | undefined;
      await using mesh = disposable(
        await start((socket) => {
          seen = received(socket);
          socket.end(down);
        }, options),
      );
      const socket = await dial(mesh.port);
      socket.end(up);
      expect(digest(await received(socket))).toBe(digest(down));
      expect(digest(await seen!)).toBe(digest(up));
    });

    it('64 MiB to the target after it has ended its own direction', SLOW, async () => {
      const up = randomBytes(64 * MIB);
      let seen: Promise<Buffer> | undefined;
      await using mesh = disposable(
        await start((socket) => {
          seen = received(socket);
          socket.end('ready');
        }, options),
      );
      const socket = await dial(mesh.port);
      expect(`${await received(socket)}`).toBe('ready');
      socket.end(up);
      expect(digest(await seen!)).toBe(digest(up));
    });

    it('64 MiB to the client after it has ended its own direction', SLOW, async () => {
      const down = randomBytes(64 * MIB);
      await using mesh = disposable(
        await start(async (socket) => {
          await received(socket);
          socket.end(down);
        }, options),
      );
      const socket = await dial(mesh.port);
      socket.end('go');
      expect(digest(await received(socket))).toBe(digest(down));
    });

    it('pieces of any size, answered piece by piece', SLOW, async () => {
      await using mesh = disposable(await start((socket) => socket.pipe(socket), options));
      const socket = await dial(mesh.port);
      for (const size of [1, 2, 9, 1024, 16_384, 16_385, 65_535, 65_536, 1, 100_000, 3, MIB + 1]) {
        const piece = randomBytes(size);
        socket.write(piece);
        expect(digest(await take(socket, size))).toBe(digest(piece));
      }
      socket.destroy();
    });
  });
}

function ends({ start }: Implementation): void {
  describe('ends', () => {
    it('the client ends first, and still gets the answer (facts section 1.10)', async () => {
      await using mesh = disposable(await start(async (socket) => socket.end(`you said ${await received(socket)}`)));
      const socket = await dial(mesh.port);
      socket.end('hello');
      expect(`${await received(socket)}`).toBe('you said hello');
    });

    it('the target ends first, and still gets the question (facts section 1.10)', async () => {
      let question: Promise<Buffer> | undefined;
      await using mesh = disposable(
        await start((socket) => {
          question = received(socket);
          socket.end('I speak first and last');
        }),
      );
      const socket = await dial(mesh.port);
      expect(`${await received(socket)}`).toBe('I speak first and last');
      socket.end('and I answer');
      expect(`${await question!}`).toBe('and I answer');
    });

    it('neither says anything', async () => {
      let said: Promise<Buffer> | undefined;
      await using mesh = disposable(
        await start((socket) => {
          said = received(socket);
          socket.end();
        }),
      );
      const socket = await dial(mesh.port);
      socket.end();
      expect((await received(socket)).length).toBe(0);
      expect((await said!).length).toBe(0);
    });

    it('a reset by the target is a reset at the client, never a clean end', async () => {
      await using mesh = disposable(
        await start((socket) => {
          socket.write('half of the ans');
          setTimeout(() => socket.resetAndDestroy(), 50);
        }),
      );
      const socket = await dial(mesh.port);
      socket.resume();
      await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    });

    it('a reset by the client is a reset at the target', async () => {
      const code = Promise.withResolvers<string | undefined>();
      await using mesh = disposable(
        await start((socket) => {
          socket.once('error', (error: NodeJS.ErrnoException) => code.resolve(error.code));
          socket.once('end', () => code.resolve('a clean end'));
          socket.resume();
        }),
      );
      const socket = await dial(mesh.port);
      socket.write('x');
      await sleep(100);
      socket.resetAndDestroy();
      expect(await code.promise).toBe('ECONNRESET');
    });

    it('a reset after the other side has ended is one still', async () => {
      await using mesh = disposable(
        await start((socket) => {
          socket.resume();
          socket.write('half of the ans');
          socket.once('end', () => socket.resetAndDestroy());
        }),
      );
      const socket = await dial(mesh.port);
      socket.resume();
      socket.end('all I have');
      await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    });

    it('a target that refuses the connection resets the client (facts section 1.3)', async () => {
      await using mesh = disposable(await start(() => {}));
      mesh.closeTarget();
      const socket = await dial(mesh.port);
      socket.resume();
      await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    });

    it('a proxy that vanishes in the middle of a transfer resets it', async () => {
      await using mesh = disposable(
        await start((socket) => {
          const timer = setInterval(() => socket.write(randomBytes(1000)), 5);
          socket.once('close', () => clearInterval(timer));
        }),
      );
      const socket = await dial(mesh.port);
      await take(socket, 5000);
      socket.resume();
      mesh.cut();
      await expect(once(socket, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    });

    it('an application that goes away at once leaves nothing behind', async () => {
      const over = Promise.withResolvers<void>();
      let open = 0;
      await using mesh = disposable(
        await start((socket) => {
          open++;
          socket.resume();
          socket.once('close', () => --open === 0 && over.resolve());
          socket.once('end', () => socket.end());
        }),
      );
      for (let turn = 0; turn < 20; turn++) (await dial(mesh.port)).resetAndDestroy();
      const last = await dial(mesh.port);
      last.end();
      await received(last);
      if (open > 0) await over.promise;
      expect(open).toBe(0);
    });
  });
}

function backPressure({ start }: Implementation): void {
  describe('back-pressure', () => {
    it('a client that does not read holds the target back, and loses nothing', SLOW, async () => {
      const down = randomBytes(96 * MIB);
      let written = 0;
      await using mesh = disposable(
        await start((socket) => {
          written = 0;
          writeSlowly(socket, down, (bytes) => {
            written = bytes;
          });
        }),
      );
      const socket = await dial(mesh.port);
      socket.pause();
      const heldAt = await standstill(() => written);
      expect(heldAt).toBeLessThan(48 * MIB);
      expect(digest(await received(socket))).toBe(digest(down));
    });

    it('a target that does not read holds the client back, and loses nothing', SLOW, async () => {
      const up = randomBytes(96 * MIB);
      const accepted = Promise.withResolvers<Socket>();
      await using mesh = disposable(await start((socket) => accepted.resolve(socket.pause())));
      const socket = await dial(mesh.port);
      let written = 0;
      writeSlowly(socket, up, (bytes) => {
        written = bytes;
      });
      const heldAt = await standstill(() => written);
      expect(heldAt).toBeLessThan(48 * MIB);
      expect(digest(await received(await accepted.promise))).toBe(digest(up));
    });

    it('one that does not read costs 50 siblings in the same tunnel nothing', SLOW, async () => {
      const flood = randomBytes(64 * MIB);
      await using mesh = disposable(
        await start((socket) => {
          socket.once('data', (first) => {
            if (`${first}` === 'flood') return writeSlowly(socket, flood, () => {});
            socket.write(first);
            socket.pipe(socket);
          });
        }),
      );
      const lazy = await dial(mesh.port);
      lazy.write('flood');
      lazy.pause();
      await sleep(500);
      const piece = randomBytes(256 << 10);
      const siblings = Array.from({ length: 50 }, async () => {
        const socket = await dial(mesh.port);
        socket.write(piece);
        const echoed = await take(socket, piece.length);
        socket.destroy();
        return digest(echoed);
      });
      expect(new Set(await Promise.all(siblings))).toEqual(new Set([digest(piece)]));
      expect(mesh.tunnels()).toBe(1);
      lazy.destroy();
    });
  });
}

function fairness({ start }: Implementation): void {
  describe('fairness', () => {
    const ROUNDS = 20;
    // What lies in buffers on the way, ahead of a question: sockets, output ring, window. Not what there is to send.
    const MOST_BEFORE_AN_ANSWER_BYTES = 24 * MIB;

    it.each(['up', 'down'])(
      'one with everything to send (%s) does not starve 50 siblings in the same tunnel',
      SLOW,
      async (way) => {
        const chunk = Buffer.alloc(MIB);
        let moved = 0;
        const flood = (socket: Socket) => {
          const more = () => {
            while (!socket.destroyed && socket.write(chunk));
          };
          socket.on('drain', more);
          more();
        };
        const drink = (socket: Socket) =>
          socket.on('data', (data: Buffer) => {
            moved += data.length;
          });
        await using mesh = disposable(
          await start((socket) => {
            socket.once('data', (first: Buffer) => {
              if (`${first}` === 'drink') return void drink(socket);
              if (`${first}` === 'flood') return flood(socket);
              socket.write(first);
              socket.pipe(socket);
            });
          }),
        );
        const greedy = await dial(mesh.port);
        greedy.write(way === 'up' ? 'drink' : 'flood');
        await sleep(100);
        if (way === 'up') flood(greedy);
        else drink(greedy);
        await eventually(() => moved > 32 * MIB);
        const siblings = await Promise.all(Array.from({ length: 50 }, () => dial(mesh.port)));
        const before = moved;
        for (let round = 0; round < ROUNDS; round++) {
          await Promise.all(
            siblings.map(async (socket) => {
              socket.write('a question');
              expect(`${await take(socket, 10)}`).toBe('a question');
            }),
          );
        }
        expect((moved - before) / ROUNDS).toBeLessThan(MOST_BEFORE_AN_ANSWER_BYTES);
        // And the greedy one goes on.
        const after = moved;
        await eventually(() => moved > after + 16 * MIB);
        expect(mesh.tunnels()).toBe(1);
        for (const socket of [greedy, ...siblings]) socket.destroy();
      },
    );
  });
}

function sharing({ start }: Implementation): void {
  describe('tunnels', () => {
    const echo = (socket: Socket) => void socket.pipe(socket);
    const ask = async (port: number, question: string) => {
      const socket = await dial(port);
      socket.write(question);
      expect(`${await take(socket, question.length)}`).toBe(question);
      return socket;
    };
    const many = (port: number, count: number) =>
      Promise.all(Array.from({ length: count }, (_, index) => ask(port, `connection ${index}`)));

    it('64 connections at once share one, 150 two (facts section 1.8)', async () => {
      await using mesh = disposable(await start(echo));
      const first = await many(mesh.port, 64);
      expect(mesh.tunnels()).toBe(1);
      const second = await many(mesh.port, 86);
      expect(mesh.tunnels()).toBe(2);
      for (const socket of [...first, ...second]) socket.destroy();
    });

    it('a server that takes few streams gets more tunnels; nobody waits', async () => {
      await using mesh = disposable(await start(echo, { maxStreams: 5 }));
      const sockets = await many(mesh.port, 12);
      expect(mesh.tunnels()).toBe(3);
      for (const socket of sockets) socket.destroy();
    });

    it('1,000 connections one after the other go through one, and none is lost', SLOW, async () => {
      await using mesh = disposable(await start((socket) => socket.end('pong')));
      for (let turn = 0; turn < 1000; turn++) {
        const socket = await dial(mesh.port);
        socket.end('ping');
        expect(`${await received(socket)}`).toBe('pong');
      }
      expect(mesh.tunnels()).toBe(1);
    });

    it('after a proxy has vanished, the next connection gets a new one', async () => {
      await using mesh = disposable(await start(echo));
      (await ask(mesh.port, 'before')).destroy();
      mesh.cut();
      await sleep(100);
      (await ask(mesh.port, 'after')).destroy();
      expect(mesh.tunnels()).toBe(2);
    });
  });
}

function disposable(mesh: Mesh): Mesh & AsyncDisposable {
  return Object.assign(mesh, { [Symbol.asyncDispose]: () => mesh.close() });
}

export async function dial(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  return socket.on('error', () => {});
}

/** All of one direction. Not `for await`, which destroys the socket at its end, whatever the other direction still has to say. */
export async function received(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.resume();
  await once(socket, 'end');
  return Buffer.concat(chunks);
}

/** The next so many bytes; fails when the connection ends before. */
export function take(socket: Socket, bytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const settle = () => {
      socket.off('data', onData).off('close', onClose).off('end', onClose);
      socket.pause();
    };
    const onData = (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length < bytes) return;
      settle();
      resolve(Buffer.concat(chunks));
    };
    const onClose = () => {
      settle();
      reject(new Error(`the connection ended after ${length} of ${bytes} bytes`));
    };
    socket.on('data', onData).on('close', onClose).on('end', onClose);
    socket.resume();
  });
}

export const digest = (data: Buffer): string =>
  `${data.length} bytes ${createHash('sha256').update(data).digest('hex')}`;

async function writeSlowly(socket: Socket, data: Buffer, onWritten: (bytes: number) => void): Promise<void> {
  for (let at = 0; at < data.length && !socket.destroyed; at += 65536) {
    const more = socket.write(data.subarray(at, at + 65536));
    onWritten(at);
    if (more) continue;
    const either = new AbortController();
    const { signal } = either;
    await Promise.race([once(socket, 'drain', { signal }), once(socket, 'close', { signal })]).catch(() => {});
    either.abort();
  }
  socket.end();
}

async function eventually(done: () => boolean): Promise<void> {
  while (!done()) await sleep(10);
}

/** The value that a growing one stops at. */
async function standstill(value: () => number): Promise<number> {
  for (let last = -1; ; ) {
    await sleep(400);
    if (value() === last && last > 0) return last;
    last = value();
  }
}
