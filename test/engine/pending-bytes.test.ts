import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CHUNK_BYTES,
  ChunkPool,
  PendingBytes,
  SEND_FAILED,
  SENT_ALL,
  SENT_SOME,
} from '../../src/engine/pending-bytes.ts';
import { EPIPE, errno, libc } from '../../src/system/index.ts';
import { receiveNow, resetSocket, tcpPair } from './sockets.ts';

describe('PendingBytes', () => {
  it('sends what was appended, in order, whatever its sizes and however slowly it is taken', () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 3 * CHUNK_BYTES }), { maxLength: 6 });
    fc.assert(
      fc.property(sizes, (lengths) => {
        const [near, far] = tcpPair({ smallBuffers: true });
        const pending = new PendingBytes(new ChunkPool());
        const expected = lengths.map((length) => randomBytes(length));
        const received: Buffer[] = [];
        const take = () => {
          for (let got = receiveNow(far); Buffer.isBuffer(got) && got.length > 0; got = receiveNow(far))
            received.push(got);
        };
        for (const data of expected) {
          // From the middle of a buffer, as payload is.
          const buffer = Buffer.concat([Buffer.alloc(9), data, Buffer.alloc(3)]);
          pending.append(buffer, 9, 9 + data.length);
          buffer.fill(0xff);
          pending.sendTo(near);
          take();
        }
        for (let round = 0; pending.length > 0 && round < 10_000; round++) {
          const before = pending.length;
          const outcome = pending.sendTo(near);
          expect(pending.sent).toBe(before - pending.length);
          expect(outcome).toBe(pending.length === 0 ? SENT_ALL : SENT_SOME);
          take();
        }
        take();
        expect(Buffer.concat(received).equals(Buffer.concat(expected))).toBe(true);
        for (const fd of [near, far]) libc().close(fd);
      }),
      { numRuns: 15 },
    );
  });

  it('says so when the socket is broken', () => {
    const [near, far] = tcpPair();
    resetSocket(far);
    const pending = new PendingBytes(new ChunkPool());
    pending.append(Buffer.from('abc'), 0, 3);
    expect(pending.sendTo(near)).toBe(SEND_FAILED);
    expect([104, EPIPE]).toContain(errno());
    expect(pending.length).toBe(3);
    pending.clear();
    expect(pending.length).toBe(0);
    expect(pending.sendTo(near)).toBe(SENT_ALL);
    libc().close(near);
  });
});

describe('ChunkPool', () => {
  it('gives the same chunk again, empty, and keeps no more than it was told to', () => {
    const pool = new ChunkPool(2 * CHUNK_BYTES);
    const [a, b, c] = [pool.take(), pool.take(), pool.take()];
    a.start = a.end = 7;
    for (const chunk of [c, b, a]) pool.give(chunk);
    const again = [pool.take(), pool.take(), pool.take()];
    expect(again.slice(0, 2)).toEqual([b, c]);
    expect(again[2]).not.toBe(a);
    expect(again.every(({ start, end, next }) => start === 0 && end === 0 && next === undefined)).toBe(true);
  });

  it('gets everything back from a reader that has caught up, or gone', () => {
    const pool = new ChunkPool();
    const chunk = pool.take();
    pool.give(chunk);
    const [near, far] = tcpPair();
    const pending = new PendingBytes(pool);
    const data = Buffer.alloc(100);
    pending.append(data, 0, 100);
    pending.sendTo(near);
    expect(pool.take()).toBe(chunk);
    pool.give(chunk);
    pending.append(data, 0, 100);
    pending.clear();
    expect(pool.take()).toBe(chunk);
    for (const fd of [near, far]) libc().close(fd);
  });
});
