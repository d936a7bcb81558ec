import { createCipheriv, createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import { parseArgs } from 'node:util';
import { openNamespace } from '../../netns/index.ts';
import { listen } from '../../socket/index.ts';

const CHUNK_BYTES = 256 << 10;
/** A body that `/bytes/N` makes is at most this long. */
const MAX_BODY_BYTES = 2 ** 40;

/**
 * `ambient demo-app --namespace NAME --port N --name NAME`: the server that the demo runs as httpbin, client2 and outside. Ends with
 * SIGTERM.
 *
 * - `GET /bytes/N`: N bytes, always the same ones (see {@link knownBytes})
 * - `POST /sha256`: `{"length", "sha256"}` of the body
 * - any other: what arrived and from where, as JSON
 */
export async function podAppCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { namespace: { type: 'string' }, port: { type: 'string' }, name: { type: 'string' } },
  });
  const { namespace: namespaceName = '', port = '80', name = 'app' } = values;
  const http = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    answer(name, request, response).catch((error: Error) => response.destroy(error));
  });
  using namespace = openNamespace(namespaceName);
  const server = await listen({ namespace, host: '0.0.0.0', port: Number(port), backlog: 1024 });
  server.on('connection', (socket) => http.emit('connection', socket));
  console.log(`${name} on port ${port} ready`);
  await new Promise<void>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  server.close();
  http.closeAllConnections();
  return 0;
}

async function answer(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = '', url = '/', socket, headers } = request;
  if (url.startsWith('/bytes/')) return sendBytes(Number(url.slice('/bytes/'.length)), response);
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    if (url === '/sha256') hash.update(chunk);
    length += chunk.length;
  }
  const body =
    url === '/sha256'
      ? { length, sha256: hash.digest('hex') }
      : { app: name, method, url, headers, origin: socket.remoteAddress, originPort: socket.remotePort, length };
  const text = `${JSON.stringify(body, null, 2)}\n`;
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text);
}

function sendBytes(length: number, response: ServerResponse): void {
  if (!Number.isSafeInteger(length) || length < 0 || length > MAX_BODY_BYTES) {
    response.writeHead(400).end('how many bytes?\n');
    return;
  }
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': length });
  pipeline(Readable.from(knownBytes(length), { objectMode: false, highWaterMark: 1 << 20 }), response, () => {});
}

/**
 * The body of `/bytes/N`: AES-128-CTR of zeros with key and counter zero. Never repeats, so a piece that is lost, doubled or out of
 * place changes the digest.
 */
export function* knownBytes(length: number): Generator<Buffer> {
  const zeros = Buffer.alloc(CHUNK_BYTES);
  const stream = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
  for (let left = length; left > 0; left -= CHUNK_BYTES) {
    yield stream.update(left < CHUNK_BYTES ? zeros.subarray(0, left) : zeros);
  }
}
