/**
 * Connections that never rest, in a thread of their own, so that their packets are under way while the main thread changes the rules:
 * each sends a block, waits for its echo, and sends the next.
 */
import type { Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { openNamespace } from '../../src/netns/index.ts';
import { connect, listen } from '../../src/socket/index.ts';

/** One connection: namespaces by name. */
export interface LoadPath {
  readonly from: string;
  readonly to: string;
  readonly ip: string;
  readonly port: number;
}

/** What the thread tells when it is asked: blocks that came back, and what ended, by path. */
export interface LoadReport {
  readonly echoed: readonly number[];
  readonly ended: readonly string[];
}

const BLOCK = Buffer.alloc(1024, 'x');
const port = parentPort!;
const paths = workerData as readonly LoadPath[];
const echoed = paths.map(() => 0);
const ended: string[] = [];
const sockets = new Set<Socket>();

for (const [i, path] of paths.entries()) {
  const server = await listen({ namespace: openNamespace(path.to), host: '0.0.0.0', port: path.port });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  const client = await connect({
    namespace: openNamespace(path.from),
    host: path.ip,
    port: path.port,
    timeoutMs: 3000,
  });
  sockets.add(client);
  let waiting = BLOCK.length;
  client.on('data', ({ length }) => {
    waiting -= length;
    if (waiting > 0) return;
    echoed[i]!++;
    waiting = BLOCK.length;
    client.write(BLOCK);
  });
  client.on('error', (error) => ended.push(`${path.from} to ${path.ip}: ${error.message}`));
  client.on('close', () => ended.push(`${path.from} to ${path.ip}: closed`));
  client.write(BLOCK);
}

port.on('message', (what: 'report' | 'stop') => {
  if (what === 'report') port.postMessage({ echoed: [...echoed], ended: [...ended] } satisfies LoadReport);
  else process.exit();
});
port.postMessage('ready');
