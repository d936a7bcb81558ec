import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { TlsContext } from '../../src/engine/index.ts';
import {
  TLS_AGAIN,
  TLS_DONE,
  TLS_EOF,
  TLS_FAILED,
  TLS_WRITE_MOST,
  TlsLeg,
  tlsBytes,
} from '../../src/engine/tls-leg.ts';
import { libc, NativeMemory, openssl } from '../../src/system/index.ts';
import { httpbinCredentials, sleepCredentials, verifier } from './mesh.ts';
import { receiveNow, resetSocket, sendAll, tcpPair } from './sockets.ts';

const RECORD = 16_384;
const memory = new NativeMemory(1 << 20);
const target = new NativeMemory(1 << 20);

let contexts: [TlsContext, TlsContext];
let sockets: [number, number];
let client: TlsLeg;
let server: TlsLeg;
beforeEach(() => {
  contexts = [new TlsContext(sleepCredentials), new TlsContext(httpbinCredentials)];
  sockets = tcpPair();
  client = new TlsLeg(sockets[0], contexts[0], 'client', verifier);
  server = new TlsLeg(sockets[1], contexts[1], 'server', verifier);
});
afterEach(() => {
  client.close();
  server.close();
  for (const context of contexts) context.close();
  for (const fd of sockets) if (fd >= 0) libc().close(fd);
});

function shakeHands(): void {
  const outcomes: number[] = [TLS_AGAIN, TLS_AGAIN];
  for (let step = 0; step < 50 && outcomes.includes(TLS_AGAIN); step++) {
    for (const [index, leg] of [client, server].entries()) {
      if (outcomes[index] === TLS_AGAIN) outcomes[index] = leg.handshake();
    }
  }
  expect(outcomes).toEqual([TLS_DONE, TLS_DONE]);
}

function send(leg: TlsLeg, data: Buffer): void {
  data.copy(memory.buffer);
  expect(leg.write(memory.address, data.length)).toBe(true);
  expect(leg.flush()).toBe(TLS_DONE);
}

describe('TlsLeg', () => {
  it('names the peer when the handshake is done, and not before', () => {
    expect([client.established, client.peerIdentity, client.describe()]).toEqual([false, undefined, '']);
    shakeHands();
    expect(client.peerIdentity).toBe('spiffe://cluster.local/ns/default/sa/httpbin');
    expect(server.peerIdentity).toBe('spiffe://cluster.local/ns/default/sa/sleep');
    expect(client.describe()).toMatch(/^TLSv1\.3 TLS_AES_256_GCM_SHA384 x25519$/i);
  });

  it('carries plaintext of any sizes, to any place', () => {
    shakeHands();
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 100_000 }), { maxLength: 4 }), fc.nat(500), (sizes, at) => {
        const sent = sizes.map((size) => randomBytes(size));
        for (const data of sent) send(client, data);
        const received: Buffer[] = [];
        for (;;) {
          const count = server.read(target.address + at, 500_000);
          if (count === TLS_AGAIN) break;
          expect(count).toBeGreaterThan(0);
          received.push(Buffer.from(target.buffer.subarray(at, at + count)));
        }
        expect(Buffer.concat(received).equals(Buffer.concat(sent))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  it('says whether it holds more than it gave', () => {
    shakeHands();
    send(client, Buffer.alloc(3 * RECORD));
    expect(server.read(target.address, RECORD)).toBe(RECORD);
    expect(server.drained).toBe(false);
    expect(server.read(target.address, 8 * RECORD)).toBe(2 * RECORD);
    expect(server.drained).toBe(true);
    expect(server.read(target.address, RECORD)).toBe(TLS_AGAIN);
  });

  it.each([
    ['one short record', 100],
    ['a full record', RECORD],
  ])('an end behind %s is told after it, without another word from the socket', (_what, size) => {
    shakeHands();
    send(client, Buffer.alloc(size));
    client.close();
    expect(server.read(target.address, 4 * RECORD)).toBe(size);
    expect(server.drained).toBe(false);
    expect(server.read(target.address, 4 * RECORD)).toBe(TLS_EOF);
    expect(server.read(target.address, 4 * RECORD)).toBe(TLS_EOF);
  });

  it('a cut behind full records is a failure, told after them', () => {
    shakeHands();
    send(client, Buffer.alloc(2 * RECORD));
    // FIN without close_notify (RFC 8446 section 6.1: truncation).
    libc().close(sockets[0]);
    sockets[0] = -1;
    expect(server.read(target.address, 4 * RECORD)).toBe(2 * RECORD);
    expect(server.read(target.address, 4 * RECORD)).toBe(TLS_FAILED);
    expect(server.failure).toBe('unexpected eof while reading');
  });

  it('a reset has the name of its errno', () => {
    shakeHands();
    resetSocket(sockets[0]);
    sockets[0] = -1;
    expect(server.read(target.address, RECORD)).toBe(TLS_FAILED);
    expect(server.failure).toBe('ECONNRESET');
    expect(server.write(memory.address, 10)).toBe(true);
    expect(server.flush()).toBe(TLS_FAILED);
  });

  it('has room for a frame as long as it says so, and fails in words when it is overrun', () => {
    shakeHands();
    const empty = client.room();
    expect(empty).toBeGreaterThanOrEqual(2 * tlsBytes(TLS_WRITE_MOST));
    let written = 0;
    while (client.room() >= tlsBytes(100_000)) {
      const before = client.room();
      expect(client.write(memory.address, 100_000)).toBe(true);
      expect(before - client.room()).toBeLessThanOrEqual(tlsBytes(100_000));
      written += 100_000;
    }
    expect(written).toBeGreaterThan(500_000);
    expect(client.write(memory.address, 100_000)).toBe(false);
    expect(client.failure).toBe('the peer does not read');
  });

  it('tells a full socket from a broken one, and goes on where it stopped', () => {
    shakeHands();
    const data = randomBytes(200_000);
    data.copy(memory.buffer);
    let total = 0;
    while (client.flush() === TLS_DONE && total < 64 << 20) {
      expect(client.write(memory.address, data.length)).toBe(true);
      total += data.length;
    }
    expect(client.flush()).toBe(TLS_AGAIN);
    let received = 0;
    for (let step = 0; received < total && step < 10_000; step++) {
      const count = server.read(target.address, 512 << 10);
      if (count > 0) received += count;
      client.flush();
    }
    expect(received).toBe(total);
  });

  it('gives OpenSSL’s record buffers back when they rest, never with part of a record in them', () => {
    shakeHands();
    const freed = vi.spyOn(openssl(), 'SSL_free_buffers');
    const outcomes = () => freed.mock.results.splice(0).map(({ value }) => value);
    for (const round of [1, 2]) {
      send(client, Buffer.alloc(RECORD, round));
      expect(server.read(target.address, RECORD)).toBe(RECORD);
      server.tidy();
      expect(outcomes()).toEqual([]);
      server.tidy();
      server.tidy();
      expect(outcomes()).toEqual([1]);
    }
    // What is on its way out stays.
    const words = randomBytes(100_000);
    words.copy(memory.buffer);
    expect(client.write(memory.address, words.length)).toBe(true);
    client.rest();
    expect(outcomes()).toEqual([1]);
    expect(client.flush()).toBe(TLS_DONE);
    expect(server.read(target.address, 1 << 17)).toBe(words.length);
    expect(target.buffer.subarray(0, words.length).equals(words)).toBe(true);
    server.rest();
    outcomes();
    // A record in two pieces, as a slow network brings it.
    const [near, far] = sockets;
    send(client, randomBytes(1000));
    const bytes = receiveNow(far) as Buffer;
    sendAll(near, bytes.subarray(0, 700));
    expect(server.read(target.address, RECORD)).toBe(TLS_AGAIN);
    // Nothing was read since, as far as the leg's user can see.
    send(server, Buffer.alloc(1));
    for (let i = 0; i < 3; i++) server.tidy();
    expect(outcomes()).toEqual([0, 0]);
    sendAll(near, bytes.subarray(700));
    expect(server.read(target.address, RECORD)).toBe(1000);
    freed.mockRestore();
  });

  it('does nothing any more once it is closed', () => {
    shakeHands();
    client.close();
    client.close();
    expect(client.read(target.address, RECORD)).toBe(TLS_FAILED);
    expect(client.write(memory.address, 1)).toBe(false);
    expect([client.flush(), client.handshake(), client.room(), client.describe()]).toEqual([
      TLS_FAILED,
      TLS_FAILED,
      0,
      '',
    ]);
  });

  it('outlives the context that it is made of', () => {
    for (const context of contexts) context.close();
    shakeHands();
    send(client, Buffer.from('still'));
    expect(server.read(target.address, RECORD)).toBe(5);
  });

  it('gives everything of OpenSSL’s back: 3,000 sessions leave nothing', () => {
    const round = (count: number) => {
      for (let index = 0; index < count; index++) {
        const leg = new TlsLeg(sockets[0], contexts[0], 'client', verifier);
        leg.handshake();
        leg.close();
      }
    };
    round(500);
    const before = process.memoryUsage.rss();
    round(3000);
    // 5 KB each for the smaller half of the output ring, were it forgotten; 25 KB for a session.
    expect(process.memoryUsage.rss() - before).toBeLessThan(10 << 20);
  });
});
