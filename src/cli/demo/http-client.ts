import { randomInt } from 'node:crypto';
import { Agent, request as httpRequest } from 'node:http';
import type { Socket } from 'node:net';
import type { NetworkNamespace } from '../../netns/index.ts';
import { connect } from '../../socket/index.ts';

/** Nothing of the demo takes this long unless it hangs. */
const TIMEOUT_MS = 5_000;
/** Above what proxies connect from (trap 8). */
const FIRST_CHOSEN_PORT = 40_000;
const LAST_CHOSEN_PORT = 60_000;

/** What came back. */
export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  readonly elapsedMs: number;
}

/** One TCP connection out of a namespace, for any number of requests one after another: curl with `--next`. */
export class HttpConnection {
  readonly socket: Socket;
  readonly localIp: string;
  readonly localPort: number;
  readonly #agent: Agent;
  readonly #host: string;

  private constructor(socket: Socket, host: string) {
    this.socket = socket;
    this.localIp = socket.localAddress ?? '';
    this.localPort = socket.localPort ?? 0;
    this.#host = host;
    this.#agent = new Agent({ keepAlive: true, maxSockets: 1 });
    // Given out once: a second connection would be another flow, which is what a caller does not want to look at.
    this.#agent.createConnection = () => socket;
  }

  /** @throws as `connect` of `ambient-kit/socket`, after 5 s at the latest */
  static async open(
    namespace: NetworkNamespace,
    host: string,
    port: number,
    signal: AbortSignal,
  ): Promise<HttpConnection> {
    return new HttpConnection(await connect({ namespace, host, port, timeoutMs: TIMEOUT_MS, signal }), host);
  }

  get(path: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<HttpAnswer> {
    const started = performance.now();
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        agent: this.#agent,
        host: this.#host,
        path,
        headers: { 'user-agent': 'ambient-demo', ...headers },
        timeout: TIMEOUT_MS,
        signal,
      });
      request.on('timeout', () => request.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
      request.on('error', reject);
      request.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            body: Buffer.concat(chunks).toString('utf8'),
            elapsedMs: performance.now() - started,
          }),
        );
      });
      request.end();
    });
  }

  close(): void {
    this.#agent.destroy();
    this.socket.destroy();
  }
}

/** How a connection ended that was to be refused. */
export interface Ending {
  readonly localIp: string;
  readonly localPort: number;
  /** `timeout`: it did not end at all within 5 s. */
  readonly how: 'reset' | 'closed' | 'timeout' | 'refused';
  readonly bytesReceived: number;
  readonly elapsedMs: number;
}

/**
 * Connects, asks, and waits for the end, which may come before this process has noticed that it is connected: hence a port of its own
 * choice, by which the proxies' logs can be asked all the same.
 */
export async function askUntilEnd(
  client: { readonly namespace: NetworkNamespace; readonly ip: string },
  host: string,
  port: number,
  question: string,
  signal: AbortSignal,
): Promise<Ending> {
  const started = performance.now();
  const source = { ip: client.ip, port: randomInt(FIRST_CHOSEN_PORT, LAST_CHOSEN_PORT) };
  const ending = (how: Ending['how'], bytesReceived: number): Ending => ({
    localIp: source.ip,
    localPort: source.port,
    how,
    bytesReceived,
    elapsedMs: performance.now() - started,
  });
  let socket: Socket;
  try {
    socket = await connect({ namespace: client.namespace, host, port, source, timeoutMs: TIMEOUT_MS, signal });
  } catch (error) {
    if (hasCode(error, 'ECONNRESET')) return ending('reset', 0);
    if (hasCode(error, 'ECONNREFUSED')) return ending('refused', 0);
    throw error;
  }
  let bytesReceived = 0;
  socket.on('data', (chunk: Buffer) => {
    bytesReceived += chunk.length;
  });
  const how = await new Promise<Ending['how']>((resolve) => {
    const timer = setTimeout(resolve, TIMEOUT_MS, 'timeout' as const);
    const done = (ending: Ending['how']) => {
      clearTimeout(timer);
      resolve(ending);
    };
    socket.on('error', (error) => done(hasCode(error, 'ECONNRESET') ? 'reset' : 'closed'));
    socket.on('close', () => done('closed'));
    signal.addEventListener('abort', () => done('timeout'), { once: true });
    socket.write(question);
  });
  socket.destroy();
  signal.throwIfAborted();
  return ending(how, bytesReceived);
}

function hasCode(error: unknown, code: string): boolean {
  return (error as { code?: unknown }).code === code;
}
