/** Bodies of any size whose every byte is accounted for, sent and received without being kept. */
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';

const BLOCK_BYTES = 1 << 20;

/** Sends `bytes` that do not repeat from block to block, ends its half, and gives their SHA-256 in hex. */
export async function sendBody(socket: Socket, bytes: number): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes; at += BLOCK_BYTES) {
    const block = Buffer.alloc(Math.min(BLOCK_BYTES, bytes - at), `block ${at} `);
    hash.update(block);
    if (!socket.write(block)) await once(socket, 'drain');
  }
  socket.end();
  return hash.digest('hex');
}

/** SHA-256 in hex of everything until the end. */
export async function receiveBody(socket: Socket): Promise<{ bytes: number; digest: string }> {
  const hash: Hash = createHash('sha256');
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  await once(socket, 'end');
  return { bytes, digest: hash.digest('hex') };
}
