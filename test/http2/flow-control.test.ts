import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CANCEL } from '../../src/http2/error-code.ts';
import { FLAG_PADDED, FRAME_DATA } from '../../src/http2/frame.ts';
import { ReceiveWindow } from '../../src/http2/receive-window.ts';
import { SETTINGS_INITIAL_WINDOW_SIZE, SETTINGS_MAX_FRAME_SIZE } from '../../src/http2/settings.ts';
import {
  type Bench,
  clientBench,
  connect,
  data,
  frame,
  rstStream,
  type Stream,
  serverBench,
  settings,
  windowUpdate,
} from './harness.ts';

const KIB = 1024;
const payload = Buffer.alloc(9 + 256 * KIB, 'x');

/** A client with streams that have sent until nothing more goes; the connection window is the RFC's 65,535. */
function filled(bench: Bench, streams: number): Stream[] {
  const opened = Array.from({ length: streams }, () => bench.connection.open('a:1', [], undefined));
  for (const stream of opened) pour(bench, stream);
  bench.take();
  return opened;
}

function pour(bench: Bench, stream: Stream): number {
  let sent = 0;
  for (let room = bench.connection.capacity(stream); room > 0; room = bench.connection.capacity(stream)) {
    bench.connection.sendData(stream, payload, 9, 9 + room, false);
    sent += room;
  }
  return sent;
}

describe('RFC 9113 section 6.9, sending', () => {
  it('capacity is the least of the stream window, the connection window and the frame size of the peer', () => {
    const bench = clientBench({}, [SETTINGS_INITIAL_WINDOW_SIZE, 30_000], [SETTINGS_MAX_FRAME_SIZE, 20_000]);
    const [one, two, three] = [1, 2, 3].map(() => bench.connection.open('a:1', [], undefined));
    expect(bench.connection.capacity(one!)).toBe(20_000);
    bench.connection.sendData(one!, payload, 9, 20_009, false);
    expect(bench.connection.capacity(one!)).toBe(10_000);
    expect(pour(bench, one!)).toBe(10_000);
    expect(pour(bench, two!)).toBe(30_000);
    expect(pour(bench, three!)).toBe(5_535);
  });

  it('tells a stream of window only when it had asked in vain, and once', () => {
    const bench = clientBench({}, [SETTINGS_INITIAL_WINDOW_SIZE, 100]);
    const [one, two] = [1, 2].map(() => bench.connection.open('a:1', [], undefined));
    bench.connection.sendData(one!, payload, 9, 109, false);
    bench.receive(windowUpdate(1, 10));
    expect(bench.take().events).toEqual([]);
    bench.connection.sendData(two!, payload, 9, 109, false);
    expect(bench.connection.capacity(two!)).toBe(0);
    expect(bench.connection.capacity(two!)).toBe(0);
    bench.receive(windowUpdate(3, 10), windowUpdate(3, 10));
    expect(bench.take().events).toEqual(['writable 3']);
    expect(bench.connection.capacity(two!)).toBe(20);
  });

  it('shares a connection window that is too small for all in turn', () => {
    const bench = clientBench();
    const streams = filled(bench, 4);
    expect(streams.every((stream) => stream.waiting || stream.sendWindow > 0)).toBe(true);
    for (const stream of streams) bench.receive(windowUpdate(stream.id, 1_000_000));
    expect(bench.take().events).toEqual([]);
    bench.recorder.hook = (event, stream) => {
      if (event.startsWith('writable')) pour(bench, stream!);
    };
    for (let i = 0; i < 8; i++) bench.receive(windowUpdate(0, 10_000));
    // Stream 1 took the first window; it asked again, and last, so that it now stands where it got in line.
    const order = bench.take().events;
    expect(order).toHaveLength(8);
    expect(new Set(order.slice(0, 4)).size).toBe(4);
    expect(order.slice(4)).toEqual(order.slice(0, 4));
  });

  it('forgets a stream that was waiting and is reset, from within another one’s onWritable too', () => {
    const bench = clientBench({}, [SETTINGS_INITIAL_WINDOW_SIZE, 1_000_000]);
    const [one, two, three] = filled(bench, 3);
    bench.recorder.hook = (event) => {
      if (event === `writable ${one!.id}`) bench.connection.reset(two!, CANCEL);
    };
    bench.receive(windowUpdate(0, 50_000));
    expect(bench.take().events).toEqual(['writable 1', `writable ${three!.id}`]);
  });

  it('6.9.2: a change of INITIAL_WINDOW_SIZE moves every stream, below zero too', () => {
    const bench = clientBench({}, [SETTINGS_INITIAL_WINDOW_SIZE, 1000]);
    const [one, two] = [1, 2].map(() => bench.connection.open('a:1', [], undefined));
    expect(pour(bench, one!)).toBe(1000);
    bench.take();
    bench.receive(settings([SETTINGS_INITIAL_WINDOW_SIZE, 400]));
    expect(one!.sendWindow).toBe(-600);
    expect(two!.sendWindow).toBe(400);
    expect(bench.connection.capacity(one!)).toBe(0);
    bench.receive(windowUpdate(1, 600));
    expect(bench.connection.capacity(one!)).toBe(0);
    expect(bench.take().events).toEqual(['settings']);
    bench.receive(settings([SETTINGS_INITIAL_WINDOW_SIZE, 401]));
    expect(bench.take().events).toEqual(['settings', 'writable 1']);
    expect(bench.connection.capacity(one!)).toBe(1);
  });

  it('6.9.2: a change that overflows a stream is a connection error', () => {
    const bench = clientBench();
    bench.connection.open('a:1', [], undefined);
    bench.receive(windowUpdate(1, 0x7fffffff - 65_535), settings([SETTINGS_INITIAL_WINDOW_SIZE, 65_536]));
    expect(bench.take().events).toEqual(['closed ERR_HTTP2_FLOW_CONTROL FLOW_CONTROL_ERROR']);
  });

  it('END_STREAM needs no window', () => {
    const bench = clientBench();
    const [one] = filled(bench, 1);
    bench.connection.endStream(one!);
    bench.connection.flush();
    expect(bench.take().frames).toEqual(['DATA stream=1 END_STREAM length=0']);
  });
});

describe('RFC 9113 section 6.9, receiving', () => {
  const small = { initialWindowBytes: 100_000, connectionWindowBytes: 200_000, maxBufferedBytes: 150_000 };

  it('gives stream credit for what is consumed, at half a window, padding on its own', () => {
    const bench = serverBench(small).receive(connect(1), data(1, Buffer.alloc(60_000)));
    bench.connection.consume(bench.stream(1), 49_000);
    bench.connection.flush();
    expect(bench.take().frames).toEqual([]);
    const padded = Buffer.alloc(1001, 0);
    padded[0] = 250;
    bench.receive(frame(FRAME_DATA, FLAG_PADDED, 1, padded)); // 750 of data, 251 of padding
    bench.connection.consume(bench.stream(1), 749);
    bench.connection.flush();
    expect(bench.take().frames).toEqual(['WINDOW_UPDATE stream=1 length=4 increment=50000']);
  });

  it('gives connection credit at receipt, so that a stream nobody reads holds up nobody', () => {
    const bench = serverBench(small).receive(connect(1), data(1, Buffer.alloc(99_999)));
    expect(bench.take().frames).toEqual([]);
    bench.receive(data(1, 'x'));
    expect(bench.take().frames).toEqual(['WINDOW_UPDATE stream=0 length=4 increment=100000']);
  });

  it('withholds it above maxBufferedBytes, until enough is consumed, also of streams that have ended', () => {
    const bench = serverBench(small).receive(connect(1), connect(3), connect(5));
    bench.receive(data(1, Buffer.alloc(80_000), true), data(3, Buffer.alloc(80_000)));
    expect(bench.take().frames).toEqual(['WINDOW_UPDATE stream=0 length=4 increment=160000']);
    bench.receive(data(5, Buffer.alloc(100_000))); // 160,000 unconsumed before it: withheld
    expect(bench.take().frames).toEqual([]);
    bench.connection.respond(bench.stream(1), 200, [], true);
    bench.connection.flush();
    bench.take();
    expect(bench.stream(1).closed).toBe(true);
    bench.connection.consume(bench.stream(1), 80_000);
    bench.connection.flush();
    expect(bench.take().frames).toEqual([]);
    bench.connection.consume(bench.stream(5), 30_000);
    bench.connection.flush();
    expect(bench.take().frames).toEqual(['WINDOW_UPDATE stream=0 length=4 increment=100000']);
  });

  it('a reset frees what its stream held, whoever sent it', () => {
    const bench = serverBench({ ...small, maxBufferedBytes: 0 }).receive(connect(1), connect(3));
    bench.receive(data(1, Buffer.alloc(50_000)), data(3, Buffer.alloc(100_000)));
    bench.take();
    bench.connection.reset(bench.stream(1), CANCEL);
    bench.receive(rstStream(3, CANCEL));
    expect(bench.take().frames).toEqual([
      'RST_STREAM stream=1 length=4 CANCEL',
      'WINDOW_UPDATE stream=0 length=4 increment=150000',
    ]);
  });

  it('a peer that overruns the window of a stream loses the stream', () => {
    const bench = serverBench(small).receive(connect(1), connect(3), data(1, Buffer.alloc(100_000)), data(1, 'x'));
    expect(bench.take().events.slice(2)).toEqual(['data 1 100000', 'reset 1 FLOW_CONTROL_ERROR']);
  });

  it('a peer that overruns the window of the connection loses the connection', () => {
    const bench = serverBench({ ...small, maxBufferedBytes: 0 }).receive(connect(1), connect(3), connect(5));
    bench.receive(data(1, 'x'), data(1, Buffer.alloc(99_999)), data(3, Buffer.alloc(100_000)), data(5, 'x'));
    expect(bench.take().events.at(-1)).toBe('closed ERR_HTTP2_FLOW_CONTROL FLOW_CONTROL_ERROR');
  });

  it('6.9.2: a small window of ours binds the peer from its acknowledgement on', () => {
    const bench = serverBench({ initialWindowBytes: 10 }); // acknowledged
    bench.receive(connect(1), data(1, Buffer.alloc(11)));
    expect(bench.take().events.at(-1)).toBe('reset 1 FLOW_CONTROL_ERROR');
  });

  it('keeps the books over any sequence of events', () => {
    const step = fc.record({ bytes: fc.integer({ min: 1, max: 5000 }), consume: fc.integer({ min: 0, max: 12_000 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 0, max: 20_000 }), (steps, maxBuffered) => {
        const windowBytes = 65_535;
        const window = new ReceiveWindow(windowBytes, maxBuffered);
        let allowed = windowBytes;
        let held = 0;
        for (const { bytes, consume } of steps) {
          const sent = Math.min(bytes, allowed);
          allowed -= sent;
          expect(window.take(sent)).toBe(true);
          allowed += window.received(sent);
          window.delivered(sent);
          held += sent;
          const taken = Math.min(consume, held);
          held -= taken;
          allowed += window.consumed(taken);
          expect(window.available).toBe(allowed);
          expect(window.buffered).toBe(held);
          // Nothing is lost: window at the peer, credit on its way, credit withheld.
          expect(allowed + window.credit + window.withheld).toBe(windowBytes);
          // The peer is never stuck on a driver that has consumed everything.
          if (held === 0) expect(allowed).toBeGreaterThan(0);
        }
      }),
    );
  });
});
