import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CLIENT_PREFACE,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FLAG_PADDED,
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_HEADERS,
} from '../../src/http2/frame.ts';
import {
  Bench,
  block,
  CONNECT,
  connect,
  data,
  frame,
  goaway,
  ping,
  rstStream,
  settings,
  settingsAck,
  windowUpdate,
} from './harness.ts';

const whole = block(CONNECT);
const conversation = Buffer.concat([
  CLIENT_PREFACE,
  settings([1, 100], [4, 1000]),
  windowUpdate(0, 1000),
  settingsAck(),
  connect(1),
  data(1, 'first'),
  ping(),
  frame(FRAME_HEADERS, 0, 3, whole.subarray(0, 5)),
  frame(FRAME_CONTINUATION, 0, 3, whole.subarray(5, 8)),
  frame(FRAME_CONTINUATION, FLAG_END_HEADERS, 3, whole.subarray(8)),
  frame(FRAME_DATA, FLAG_PADDED, 3, Buffer.from('\u0003padded\0\0\0', 'latin1')),
  frame(0xfa, 0, 0, Buffer.alloc(77)),
  data(3, Buffer.alloc(3000, 'z')),
  rstStream(3, 8),
  frame(FRAME_DATA, FLAG_PADDED | FLAG_END_STREAM, 1, Buffer.from('\u0001\0', 'latin1')),
  connect(5, true),
  windowUpdate(5, 99),
  goaway(0, 0, 'x'.repeat(400)),
  connect(4), // ends it: a stream of even id
]);

/** Events with neighbouring pieces of one stream's data joined, and what was written. */
function play(pieces: Buffer[]): { events: string[]; frames: string[]; data: string[] } {
  const bench = new Bench('server');
  bench.connection.start(0);
  for (const piece of pieces) bench.connection.receive(piece, 0, piece.length);
  bench.connection.flush();
  const events: string[] = [];
  for (const event of bench.recorder.events) {
    const [kind, id, bytes] = event.split(' ');
    const last = events.at(-1)?.split(' ');
    if (kind === 'data' && last?.[0] === 'data' && last[1] === id) {
      events[events.length - 1] = `data ${id} ${Number(last[2]) + Number(bytes)}`;
    } else events.push(event);
  }
  return { events, frames: bench.recorder.frames(), data: [1, 3].map((id) => bench.recorder.bytesOf(id).toString()) };
}

describe('a byte stream cut into pieces', () => {
  const expected = play([conversation]);

  it('is this conversation', () => {
    expect(expected.events).toEqual([
      'settings',
      'request 1 CONNECT 10.0.0.1:80',
      'data 1 5',
      'request 3 CONNECT 10.0.0.1:80',
      'data 3 3006',
      'reset 3 CANCEL',
      'end 1',
      'request 5 CONNECT 10.0.0.1:80 end',
      'goaway 0 NO_ERROR',
      'closed ERR_HTTP2_PROTOCOL PROTOCOL_ERROR',
    ]);
    expect(expected.data).toEqual(['first', `padded${'z'.repeat(3000)}`]);
  });

  it('gives the same in single bytes', () => {
    expect(play(Array.from(conversation, (byte) => Buffer.from([byte])))).toEqual(expected);
  });

  it('gives the same in any pieces', () => {
    const cuts = fc.array(fc.integer({ min: 0, max: conversation.length }), { maxLength: 60 });
    fc.assert(
      fc.property(cuts, (at) => {
        const sorted = [0, ...at.sort((a, b) => a - b), conversation.length];
        const pieces = sorted.slice(1).map((end, i) => conversation.subarray(sorted[i], end));
        expect(play(pieces)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  it('reads nothing outside of start and end', () => {
    const surrounded = Buffer.concat([Buffer.alloc(10, 0xff), conversation, Buffer.alloc(10, 0xff)]);
    const bench = new Bench('server');
    bench.connection.start(0);
    bench.connection.receive(surrounded, 10, surrounded.length - 10);
    bench.connection.flush();
    expect(bench.recorder.bytesOf(3).toString()).toBe(expected.data[1]);
    expect(bench.recorder.events.at(-1)).toBe(expected.events.at(-1));
  });

  it('never throws, whatever comes', () => {
    const bytes = fc.uint8Array({ maxLength: 400 });
    fc.assert(
      fc.property(
        bytes,
        fc.array(fc.tuple(fc.nat(10), fc.nat(255), fc.nat(6), bytes), { maxLength: 8 }),
        (tail, frames) => {
          const bench = new Bench('server');
          bench.connection.start(0);
          bench.receive(CLIENT_PREFACE, settings());
          for (const [type, flags, id, payload] of frames) bench.receive(frame(type, flags, id, Buffer.from(payload)));
          bench.receive(Buffer.from(tail));
          expect(bench.recorder.events.filter((event) => event.startsWith('closed')).length).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 1000 },
    );
  });
});
