import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { pair } from './mesh.ts';
import {
  ACK,
  CONNECT_BLOCK,
  DATA,
  END_HEADERS,
  everything,
  frame,
  goawayCode,
  HEADERS,
  PING,
  PREFACE,
  RST_STREAM,
  rawTls,
  SETTINGS,
} from './raw-peer.ts';

const HELLO = Buffer.concat([PREFACE, frame(SETTINGS, 0, 0), frame(SETTINGS, ACK, 0)]);
const [PROTOCOL_ERROR, FRAME_SIZE_ERROR, COMPRESSION_ERROR, ENHANCE_YOUR_CALM] = [1, 6, 9, 11];
const CONTINUATION = 9;

const repeat = (count: number, make: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => make(index)));
const open = (streamId: number) => frame(HEADERS, END_HEADERS, streamId, CONNECT_BLOCK);

describe('hostile clients: cut with the right code, and nobody else notices', () => {
  it.each<[string, Buffer, number]>([
    ['garbage instead of the preface', Buffer.from('\u0000garbage of all kinds, and more of it'), PROTOCOL_ERROR],
    ['frames over the limit', Buffer.concat([HELLO, Buffer.from([0x20, 0, 0, DATA, 0, 0, 0, 0, 1])]), FRAME_SIZE_ERROR],
    [
      'broken HPACK',
      Buffer.concat([HELLO, frame(HEADERS, END_HEADERS, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))]),
      COMPRESSION_ERROR,
    ],
    ['a SETTINGS flood', Buffer.concat([HELLO, repeat(1000, () => frame(SETTINGS, 0, 0))]), ENHANCE_YOUR_CALM],
    ['a PING flood', Buffer.concat([HELLO, repeat(5000, () => frame(PING, 0, 0, Buffer.alloc(8)))]), ENHANCE_YOUR_CALM],
    ['an empty-DATA flood', Buffer.concat([HELLO, open(1), repeat(5000, () => frame(DATA, 0, 1))]), ENHANCE_YOUR_CALM],
    [
      'a CONTINUATION flood',
      Buffer.concat([HELLO, frame(HEADERS, 0, 1), repeat(100, () => frame(CONTINUATION, 0, 1))]),
      ENHANCE_YOUR_CALM,
    ],
    [
      'rapid reset',
      Buffer.concat([
        HELLO,
        repeat(3000, (index) =>
          Buffer.concat([open(2 * index + 1), frame(RST_STREAM, 0, 2 * index + 1, Buffer.from([0, 0, 0, 8]))]),
        ),
      ]),
      ENHANCE_YOUR_CALM,
    ],
  ])('%s', async (_what, bytes, code) => {
    await using mesh = await pair();
    mesh.server.on('tunnel', (request) => {
      const stream = request.accept().on('error', () => {});
      stream.pipe(stream);
    });
    const honest = await mesh.open();
    const gone = once(mesh.server, 'disconnection');
    const hostile = await rawTls(mesh.hbone);
    const answered = everything(hostile);
    hostile.write(bytes);
    const [, error] = await gone;
    expect(error).toMatchObject({ code: 'ERR_HBONE_TUNNEL_LOST', cause: { errorCode: code } });
    expect([code, undefined]).toContain(goawayCode(await answered));
    honest.end('nothing has happened');
    expect(await text(honest)).toBe('nothing has happened');
  });

  it('a client that asks and does not read is cut: its answers do not pile up', { timeout: 60_000 }, async () => {
    const pings = { maxPingsPerSecond: 1e9 };
    await using mesh = await pair({
      server: { controlBufferBytes: 16 << 10, sendBufferBytes: 64 << 10, http2: pings },
    });
    const gone = once(mesh.server, 'disconnection');
    const hostile = await rawTls(mesh.hbone);
    hostile.pause();
    hostile.write(HELLO);
    const flood = repeat(4000, () => frame(PING, 0, 0, Buffer.alloc(8)));
    let over = false;
    gone.then(() => {
      over = true;
    });
    // Loopback takes some megabytes before it is full.
    while (!over && !hostile.destroyed) {
      hostile.write(flood);
      await sleep(1);
    }
    expect((await gone)[1]).toMatchObject({ code: 'ERR_HBONE_OUTPUT_FULL' });
    hostile.destroy();
  });

  it('streams beyond the limit are refused, each by itself (RFC 9113 section 5.1.2)', async () => {
    await using mesh = await pair({ server: { http2: { maxConcurrentStreams: 3 } } });
    let requests = 0;
    mesh.server.on('tunnel', () => requests++);
    const greedy = await rawTls(mesh.hbone);
    const chunks: Buffer[] = [];
    greedy.on('data', (chunk) => chunks.push(chunk));
    greedy.write(Buffer.concat([HELLO, repeat(10, (index) => open(2 * index + 1))]));
    await sleep(100);
    expect(requests).toBe(3);
    const bytes = Buffer.concat(chunks);
    let refused = 0;
    for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
      if (bytes[at + 3] === RST_STREAM && bytes.readUInt32BE(at + 9) === 7) refused++;
    }
    expect(refused).toBe(7);
    greedy.destroy();
  });
});
