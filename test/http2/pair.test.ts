import { describe, expect, it } from 'vitest';
import { Http2Connection } from '../../src/http2/connection.ts';
import { CANCEL, NO_ERROR } from '../../src/http2/error-code.ts';
import type { HeaderField } from '../../src/http2/header-field.ts';
import type { Http2Error } from '../../src/http2/http2-error.ts';
import type { Http2Request } from '../../src/http2/message-head.ts';
import type { Http2Options, Http2Role } from '../../src/http2/options.ts';
import type { Http2Sink } from '../../src/http2/sink.ts';
import type { Http2Stream } from '../../src/http2/stream.ts';

type Random = (below: number) => number;

/** mulberry32: the same numbers for the same seed, everywhere. */
function random(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** Byte `at` of what goes one way on a stream: enough to see anything lost, doubled or exchanged. */
const patternByte = (tunnel: number, fromServer: boolean, at: number): number =>
  (tunnel * 131 + (fromServer ? 17 : 0) + at * 7 + (at >>> 8)) & 0xff;

class Flow {
  readonly tunnel: number;
  readonly total: number;
  sent = 0;
  received = 0;
  unconsumed = 0;
  ended = false;
  reset = false;
  blocked = false;

  constructor(tunnel: number, total: number) {
    this.tunnel = tunnel;
    this.total = total;
  }
}
type Stream = Http2Stream<Flow>;

class End implements Http2Sink<Flow> {
  readonly connection: Http2Connection<Flow>;
  readonly server: boolean;
  readonly streams = new Set<Stream>();
  readonly outbox: Buffer[] = [];
  readonly random: Random;
  errors: (Http2Error | undefined)[] = [];
  finished = 0;
  resets = 0;
  readonly #buffer = Buffer.alloc(9 + 20_000);

  constructor(role: Http2Role, options: Http2Options, random: Random) {
    this.server = role === 'server';
    this.random = random;
    this.connection = new Http2Connection<Flow>(role, this, options);
    this.connection.start(0);
  }

  write(buffer: Buffer, start: number, end: number): void {
    this.outbox.push(Buffer.from(buffer.subarray(start, end)));
  }
  onRequest(stream: Stream, request: Http2Request): void {
    stream.context = new Flow(Number(request.authority!.split(':')[1]), this.random(60_000));
    this.streams.add(stream);
    this.connection.respond(stream, 200, [['baggage', `t=${stream.context.tunnel % 3}`]], false);
  }
  onResponse(_stream: Stream, status: number, _headers: readonly HeaderField[]): void {
    expect(status).toBe(200);
  }
  onData(stream: Stream, buffer: Buffer, start: number, end: number): void {
    const flow = stream.context;
    for (let i = start; i < end; i++) {
      if (buffer[i] !== patternByte(flow.tunnel, !this.server, flow.received)) {
        throw new Error(`tunnel ${flow.tunnel}: wrong byte at ${flow.received}`);
      }
      flow.received++;
    }
    flow.unconsumed += end - start;
  }
  onEnd(stream: Stream): void {
    stream.context.ended = true;
    this.#settle(stream);
  }
  onReset(stream: Stream): void {
    stream.context.reset = true;
    this.resets++;
    this.streams.delete(stream);
  }
  onWritable(stream: Stream): void {
    expect(stream.context.blocked).toBe(true);
    stream.context.blocked = false;
  }
  onGoaway(): void {}
  onSettings(): void {}
  onClosed(error: Http2Error | undefined): void {
    this.errors.push(error);
  }

  /** One random step of the application on a random stream. */
  step(resets: boolean): void {
    const list = [...this.streams];
    const stream = list[this.random(list.length || 1)];
    if (stream === undefined) return;
    const flow = stream.context;
    if (resets && this.random(400) === 0) {
      this.connection.reset(stream, CANCEL);
      this.resets++;
      this.streams.delete(stream);
      return;
    }
    if (this.random(2) === 0) {
      const bytes = this.random(flow.unconsumed + 1);
      flow.unconsumed -= bytes;
      this.connection.consume(stream, bytes);
    }
    if (stream.localEnded || flow.blocked) return;
    const room = this.connection.capacity(stream);
    if (room === 0) {
      flow.blocked = flow.sent < flow.total;
      if (flow.blocked) return;
    }
    const bytes = Math.min(room, 1 + this.random(20_000), flow.total - flow.sent);
    for (let i = 0; i < bytes; i++) this.#buffer[9 + i] = patternByte(flow.tunnel, this.server, flow.sent + i);
    flow.sent += bytes;
    const last = flow.sent === flow.total;
    if (bytes > 0 || !last) this.connection.sendData(stream, this.#buffer, 9, 9 + bytes, last);
    else this.connection.endStream(stream);
    this.#settle(stream);
  }

  /** Everything is read: what is left unconsumed is given back, also after the end. */
  #settle(stream: Stream): void {
    const flow = stream.context;
    if (!flow.ended || !stream.localEnded) return;
    this.connection.consume(stream, flow.unconsumed);
    flow.unconsumed = 0;
    this.finished++;
    this.streams.delete(stream);
  }
}

/** Delivers some of what is on the way, cut anywhere. */
function deliver(from: End, to: End, next: Random): void {
  from.connection.flush();
  const bytes = Buffer.concat(from.outbox.splice(0));
  const cut = next(3) === 0 ? next(bytes.length + 1) : bytes.length;
  to.connection.receive(bytes, 0, cut);
  if (cut < bytes.length) from.outbox.unshift(bytes.subarray(cut));
  if (next(2) === 0) to.connection.flush();
}

const TUNNELS = 60;
const SMALL: Http2Options = {
  initialWindowBytes: 9_000,
  connectionWindowBytes: 65_535,
  maxFrameBytes: 16_384,
  maxBufferedBytes: 30_000,
  maxConcurrentStreams: 12,
  controlBufferBytes: 256,
  headerTableBytes: 256,
};

function play(seed: number, options: Http2Options, resets: boolean): { client: End; server: End; opened: Flow[] } {
  const next = random(seed);
  const client = new End('client', options, next);
  const server = new End('server', options, next);
  const opened: Flow[] = [];
  for (let step = 0; ; step++) {
    if (step > 400_000) throw new Error(`seed ${seed}: stuck with ${client.streams.size} streams`);
    if (opened.length < TUNNELS && client.connection.canOpen && client.streams.size < 12 && next(5) === 0) {
      const flow = new Flow(opened.length, next(60_000));
      opened.push(flow);
      const headers: HeaderField[] = [
        ['baggage', `k8s.pod.name=p${opened.length % 4}`],
        ['traceparent', `00-${opened.length}`],
      ];
      client.streams.add(client.connection.open(`tunnel:${flow.tunnel}`, headers, flow));
    }
    client.step(resets);
    server.step(resets);
    if (next(4) === 0) deliver(client, server, next);
    if (next(4) === 0) deliver(server, client, next);
    if (opened.length === TUNNELS && client.streams.size === 0 && server.streams.size === 0) break;
  }
  return { client, server, opened };
}

describe('two of our own connections, in random order', () => {
  const seeds = Array.from({ length: 12 }, (_, i) => i + 1);

  it.each(seeds)('seed %i: every byte of every tunnel arrives, in tiny windows', (seed) => {
    const { client, server, opened } = play(seed, SMALL, false);
    expect(client.errors).toEqual([]);
    expect(server.errors).toEqual([]);
    expect(client.finished).toBe(TUNNELS);
    expect(server.finished).toBe(TUNNELS);
    expect(opened.every((flow) => flow.sent === flow.total && flow.ended)).toBe(true);
    expect(client.connection.activeStreams).toBe(0);
  });

  it.each(seeds)('seed %i: resets of either side hurt no other tunnel, and lose no credit', (seed) => {
    const { client, server } = play(seed, SMALL, true);
    expect(client.errors).toEqual([]);
    expect(server.errors).toEqual([]);
    expect(client.finished).toBeGreaterThan(0);
    expect(client.resets).toBeGreaterThan(0);
    for (let i = 0; i < 20; i++) {
      deliver(client, server, random(1));
      deliver(server, client, random(1));
      client.connection.flush();
      server.connection.flush();
    }
    expect(client.connection.activeStreams).toBe(0);
    expect(server.connection.activeStreams).toBe(0);
    client.connection.goaway(NO_ERROR);
    client.connection.flush();
    expect(client.errors).toEqual([undefined]);
  });

  it('the defaults do as well', () => {
    const { client, server } = play(99, {}, false);
    expect([...client.errors, ...server.errors]).toEqual([]);
    expect(client.finished + server.finished).toBe(2 * TUNNELS);
  });
});
