import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { Http2Connection } from '../../src/http2/connection.ts';
import { CANCEL, ENHANCE_YOUR_CALM, NO_ERROR, REFUSED_STREAM } from '../../src/http2/error-code.ts';
import type { HeaderField } from '../../src/http2/header-field.ts';
import type { Http2Error } from '../../src/http2/http2-error.ts';
import type { Http2Request } from '../../src/http2/message-head.ts';
import type { Http2Options, Http2Role } from '../../src/http2/options.ts';
import type { Http2Sink } from '../../src/http2/sink.ts';
import type { Http2Stream } from '../../src/http2/stream.ts';

const MIB = 1024 * 1024;
const sha256 = (...parts: Buffer[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
};

/** One side of a tunnel: what is to be sent, what came, and how it ended. */
class Job {
  readonly pending: Buffer[] = [];
  endWhenSent = false;
  /** The server leaves its direction open. */
  hold = false;
  ended = false;
  readonly received: Buffer[] = [];
  status: number | undefined;
  headers: readonly HeaderField[] = [];
  resetCode: number | undefined;
  readonly done: Promise<void>;
  resolve: () => void = () => {};

  constructor() {
    this.done = new Promise((resolve) => {
      this.resolve = resolve;
    });
  }
}

type Stream = Http2Stream<Job>;

/** The simplest driver over a socket. As a server it echoes, except what the authority asks for. */
class Driver implements Http2Sink<Job> {
  readonly socket: net.Socket;
  readonly connection: Http2Connection<Job>;
  readonly requests: Http2Request[] = [];
  goawayCode: number | undefined;
  lastReset: number | undefined;
  closed: { error: Http2Error | undefined } | undefined;
  settled: () => void = () => {};
  readonly #scratch = Buffer.alloc(9 + 64 * 1024);

  constructor(role: Http2Role, socket: net.Socket, options?: Http2Options) {
    this.socket = socket.setNoDelay();
    this.connection = new Http2Connection<Job>(role, this, options);
    socket.on('data', (chunk) => {
      this.connection.receive(chunk, 0, chunk.length);
      this.connection.flush();
    });
    socket.on('error', () => {});
    this.connection.start(0);
  }

  open(authority: string, headers: readonly HeaderField[] = []): Stream {
    const stream = this.connection.open(authority, headers, new Job());
    this.connection.flush();
    return stream;
  }

  send(stream: Stream, bytes: Buffer, end = false): void {
    stream.context.pending.push(bytes);
    if (end) stream.context.endWhenSent = true;
    this.#pump(stream);
    this.connection.flush();
  }

  #pump(stream: Stream): void {
    const { pending } = stream.context;
    while (pending.length > 0) {
      const room = Math.min(this.connection.capacity(stream), this.#scratch.length - 9);
      if (room === 0) return;
      const [first] = pending;
      const bytes = Math.min(room, first!.length);
      first!.copy(this.#scratch, 9, 0, bytes);
      if (bytes === first!.length) pending.shift();
      else pending[0] = first!.subarray(bytes);
      this.connection.sendData(stream, this.#scratch, 9, 9 + bytes, false);
    }
    if (stream.context.endWhenSent && !stream.localEnded) this.connection.endStream(stream);
  }

  write(buffer: Buffer, start: number, end: number): void {
    this.socket.write(Buffer.from(buffer.subarray(start, end)));
  }
  onRequest(stream: Stream, request: Http2Request): void {
    stream.context = new Job();
    stream.context.hold = request.authority === 'hold:1';
    this.requests.push(request);
    if (request.method !== 'CONNECT') this.connection.respond(stream, 400, [], true);
    else if (request.authority === 'refuse:1') this.connection.respond(stream, 401, [], true);
    else if (request.authority === 'reset:1') this.connection.reset(stream, REFUSED_STREAM);
    else this.connection.respond(stream, 200, [['baggage', 'k8s.pod.name=httpbin']], false);
  }
  onResponse(stream: Stream, status: number, headers: readonly HeaderField[], endStream: boolean): void {
    stream.context.status = status;
    stream.context.headers = headers;
    if (endStream) stream.context.resolve();
  }
  onData(stream: Stream, buffer: Buffer, start: number, end: number): void {
    const copy = Buffer.from(buffer.subarray(start, end));
    this.connection.consume(stream, end - start);
    stream.context.received.push(copy);
    if (this.connection.role === 'server') this.send(stream, copy);
  }
  onEnd(stream: Stream): void {
    stream.context.ended = true;
    stream.context.resolve();
    if (this.connection.role === 'server' && !stream.context.hold) this.send(stream, Buffer.from('bye'), true);
  }
  onReset(stream: Stream, errorCode: number): void {
    stream.context.resetCode = errorCode;
    this.lastReset = errorCode;
    stream.context.resolve();
    this.settled();
  }
  onWritable(stream: Stream): void {
    this.#pump(stream);
  }
  onGoaway(_lastStreamId: number, errorCode: number): void {
    this.goawayCode = errorCode;
  }
  onSettings(): void {
    this.settled();
  }
  onClosed(error: Http2Error | undefined): void {
    this.closed = { error };
    this.socket.end();
    this.settled();
  }

  /** Until the next settings, reset or end of the connection. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.settled = resolve;
    });
  }
}

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

const port = (server: net.Server): number => (server.address() as AddressInfo).port;

describe('our server, node:http2 as the client', () => {
  async function setup(options?: Http2Options): Promise<{ client: http2.ClientHttp2Session; driver: Driver }> {
    let driver: Driver | undefined;
    const server = net.createServer((socket) => {
      driver = new Driver('server', socket, options);
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const client = http2.connect(`http://127.0.0.1:${port(server)}`);
    client.on('error', () => {});
    cleanups.push(() => {
      client.destroy();
      driver?.socket.destroy();
      server.close();
    });
    await once(client, 'remoteSettings');
    return { client, driver: driver! };
  }
  const connect = (client: http2.ClientHttp2Session, authority: string, headers = {}): http2.ClientHttp2Stream =>
    client.request({ ':method': 'CONNECT', ':authority': authority, ...headers }, { endStream: false });

  it('tells node the settings of facts section 1.7', async () => {
    const { client } = await setup();
    expect(client.remoteSettings).toMatchObject({
      initialWindowSize: 4 * MIB,
      maxFrameSize: MIB,
      maxConcurrentStreams: 200,
      maxHeaderListSize: 65_536,
    });
    await new Promise<void>((resolve) => client.ping(() => resolve()));
    expect(client.state.remoteWindowSize).toBe(16 * MIB);
  });

  it('carries 8 MiB each way, and half-close from the client', async () => {
    const { client, driver } = await setup();
    const stream = connect(client, '10.96.0.105:80', {
      baggage: 'k8s.namespace.name=default',
      forwarded: 'for="10.0.0.1:5"',
    });
    const [response] = await once(stream, 'response');
    expect(response[':status']).toBe(200);
    expect(response.baggage).toBe('k8s.pod.name=httpbin');
    expect(driver.requests[0]).toMatchObject({
      method: 'CONNECT',
      authority: '10.96.0.105:80',
      scheme: undefined,
      path: undefined,
      headers: [
        ['baggage', 'k8s.namespace.name=default'],
        ['forwarded', 'for="10.0.0.1:5"'],
      ],
    });
    const body = randomBytes(8 * MIB);
    const received: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => received.push(chunk));
    stream.end(body);
    await once(stream, 'end');
    expect(sha256(...received)).toBe(sha256(body, Buffer.from('bye')));
    expect(driver.connection.activeStreams).toBe(0);
  });

  it('fifty tunnels at once, HPACK tables in step', async () => {
    const { client } = await setup();
    const bodies = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const stream = connect(client, `10.0.0.${i % 7}:80`, {
          traceparent: `00-${i}`,
          baggage: `k8s.pod.name=p${i % 5}`,
        });
        stream.end(`hello ${i}`);
        let text = '';
        for await (const chunk of stream.setEncoding('latin1')) text += chunk;
        return text;
      }),
    );
    expect(bodies).toEqual(Array.from({ length: 50 }, (_, i) => `hello ${i}bye`));
  });

  it('answers errors and other methods, with END_STREAM on the head', async () => {
    const { client } = await setup();
    const refused = connect(client, 'refuse:1');
    expect((await once(refused, 'response'))[0][':status']).toBe(401);
    const get = client.request({ ':path': '/' });
    expect((await once(get, 'response'))[0][':status']).toBe(400);
  });

  it('carries resets with their code, both ways', async () => {
    const { client, driver } = await setup();
    const theirs = connect(client, 'hold:1');
    await once(theirs, 'response');
    const reset = driver.next();
    theirs.close(CANCEL); // node sends END_STREAM before RST_STREAM
    await reset;
    expect(driver.lastReset).toBe(CANCEL);
    const ours = connect(client, 'reset:1');
    ours.on('error', () => {});
    await new Promise((resolve) => ours.on('close', resolve));
    expect(ours.rstCode).toBe(REFUSED_STREAM);
    expect(driver.connection.activeStreams).toBe(0);
  });

  it('answers pings, and pings', async () => {
    const { client, driver } = await setup();
    const payload = await new Promise<Buffer>((resolve, reject) => {
      client.ping(Buffer.from('abcdefgh'), (error, _ms, bytes) => (error ? reject(error) : resolve(bytes)));
    });
    expect(payload.toString()).toBe('abcdefgh');
    driver.connection.tick(10_000); // our PING goes out
    await new Promise<void>((resolve) => client.ping(() => resolve())); // node’s answer has come by now
    driver.connection.tick(29_000);
    driver.connection.tick(45_000);
    expect(driver.connection.closed).toBe(false);
  });

  it('drains: streams finish after GOAWAY, then the connection is over', async () => {
    const { client, driver } = await setup();
    const stream = connect(client, '10.0.0.1:80');
    await once(stream, 'response');
    const goaway = once(client, 'goaway');
    driver.connection.goaway(NO_ERROR);
    driver.connection.flush();
    expect((await goaway)[0]).toBe(NO_ERROR);
    expect(driver.closed).toBeUndefined();
    const closed = driver.next();
    stream.resume().end('last words');
    await closed;
    expect(driver.closed).toEqual({ error: undefined });
    expect(driver.connection.activeStreams).toBe(0);
  });

  it('ends on what breaks the protocol, with a GOAWAY that node understands', async () => {
    const { client } = await setup({ maxPingsPerSecond: 3 });
    const goaway = once(client, 'goaway');
    for (let i = 0; i < 4; i++) client.ping(() => {});
    expect((await goaway)[0]).toBe(ENHANCE_YOUR_CALM);
  });
});

describe('our client, node:http2 as the server', () => {
  async function setup(
    onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
    settings: http2.Settings = {},
    options?: Http2Options,
  ): Promise<{ driver: Driver; session: http2.ServerHttp2Session }> {
    const server = http2.createServer({ settings });
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      onStream(stream, headers);
    });
    const started = once(server, 'session');
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const socket = net.connect(port(server), '127.0.0.1');
    await once(socket, 'connect');
    const driver = new Driver('client', socket, options);
    const known = driver.next();
    const [session] = (await started) as [http2.ServerHttp2Session];
    session.on('error', () => {});
    cleanups.push(() => {
      socket.destroy();
      session.destroy();
      server.close();
    });
    await known;
    return { driver, session };
  }

  it('sends the CONNECT of facts section 1.2', async () => {
    let seen: http2.IncomingHttpHeaders = {};
    const { driver, session } = await setup((stream, headers) => {
      seen = headers;
      stream.respond({ ':status': 200, baggage: 'a=b' });
      stream.end('x');
    });
    const stream = driver.open('10.96.0.105:80', [
      ['baggage', 'k8s.namespace.name=default'],
      ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00'],
    ]);
    await stream.context.done;
    expect(Object.fromEntries(Object.entries(seen))).toEqual({
      ':method': 'CONNECT',
      ':authority': '10.96.0.105:80',
      baggage: 'k8s.namespace.name=default',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',
    });
    expect(stream.context.status).toBe(200);
    expect(stream.context.headers).toContainEqual(['baggage', 'a=b']);
    expect(session.remoteSettings).toMatchObject({ enablePush: false, initialWindowSize: 4 * MIB, maxFrameSize: MIB });
  });

  it('carries 8 MiB each way against small windows and frames, and half-close from the server', async () => {
    const body = randomBytes(8 * MIB);
    const hash = createHash('sha256');
    let uploaded: (digest: string) => void;
    const upload = new Promise<string>((resolve) => {
      uploaded = resolve;
    });
    const { driver } = await setup(
      (stream) => {
        stream.respond({ ':status': 200 });
        stream.end(body); // the server ends first; the client goes on
        stream.on('data', (chunk) => hash.update(chunk));
        stream.on('end', () => uploaded(hash.digest('hex')));
      },
      { initialWindowSize: 70_000, maxFrameSize: 20_000 },
    );
    const stream = driver.open('10.0.0.1:80');
    await stream.context.done;
    expect(stream.context.ended).toBe(true);
    expect(sha256(...stream.context.received)).toBe(sha256(body));
    driver.send(stream, body.subarray(0, 5 * MIB));
    driver.send(stream, body.subarray(5 * MIB), true);
    expect(await upload).toBe(sha256(body));
  });

  it('is held back by a server that does not read, without harm to other streams, and goes on when it does', async () => {
    const resume = new Map<string, () => void>();
    let total = 0;
    const { driver } = await setup((stream, headers) => {
      stream.respond({ ':status': 200 });
      const read = (): void => {
        stream.on('data', (chunk: Buffer) => {
          total += chunk.length;
        });
        stream.on('end', () => stream.end());
      };
      if (headers[':authority'] === 'slow:1') resume.set('slow:1', read);
      else read();
    });
    const slow = driver.open('slow:1');
    driver.send(slow, Buffer.alloc(MIB), true);
    const other = driver.open('quick:1');
    driver.send(other, Buffer.alloc(MIB), true);
    await other.context.done;
    expect(total).toBe(MIB);
    expect(driver.connection.capacity(slow)).toBe(0);
    expect(slow.context.pending).toHaveLength(1);
    resume.get('slow:1')?.();
    await slow.context.done;
    expect(total).toBe(2 * MIB);
  });

  it('carries resets with their code, both ways', async () => {
    let closed: (code: number) => void;
    const rstCode = new Promise<number>((resolve) => {
      closed = resolve;
    });
    const { driver } = await setup((stream, headers) => {
      stream.respond({ ':status': 200 });
      if (headers[':authority'] === 'theirs:1') stream.close(ENHANCE_YOUR_CALM);
      else stream.on('close', () => closed(stream.rstCode ?? -1));
    });
    const theirs = driver.open('theirs:1');
    await theirs.context.done;
    expect(theirs.context.resetCode).toBe(ENHANCE_YOUR_CALM);
    const ours = driver.open('ours:1');
    while (ours.context.status === undefined) await new Promise((resolve) => setImmediate(resolve));
    driver.connection.reset(ours, CANCEL);
    driver.connection.flush();
    expect(await rstCode).toBe(CANCEL);
  });

  it('keeps to MAX_CONCURRENT_STREAMS and a HEADER_TABLE_SIZE of 0', async () => {
    const { driver } = await setup(
      (stream) => {
        stream.respond({ ':status': 200 });
        stream.resume().on('end', () => stream.end());
      },
      { maxConcurrentStreams: 2, headerTableSize: 0 },
    );
    for (let round = 0; round < 5; round++) {
      const streams = [1, 2].map(() => driver.open('10.0.0.1:80', [['baggage', 'a=b']]));
      expect(driver.connection.canOpen).toBe(false);
      for (const stream of streams) driver.send(stream, Buffer.from('x'), true);
      await Promise.all(streams.map((stream) => stream.context.done));
    }
    expect(driver.connection.activeStreams).toBe(0);
  });

  it('understands the GOAWAY of a server: the open stream finishes, then the connection is over', async () => {
    const { driver, session } = await setup((stream) => {
      stream.respond({ ':status': 200 });
      stream.resume().on('end', () => stream.end('bye'));
    });
    const stream = driver.open('10.0.0.1:80');
    while (stream.context.status === undefined) await new Promise((resolve) => setImmediate(resolve));
    session.goaway(NO_ERROR, stream.id);
    while (driver.goawayCode === undefined) await new Promise((resolve) => setImmediate(resolve));
    expect(driver.connection.canOpen).toBe(false);
    driver.send(stream, Buffer.from('x'), true);
    await stream.context.done;
    driver.connection.flush();
    expect(driver.closed).toEqual({ error: undefined });
    expect(Buffer.concat(stream.context.received).toString()).toBe('bye');
  });

  it('survives a server that pings', async () => {
    const { session } = await setup((stream) => stream.respond({ ':status': 200 }));
    const bytes = await new Promise((resolve) =>
      session.ping(Buffer.from('12345678'), (_e, _ms, back) => resolve(back)),
    );
    expect(bytes).toEqual(Buffer.from('12345678'));
  });
});
