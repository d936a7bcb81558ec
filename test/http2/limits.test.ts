import { describe, expect, it } from 'vitest';
import { CANCEL } from '../../src/http2/error-code.ts';
import {
  CLIENT_PREFACE,
  FLAG_END_HEADERS,
  FRAME_CONTINUATION,
  FRAME_HEADERS,
  FRAME_PRIORITY,
} from '../../src/http2/frame.ts';
import type { HeaderField } from '../../src/http2/header-field.ts';
import {
  Bench,
  block,
  CONNECT,
  connect,
  data,
  frame,
  goaway,
  headers,
  ping,
  rstStream,
  serverBench,
  settings,
  settingsAck,
  windowUpdate,
} from './harness.ts';

const CALM = 'closed ERR_HTTP2_CALM ENHANCE_YOUR_CALM';
const times = (count: number, make: (i: number) => Buffer): Buffer[] =>
  Array.from({ length: count }, (_, i) => make(i));
const filler = (bytes: number): readonly HeaderField[] => [...CONNECT, ['x', 'y'.repeat(bytes)]];

describe('floods', () => {
  const rapidReset = (i: number): Buffer => Buffer.concat([connect(2 * i + 1), rstStream(2 * i + 1, CANCEL)]);
  const floods: [name: string, options: object, make: (i: number) => Buffer][] = [
    ['SETTINGS', { maxSettingsPerSecond: 10 }, () => settings()],
    ['PING', { maxPingsPerSecond: 10 }, () => ping()],
    ['PING answers', { maxPingsPerSecond: 10 }, () => ping(true)],
    ['empty DATA', { maxEmptyDataPerSecond: 10 }, () => data(1, '')],
    ['WINDOW_UPDATE', { maxWindowUpdatesPerSecond: 10 }, () => windowUpdate(0, 1)],
    ['PRIORITY', { maxIgnoredFramesPerSecond: 10 }, () => frame(FRAME_PRIORITY, 0, 1, Buffer.alloc(5))],
    ['unknown frames', { maxIgnoredFramesPerSecond: 10 }, () => frame(0xfa, 0, 0)],
    ['GOAWAY', { maxIgnoredFramesPerSecond: 10 }, () => goaway(0, 0)],
    ['acknowledgements of SETTINGS', { maxIgnoredFramesPerSecond: 10 }, () => settingsAck()],
    ['rapid reset (CVE-2023-44487)', { maxFailedStreamsPerSecond: 10 }, (i) => rapidReset(i + 1)],
    ['refused streams', { maxFailedStreamsPerSecond: 10, maxConcurrentStreams: 1 }, (i) => connect(2 * i + 3)],
    ['malformed requests', { maxFailedStreamsPerSecond: 10 }, (i) => headers(2 * i + 3, [['x', 'y']])],
    [
      'resets that the peer makes us send (CVE-2025-8671)',
      { maxFailedStreamsPerSecond: 10 },
      (i) => Buffer.concat([connect(2 * i + 3), windowUpdate(2 * i + 3, 0)]),
    ],
  ];

  it.each(floods)('%s: ten a second pass, one more ends the connection', (_name, options, make) => {
    // One more SETTINGS came with the preface.
    const first = 'maxSettingsPerSecond' in options ? 9 : 10;
    const bench = serverBench(options).receive(connect(1), ...times(first, make));
    expect(bench.connection.closed).toBe(false);
    bench.receive(make(first));
    expect(bench.take().events.at(-1)).toBe(CALM);
  });

  it.each(floods)('%s: time refills the budget, never above a second’s worth', (_name, options, make) => {
    const first = 'maxSettingsPerSecond' in options ? 9 : 10;
    const bench = serverBench(options).receive(connect(1), ...times(first, make));
    bench.connection.tick(500);
    bench.receive(...times(5, (i) => make(first + i)));
    expect(bench.connection.closed).toBe(false);
    bench.connection.tick(9_000);
    bench.receive(...times(11, (i) => make(first + 5 + i)));
    expect(bench.connection.closed).toBe(true);
  });

  it('DATA that was sent earns WINDOW_UPDATE: a fast transfer is no flood', () => {
    const bench = serverBench({ maxWindowUpdatesPerSecond: 10 }, [4, 1_000_000]).receive(connect(1));
    bench.connection.respond(bench.stream(1), 200, [], false);
    const buffer = Buffer.alloc(9 + 16_384);
    bench.connection.sendData(bench.stream(1), buffer, 9, buffer.length, false);
    bench.receive(...times(26, () => windowUpdate(0, 600)));
    expect(bench.connection.closed).toBe(false);
    bench.receive(windowUpdate(0, 600));
    expect(bench.connection.closed).toBe(true);
  });

  it('resets after the answer are no rapid resets', () => {
    const bench = serverBench({ maxFailedStreamsPerSecond: 1 });
    for (let id = 1; id < 100; id += 2) {
      bench.receive(connect(id));
      bench.connection.respond(bench.stream(id), 200, [], false);
      bench.receive(rstStream(id, CANCEL));
    }
    expect(bench.connection.closed).toBe(false);
  });

  it('too many parameters in one SETTINGS frame', () => {
    const pair: [number, number] = [0x99, 1];
    const bench = serverBench({ maxSettingsEntries: 3 }).receive(settings(pair, pair, pair));
    expect(bench.connection.closed).toBe(false);
    expect(
      bench
        .receive(settings(pair, pair, pair, pair))
        .take()
        .events.at(-1),
    ).toBe(CALM);
  });
});

describe('header blocks', () => {
  it('a list over the limit resets its stream, and the connection goes on', () => {
    const bench = serverBench({ maxHeaderListBytes: 1000 }).receive(headers(1, filler(1000)), headers(3, filler(700)));
    expect(bench.take()).toEqual({
      events: ['request 3 CONNECT 10.0.0.1:80'],
      frames: ['RST_STREAM stream=1 length=4 ENHANCE_YOUR_CALM'],
    });
  });

  it('a block of more than twice the limit ends the connection, before it is read', () => {
    const bench = serverBench({ maxHeaderListBytes: 1000 });
    bench.receive(frame(FRAME_HEADERS, FLAG_END_HEADERS, 1, Buffer.alloc(2001)).subarray(0, 9));
    expect(bench.take().events).toEqual([CALM]);
  });

  it('CONTINUATION bytes count too', () => {
    const bench = serverBench({ maxHeaderListBytes: 1000 });
    const bytes = block(filler(1800));
    bench.receive(frame(FRAME_HEADERS, 0, 1, bytes.subarray(0, 1000)));
    expect(bench.connection.closed).toBe(false);
    bench.receive(frame(FRAME_CONTINUATION, 0, 1, Buffer.alloc(1001)));
    expect(bench.take().events).toEqual([CALM]);
  });

  it('so do CONTINUATION frames, empty ones too (CVE-2024-27316)', () => {
    const bench = serverBench({ maxContinuationFrames: 4 }).receive(frame(FRAME_HEADERS, 0, 1, block(CONNECT)));
    bench.receive(...times(4, () => frame(FRAME_CONTINUATION, 0, 1)));
    expect(bench.connection.closed).toBe(false);
    expect(bench.receive(frame(FRAME_CONTINUATION, 0, 1)).take().events).toEqual([CALM]);
  });
});

describe('keepalive (facts section 1.7)', () => {
  const KEEPALIVE = 'PING stream=0 length=8 6b6565702d616c69';
  it('pings 10 s after the start and 10 s after each answer', () => {
    const bench = serverBench();
    bench.connection.tick(9_999);
    expect(bench.take().frames).toEqual([]);
    bench.connection.tick(10_000);
    expect(bench.take().frames).toEqual([KEEPALIVE]);
    bench.connection.tick(12_000);
    bench.receive(ping(true, 'keep-ali'));
    bench.connection.tick(21_999);
    expect(bench.take().frames).toEqual([]);
    bench.connection.tick(22_000);
    expect(bench.take().frames).toEqual([KEEPALIVE]);
  });

  it('20 s of silence after a PING end the connection, with GOAWAY(NO_ERROR)', () => {
    const bench = serverBench();
    bench.connection.tick(10_000);
    bench.connection.tick(29_999);
    bench.take();
    bench.connection.tick(30_000);
    const { events, frames } = bench.take();
    expect(events).toEqual(['closed ERR_HTTP2_KEEPALIVE_TIMEOUT NO_ERROR']);
    expect(frames[0]).toContain('last=0 NO_ERROR "http2.tick: no answer to PING in 20000 ms"');
  });

  it('bytes of any kind are life: an answer stuck behind data on a slow link is awaited', () => {
    const bench = serverBench().receive(connect(1));
    bench.connection.tick(10_000);
    for (let nowMs = 11_000; nowMs <= 60_000; nowMs += 1000) {
      bench.receive(data(1, 'x'));
      bench.connection.tick(nowMs);
    }
    expect(bench.connection.closed).toBe(false);
    bench.connection.tick(80_000);
    expect(bench.connection.closed).toBe(true);
  });

  it('0 turns it off', () => {
    const bench = serverBench({ keepaliveIntervalMs: 0 });
    bench.connection.tick(1_000_000);
    expect(bench.take()).toEqual({ events: [], frames: [] });
  });

  it('answers the PINGs of the peer with their payload', () => {
    expect(serverBench().receive(ping(false, 'abcdefgh')).take().frames).toEqual([
      'PING stream=0 ACK length=8 6162636465666768',
    ]);
  });
});

describe('RFC 9113 section 6.5.3, waiting for SETTINGS', () => {
  it.each([
    ['nothing', []],
    ['a preface and no SETTINGS', [CLIENT_PREFACE]],
    ['SETTINGS and no acknowledgement', [CLIENT_PREFACE, settings()]],
  ])('after %s the connection ends in time', (_what, frames) => {
    const bench = new Bench('server', { keepaliveIntervalMs: 0, settingsTimeoutMs: 5000 });
    bench.connection.start(1000);
    bench.receive(...frames);
    bench.connection.tick(5999);
    expect(bench.connection.closed).toBe(false);
    bench.connection.tick(6000);
    expect(bench.take().events.at(-1)).toBe('closed ERR_HTTP2_SETTINGS_TIMEOUT SETTINGS_TIMEOUT');
  });
});
