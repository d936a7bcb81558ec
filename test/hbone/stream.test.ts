import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HboneClient, type HboneStream } from '../../src/hbone/index.ts';
import { digest } from './fidelity.ts';
import { clientCertificate, idOf, type Pair, pair, serverCertificate } from './mesh.ts';
import {
  ACK,
  CONNECT_BLOCK,
  DATA,
  END_HEADERS,
  frame,
  HEADERS,
  PREFACE,
  RST_STREAM,
  rawTls,
  SETTINGS,
  tlsOptions,
} from './raw-peer.ts';

/** Both ends of one stream. */
async function ends(mesh: Pair): Promise<[client: HboneStream, server: HboneStream]> {
  const accepted = Promise.withResolvers<HboneStream>();
  mesh.server.once('tunnel', (request) => accepted.resolve(request.accept()));
  return [await mesh.open(), await accepted.promise];
}

/** A client of hand-made frames, that has asked for stream 1. */
async function rawStream(mesh: Pair): Promise<TLSSocket> {
  const socket = (await rawTls(mesh.hbone)).resume();
  const hello = [PREFACE, frame(SETTINGS, 0, 0), frame(SETTINGS, ACK, 0)];
  socket.write(Buffer.concat([...hello, frame(HEADERS, END_HEADERS, 1, CONNECT_BLOCK)]));
  return socket;
}

describe('ends and resets (facts section 1.10, RFC 9113 section 8.5)', () => {
  it('each direction ends by itself, in either order', async () => {
    await using mesh = await pair();
    for (const turn of [0, 1]) {
      const [client, server] = await ends(mesh);
      const [first, second] = turn === 0 ? [client, server] : [server, client];
      first.end('first');
      expect(await text(second)).toBe('first');
      expect(second.writable).toBe(true);
      second.write('still ');
      second.end('open');
      expect(await text(first)).toBe('still open');
      await Promise.all([finished(first), finished(second)]);
      expect([first.destroyed, second.destroyed, first.errored]).toEqual([true, true, null]);
    }
  });

  it.each<['client' | 'server', Error | undefined, number]>([
    ['client', undefined, 8],
    ['client', new Error('the application reset'), 10],
    ['server', undefined, 8],
    ['server', new Error('the upstream reset'), 10],
  ])('destroy at the %s with %s is RST_STREAM with code %i', async (who, error, errorCode) => {
    await using mesh = await pair();
    const [client, server] = await ends(mesh);
    const [doer, other] = who === 'client' ? [client, server] : [server, client];
    doer.on('error', () => {});
    const failed = once(other, 'error');
    doer.destroy(error);
    expect((await failed)[0]).toMatchObject({ code: 'ERR_HBONE_STREAM_RESET', errorCode });
    expect(other.destroyed).toBe(true);
  });

  it('a reset is carried on with its code', async () => {
    await using mesh = await pair();
    const [client, server] = await ends(mesh);
    const failed = once(server, 'error');
    client.on('error', () => {}).destroy(new Error('reset'));
    const [reset] = await failed;
    const [next, far] = await ends(mesh);
    next.on('error', () => {});
    const farFailed = once(far, 'error');
    next.destroy(reset);
    expect((await farFailed)[0]).toMatchObject({ errorCode: 10 });
  });

  it('after both have ended, destroy says nothing any more', async () => {
    await using mesh = await pair();
    const [client, server] = await ends(mesh);
    client.end();
    server.end();
    await sleep(30);
    let failed = false;
    server.on('error', () => {
      failed = true;
    });
    client.destroy();
    expect(await text(server)).toBe('');
    expect(failed).toBe(false);
  });

  it('RFC 9113 section 8.1: RST_STREAM NO_ERROR after the end is no failure: all is read, then it closes', async () => {
    // Node's server ends and then resets with NO_ERROR, as Envoy does.
    const answer = randomBytes(200_000);
    const server = http2.createSecureServer({ ...tlsOptions(serverCertificate), requestCert: true });
    server.on('stream', (stream) => {
      stream.on('error', () => {});
      stream.respond({ ':status': 200 });
      stream.end(answer, () => stream.close(0));
    });
    server.on('sessionError', () => {});
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    await using client = new HboneClient({ credentials: clientCertificate });
    const stream = await client.connect({
      authority: 'a:1',
      peerIdentity: idOf('server'),
      destination: { host: '127.0.0.1', port },
    });
    await sleep(50);
    stream.write('nobody hears this');
    expect(digest(await buffer(stream))).toBe(digest(answer));
    if (!stream.closed) await once(stream, 'close');
    expect(stream.errored).toBe(null);
    await client.close();
    server.close();
  });

  it('RST_STREAM NO_ERROR before the end is a failure: what was cut off never looks complete', async () => {
    await using mesh = await pair();
    const accepted = Promise.withResolvers<HboneStream>();
    mesh.server.once('tunnel', (request) => accepted.resolve(request.accept()));
    const peer = await rawStream(mesh);
    const server = await accepted.promise;
    const failed = once(server.resume(), 'error');
    peer.write(Buffer.concat([frame(DATA, 0, 1, Buffer.from('half')), frame(RST_STREAM, 0, 1, Buffer.alloc(4))]));
    expect((await failed)[0]).toMatchObject({ code: 'ERR_HBONE_STREAM_RESET', errorCode: 0 });
    peer.destroy();
  });

  it('a tunnel that breaks fails its streams with ERR_HBONE_TUNNEL_LOST, and those alone that were not over', async () => {
    await using mesh = await pair();
    const [over, overFar] = await ends(mesh);
    const [open, openFar] = await ends(mesh);
    openFar.on('error', () => {});
    overFar.end('complete');
    over.end();
    overFar.resume();
    await sleep(50);
    const failed = once(open, 'error');
    await mesh.server.close();
    expect((await failed)[0]).toMatchObject({ code: 'ERR_HBONE_TUNNEL_LOST' });
    expect(await text(over)).toBe('complete');
  });

  it('TLS that is cut off without close_notify is a loss, not an end', async () => {
    await using mesh = await pair();
    const accepted = Promise.withResolvers<HboneStream>();
    mesh.server.once('tunnel', (request) => accepted.resolve(request.accept()));
    const socket = await rawStream(mesh);
    socket.write(frame(DATA, 0, 1, Buffer.from('half')));
    const stream = await accepted.promise;
    const failed = once(stream, 'error');
    expect(`${(await once(stream, 'data'))[0]}`).toBe('half');
    socket.destroy();
    expect((await failed)[0]).toMatchObject({ code: 'ERR_HBONE_TUNNEL_LOST' });
  });

  it('pipeline and a failing source reset the stream', async () => {
    await using mesh = await pair();
    const [client, server] = await ends(mesh);
    const failed = once(server.resume(), 'error');
    async function* source() {
      yield 'some';
      throw new Error('the source broke');
    }
    await expect(pipeline(source, client)).rejects.toThrow('the source broke');
    expect((await failed)[0]).toMatchObject({ code: 'ERR_HBONE_STREAM_RESET', errorCode: 10 });
  });
});

describe('reading', () => {
  const whole = randomBytes(3 << 20);

  it.each<[string, (stream: HboneStream) => Promise<Buffer>]>([
    ['by data events', (stream) => buffer(stream)],
    [
      'by for await',
      async (stream) => {
        const chunks: Buffer[] = [];
        for await (const chunk of stream) chunks.push(chunk);
        return Buffer.concat(chunks);
      },
    ],
    [
      'by read() on readable',
      (stream) =>
        new Promise((resolve) => {
          const chunks: Buffer[] = [];
          stream.on('readable', () => {
            for (let chunk = stream.read(); chunk !== null; chunk = stream.read()) chunks.push(chunk);
          });
          stream.on('end', () => resolve(Buffer.concat(chunks)));
        }),
    ],
    [
      'by read(n) of odd sizes',
      (stream) =>
        new Promise((resolve) => {
          const chunks: Buffer[] = [];
          stream.on('readable', () => {
            for (let chunk = stream.read(1777); chunk !== null; chunk = stream.read(1777)) chunks.push(chunk);
          });
          stream.on('end', () => resolve(Buffer.concat(chunks)));
        }),
    ],
    [
      'with pauses',
      (stream) =>
        new Promise((resolve) => {
          const chunks: Buffer[] = [];
          stream.on('data', (chunk) => {
            chunks.push(chunk);
            if (chunks.length % 7 !== 0) return;
            stream.pause();
            setImmediate(() => stream.resume());
          });
          stream.on('end', () => resolve(Buffer.concat(chunks)));
        }),
    ],
  ])('%s gives every byte, in order, however it was cut', async (_how, read) => {
    await using mesh = await pair({ server: { http2: { initialWindowBytes: 65535 } } });
    const [client, server] = await ends(mesh);
    const reading = read(server);
    (async () => {
      for (let at = 0, size = 1; at < whole.length; at += size, size = (size * 7 + 1) % 50_000) {
        if (!client.write(whole.subarray(at, at + size))) await once(client, 'drain');
        if (size % 3 === 0) await new Promise(setImmediate);
        if (size === 0) size = 1;
      }
      client.end();
    })();
    expect(digest(await reading)).toBe(digest(whole));
    server.end();
  });

  it('read(n) gets its bytes also when they come in small pieces behind others', async () => {
    await using mesh = await pair();
    const [client, server] = await ends(mesh);
    const got: string[] = [];
    server.on('readable', () => {
      for (let chunk = server.read(10); chunk !== null; chunk = server.read(10)) got.push(`${chunk}`);
    });
    for (const piece of ['01234', '56', '7', '89abc', 'defghij']) {
      client.write(piece);
      await sleep(10);
    }
    expect(got).toEqual(['0123456789', 'abcdefghij']);
  });

  it('setEncoding keeps characters whole', async () => {
    await using mesh = await pair();
    const [client, server] = await ends(mesh);
    server.setEncoding('utf8');
    const bytes = Buffer.from('¡grüße, 世界!'.repeat(1000));
    for (let at = 0; at < bytes.length; at += 701) client.write(bytes.subarray(at, at + 701));
    client.end();
    let got = '';
    for await (const piece of server) got += piece;
    expect(got).toBe(`${bytes}`);
  });

  it('property: any sizes of writes and high-water marks', { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 40_000 }), { maxLength: 20 }),
        fc.integer({ min: 1, max: 100_000 }),
        fc.constantFrom(1000, 65_535, 1 << 20),
        async (sizes, streamBufferBytes, initialWindowBytes) => {
          await using mesh = await pair({
            server: { streamBufferBytes, http2: { initialWindowBytes } },
          });
          const [client, server] = await ends(mesh);
          const data = randomBytes(sizes.reduce((sum, size) => sum + size, 0));
          let at = 0;
          for (const size of sizes) {
            client.write(data.subarray(at, at + size));
            at += size;
          }
          client.end();
          expect(digest(await buffer(server))).toBe(digest(data));
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe('back-pressure', () => {
  it('the peer may send one window and what was read, no more', async () => {
    const window = 100_000;
    await using mesh = await pair({ server: { http2: { initialWindowBytes: window } } });
    const [client, server] = await ends(mesh);
    client.write(randomBytes(1 << 20));
    await sleep(100);
    expect(server.bytesRead).toBe(window);
    expect(client.writableNeedDrain).toBe(true);
    // Credit goes back at half a window.
    server.read(60_000);
    await sleep(100);
    expect(server.bytesRead).toBe(window + 60_000);
  });

  it('what a destroyed stream leaves unread counts no longer against its tunnel', async () => {
    const http2 = { initialWindowBytes: 65_535, connectionWindowBytes: 65_535, maxBufferedBytes: 100_000 };
    await using mesh = await pair({ server: { http2 } });
    for (let turn = 0; turn < 10; turn++) {
      const [client, server] = await ends(mesh);
      client.end(randomBytes(50_000));
      server.end();
      client.resume();
      while (server.bytesRead < 50_000) await sleep(1);
      server.destroy();
    }
    expect(mesh.client.tunnelCount).toBe(1);
  });

  it('a window sent byte by byte to one who does not read costs about a window', { timeout: 60_000 }, async () => {
    await using mesh = await pair({ server: { http2: { initialWindowBytes: 2 << 20 } } });
    const accepted = Promise.withResolvers<HboneStream>();
    mesh.server.once('tunnel', (request) => accepted.resolve(request.accept()));
    const socket = await rawStream(mesh);
    const stream = await accepted.promise;
    stream.on('error', () => {});
    const before = process.memoryUsage();
    const batch = Buffer.concat(Array.from({ length: 1000 }, () => frame(DATA, 0, 1, Buffer.from('x'))));
    for (let sent = 0; sent < 500_000; sent += 1000) if (!socket.write(batch)) await once(socket, 'drain');
    for (let turn = 0; turn < 200 && stream.bytesRead < 500_000; turn++) await sleep(20);
    expect(stream.bytesRead).toBe(500_000);
    const after = process.memoryUsage();
    // Half a million buffers would be 50 MB and more.
    const grownBytes = after.heapUsed - before.heapUsed + after.external - before.external;
    expect(grownBytes).toBeLessThan(25 << 20);
    expect(
      (
        await once(
          stream.once('readable', () => {}),
          'readable',
        )
      ).length,
    ).toBe(0);
    socket.destroy();
  });
});

describe('what a listener throws', () => {
  it('ends the tunnel that it was thrown in, and is not swallowed', async () => {
    await using mesh = await pair();
    const [client, server] = await ends(mesh);
    const failed = once(client, 'error');
    server.on('error', () => {});
    server.on('data', () => {
      throw new Error('a mistake of the program');
    });
    const caught = new Promise<Error>((resolve) => {
      const others = process.listeners('uncaughtException');
      process.removeAllListeners('uncaughtException');
      process.once('uncaughtException', (error) => {
        for (const other of others) process.on('uncaughtException', other);
        resolve(error);
      });
    });
    client.write('x');
    expect((await caught).message).toBe('a mistake of the program');
    expect((await failed)[0]).toMatchObject({ code: 'ERR_HBONE_TUNNEL_LOST' });
  });
});
