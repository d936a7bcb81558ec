import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { dialTcp } from '../../src/hbone/index.ts';
import { pair } from './mesh.ts';

/** A connection that takes one piece a millisecond, and has nothing in between where more could wait. */
function slowWire(inner: Duplex): Duplex {
  const wire = new Duplex({
    read: () => inner.resume(),
    write: (chunk, _encoding, callback) => inner.write(chunk, () => setTimeout(callback, 1)),
    final: (callback) => inner.end(callback),
    destroy: (error, callback) => {
      inner.destroy();
      callback(error);
    },
    writableHighWaterMark: 1,
  });
  inner.on('data', (chunk) => wire.push(chunk) || inner.pause());
  inner.on('end', () => wire.push(null)).on('error', (error) => wire.destroy(error));
  return wire;
}

it('ten streams with everything to send share a tunnel that is slower than all of them', {
  timeout: 30_000,
}, async () => {
  await using mesh = await pair({ client: { dial: async (...args) => slowWire(await dialTcp(...args)) } });
  const received: number[] = [];
  mesh.server.on('tunnel', (request) => {
    const index = received.push(0) - 1;
    request
      .accept()
      .on('error', () => {})
      .on('data', (chunk: Buffer) => {
        received[index]! += chunk.length;
      });
  });
  const streams = await Promise.all(Array.from({ length: 10 }, () => mesh.open()));
  const chunk = Buffer.alloc(1 << 20);
  for (const stream of streams) {
    const more = () => {
      while (!stream.destroyed && stream.write(chunk));
    };
    stream.on('error', () => {}).on('drain', more);
    more();
  }
  while (received.reduce((sum, bytes) => sum + bytes, 0) < 20 << 20) await sleep(10);
  expect(Math.min(...received)).toBeGreaterThan(1 << 20);
  for (const stream of streams) stream.destroy();
});
