import { describe, expect, it } from 'vitest';
import { CANCEL, NO_ERROR, REFUSED_STREAM } from '../../src/http2/error-code.ts';
import {
  CLIENT_PREFACE,
  FLAG_ACK,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FLAG_PADDED,
  FLAG_PRIORITY,
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_HEADERS,
  FRAME_PING,
  FRAME_PRIORITY,
  FRAME_PUSH_PROMISE,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  FRAME_WINDOW_UPDATE,
} from '../../src/http2/frame.ts';
import {
  Bench,
  block,
  CONNECT,
  clientBench,
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
  uint32,
  windowUpdate,
} from './harness.ts';

/** What is left of GOAWAY once its debug text is cut off. */
function ending(bench: Bench): { closed: string | undefined; goaway: string | undefined } {
  const { events, frames } = bench.take();
  return {
    closed: events.at(-1),
    goaway: frames.find((line) => line.startsWith('GOAWAY'))?.replace(/^GOAWAY stream=0 length=\d+ (.*?) ".*$/, '$1'),
  };
}

describe('RFC 9113 section 3.4, the preface', () => {
  it('a client starts with the preface, SETTINGS of facts section 1.7 and the connection window', () => {
    const bench = new Bench('client');
    bench.connection.start(0);
    expect(bench.recorder.frames()).toEqual([
      'PREFACE',
      'SETTINGS stream=0 length=24 ENABLE_PUSH=0 INITIAL_WINDOW_SIZE=4194304 MAX_FRAME_SIZE=1048576 MAX_HEADER_LIST_SIZE=16384',
      'WINDOW_UPDATE stream=0 length=4 increment=16711681',
    ]);
  });

  it('a server starts with SETTINGS and the connection window', () => {
    const bench = new Bench('server');
    bench.connection.start(0);
    expect(bench.recorder.frames()).toEqual([
      'SETTINGS stream=0 length=24 MAX_CONCURRENT_STREAMS=200 INITIAL_WINDOW_SIZE=4194304 MAX_FRAME_SIZE=1048576 MAX_HEADER_LIST_SIZE=65536',
      'WINDOW_UPDATE stream=0 length=4 increment=16711681',
    ]);
  });

  it.each([
    ['another protocol', Buffer.from('GET / HTTP/1.1\r\n')],
    ['one byte wrong at the end', Buffer.concat([CLIENT_PREFACE.subarray(0, 23), Buffer.from('x')])],
    ['no SETTINGS behind it', Buffer.concat([CLIENT_PREFACE, ping()])],
    ['an acknowledgement behind it', Buffer.concat([CLIENT_PREFACE, settingsAck()])],
  ])('a server refuses %s', (_what, bytes) => {
    const bench = new Bench('server');
    bench.connection.start(0);
    bench.take();
    bench.receive(bytes);
    expect(ending(bench)).toEqual({
      closed: 'closed ERR_HTTP2_PROTOCOL PROTOCOL_ERROR',
      goaway: 'last=0 PROTOCOL_ERROR',
    });
    expect(bench.connection.closed).toBe(true);
  });

  it('a client refuses a server that does not start with SETTINGS', () => {
    const bench = new Bench('client');
    bench.connection.start(0);
    bench.receive(ping());
    expect(ending(bench).closed).toBe('closed ERR_HTTP2_PROTOCOL PROTOCOL_ERROR');
  });
});

describe('a tunnel, seen from the server', () => {
  it('request, data both ways, half-close both ways', () => {
    const bench = serverBench();
    bench.receive(connect(1), data(1, 'hello'));
    expect(bench.take()).toEqual({ events: ['request 1 CONNECT 10.0.0.1:80', 'data 1 5'], frames: [] });
    bench.connection.respond(bench.stream(1), 200, [['baggage', 'a=b']], false);
    const buffer = Buffer.from('.........answer');
    bench.connection.sendData(bench.stream(1), buffer, 9, 15, false);
    expect(bench.take().frames).toEqual(['HEADERS stream=1 END_HEADERS length=12', 'DATA stream=1 length=6']);
    bench.receive(data(1, '', true));
    expect(bench.take().events).toEqual(['end 1']);
    expect(bench.connection.activeStreams).toBe(1);
    bench.connection.sendData(bench.stream(1), buffer, 9, 15, true);
    expect(bench.take().frames).toEqual(['DATA stream=1 END_STREAM length=6']);
    expect(bench.connection.activeStreams).toBe(0);
    expect(bench.stream(1).closed).toBe(true);
  });

  it('sends DATA from the buffer it is given, with the header in the nine bytes before it', () => {
    const bench = serverBench();
    bench.receive(connect(1));
    bench.connection.respond(bench.stream(1), 200, [], false);
    bench.connection.flush();
    bench.take();
    const buffer = Buffer.from('123456789payload');
    bench.connection.sendData(bench.stream(1), buffer, 9, 16, false);
    expect(buffer.toString('hex', 0, 9)).toBe('000007000000000001');
    expect(bench.recorder.take().toString('hex')).toBe(`000007000000000001${Buffer.from('payload').toString('hex')}`);
  });

  it('swallows trailers', () => {
    const bench = serverBench();
    bench.receive(connect(1), headers(1, [['grpc-status', '0']], true));
    expect(bench.take().events).toEqual(['request 1 CONNECT 10.0.0.1:80', 'end 1']);
  });
});

describe('RFC 9113 section 5.1, stream states', () => {
  const idle = {
    DATA: data(5, 'x'),
    RST_STREAM: rstStream(5, CANCEL),
    WINDOW_UPDATE: windowUpdate(5, 1),
    'self-dependent PRIORITY': frame(FRAME_PRIORITY, 0, 5, Buffer.concat([uint32(5), Buffer.from([0])])),
  };
  it.each(Object.entries(idle))('idle: %s is a connection error', (_type, bytes) => {
    const bench = serverBench().receive(connect(1), bytes);
    expect(ending(bench)).toEqual({
      closed: 'closed ERR_HTTP2_PROTOCOL PROTOCOL_ERROR',
      goaway: 'last=1 PROTOCOL_ERROR',
    });
  });

  it('idle: HEADERS from a server on a stream that the client never opened', () => {
    const bench = clientBench().receive(headers(1, [[':status', '200']]));
    expect(ending(bench).closed).toBe('closed ERR_HTTP2_PROTOCOL PROTOCOL_ERROR');
  });

  it.each([
    ['DATA', data(1, 'x')],
    ['HEADERS', headers(1, [['x', 'y']], true)],
  ])('half-closed (remote): %s is a stream error STREAM_CLOSED', (_type, bytes) => {
    const bench = serverBench().receive(connect(1, true), bytes);
    expect(bench.take()).toEqual({
      events: ['request 1 CONNECT 10.0.0.1:80 end', 'reset 1 STREAM_CLOSED'],
      frames: ['RST_STREAM stream=1 length=4 STREAM_CLOSED'],
    });
  });

  it('half-closed (remote): WINDOW_UPDATE, PRIORITY and RST_STREAM are in order', () => {
    const bench = serverBench().receive(connect(1, true), windowUpdate(1, 10));
    bench.receive(frame(FRAME_PRIORITY, 0, 1, Buffer.from('0000000010', 'hex')), rstStream(1, CANCEL));
    expect(bench.take().events).toEqual(['request 1 CONNECT 10.0.0.1:80 end', 'reset 1 CANCEL']);
  });

  it('closed by RST_STREAM of the peer: DATA is a stream error, HEADERS end the connection', () => {
    const bench = serverBench().receive(connect(1), rstStream(1, CANCEL), data(1, 'x'));
    expect(bench.take().frames).toEqual(['RST_STREAM stream=1 length=4 STREAM_CLOSED']);
    const other = serverBench().receive(connect(1), rstStream(1, CANCEL), connect(1));
    expect(ending(other)).toEqual({
      closed: 'closed ERR_HTTP2_STREAM_CLOSED STREAM_CLOSED',
      goaway: 'last=1 STREAM_CLOSED',
    });
  });

  it('closed by our reset: frames under way are let pass, and counted for flow control', () => {
    const bench = serverBench({ connectionWindowBytes: 65_535 }).receive(connect(1));
    bench.connection.reset(bench.stream(1), CANCEL);
    bench.connection.flush();
    expect(bench.take().frames).toEqual(['RST_STREAM stream=1 length=4 CANCEL']);
    bench.receive(
      data(1, Buffer.alloc(40_000)),
      headers(1, [['a', 'b']], true),
      windowUpdate(1, 5),
      rstStream(1, CANCEL),
    );
    expect(bench.take()).toEqual({ events: [], frames: ['WINDOW_UPDATE stream=0 length=4 increment=40000'] });
  });

  it('WINDOW_UPDATE and RST_STREAM on a closed stream are ignored', () => {
    const bench = serverBench().receive(connect(1, true));
    bench.connection.respond(bench.stream(1), 200, [], true);
    bench.connection.flush();
    bench.take();
    bench.receive(windowUpdate(1, 5), rstStream(1, NO_ERROR));
    expect(bench.take()).toEqual({ events: [], frames: [] });
  });

  it('calls about a closed stream do nothing', () => {
    const bench = serverBench().receive(connect(1), rstStream(1, CANCEL));
    bench.take();
    const stream = bench.stream(1);
    bench.connection.respond(stream, 200, [], false);
    bench.connection.sendData(stream, Buffer.alloc(10), 9, 10, true);
    bench.connection.endStream(stream);
    bench.connection.reset(stream, CANCEL);
    bench.connection.consume(stream, 5);
    expect(bench.connection.capacity(stream)).toBe(0);
    bench.connection.flush();
    expect(bench.take()).toEqual({ events: [], frames: [] });
  });
});

describe('RFC 9113 section 5.1.1, stream identifiers', () => {
  it.each([
    ['even', connect(2), 'PROTOCOL'],
    ['zero', connect(0), 'PROTOCOL'],
    ['lower than one before', connect(3), 'STREAM_CLOSED'],
  ])('%s: a connection error', (_what, bytes, code) => {
    const bench = serverBench().receive(connect(5), bytes);
    expect(ending(bench).closed).toContain(`closed ERR_HTTP2_${code} `);
  });

  it('a client counts on by two, and stops at 2^31-1', () => {
    const bench = clientBench();
    expect(bench.connection.open('a:1', [], undefined).id).toBe(1);
    expect(bench.connection.open('a:1', [], undefined).id).toBe(3);
  });
});

describe('RFC 9113 section 5.1.2, stream concurrency', () => {
  it('a stream too many is refused, its header block decoded all the same', () => {
    const bench = serverBench({ maxConcurrentStreams: 1 });
    // The refused request puts its authority into the table (41 …), the next one refers to it (be).
    const method = Buffer.concat([Buffer.from('02', 'hex'), Buffer.from('07', 'hex'), Buffer.from('CONNECT')]);
    const authority = Buffer.concat([Buffer.from('41', 'hex'), Buffer.from('03', 'hex'), Buffer.from('b:1')]);
    bench.receive(connect(1));
    bench.receive(frame(FRAME_HEADERS, FLAG_END_HEADERS, 3, Buffer.concat([method, authority])));
    bench.receive(data(3, 'early data'), rstStream(1, CANCEL));
    bench.receive(frame(FRAME_HEADERS, FLAG_END_HEADERS, 5, Buffer.concat([method, Buffer.from('be', 'hex')])));
    expect(bench.take()).toEqual({
      events: ['request 1 CONNECT 10.0.0.1:80', 'reset 1 CANCEL', 'request 5 CONNECT b:1'],
      frames: ['RST_STREAM stream=3 length=4 REFUSED_STREAM'],
    });
  });

  it('a client keeps to the limit of the server, and to the assumed one before it is known', () => {
    const before = new Bench('client', { assumedPeerMaxStreams: 2 });
    expect(before.connection.canOpen).toBe(false); // not started
    before.connection.start(0);
    expect(before.connection.peerMaxStreams).toBe(2);
    before.connection.open('a:1', [], undefined);
    before.connection.open('a:1', [], undefined);
    expect(before.connection.canOpen).toBe(false);
    before.receive(settings([3, 3]));
    expect(before.connection.peerMaxStreams).toBe(3);
    before.connection.open('a:1', [], undefined);
    expect(() => before.connection.open('a:1', [], undefined)).toThrow(
      expect.objectContaining({ code: 'ERR_HTTP2_TOO_MANY_STREAMS' }),
    );
    expect(before.connection.activeStreams).toBe(3);
    expect(clientBench().connection.peerMaxStreams).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('RFC 9113 sections 4.2 and 6, sizes and places of frames', () => {
  const cases: [what: string, code: string, bytes: Buffer][] = [
    ['4.2: a frame larger than announced', 'FRAME_SIZE', frame(FRAME_DATA, 0, 1, Buffer.alloc(16_385))],
    ['6.1: DATA on stream 0', 'PROTOCOL', frame(FRAME_DATA, 0, 0, Buffer.from('x'))],
    ['6.1: padding as long as the payload', 'PROTOCOL', frame(FRAME_DATA, FLAG_PADDED, 1, Buffer.from([4, 0, 0, 0]))],
    ['6.1: padded without a pad length', 'FRAME_SIZE', frame(FRAME_DATA, FLAG_PADDED, 1)],
    ['6.2: HEADERS on stream 0', 'PROTOCOL', connect(0)],
    [
      '6.2: padding longer than the block',
      'PROTOCOL',
      frame(FRAME_HEADERS, FLAG_PADDED | FLAG_END_HEADERS, 3, Buffer.from([9, 0x82])),
    ],
    ['6.2: priority cut off', 'FRAME_SIZE', frame(FRAME_HEADERS, FLAG_PRIORITY | FLAG_END_HEADERS, 3, Buffer.alloc(4))],
    ['6.3: PRIORITY on stream 0', 'PROTOCOL', frame(FRAME_PRIORITY, 0, 0, Buffer.alloc(5))],
    ['6.4: RST_STREAM on stream 0', 'PROTOCOL', rstStream(0, CANCEL)],
    ['6.4: RST_STREAM of 5 bytes', 'FRAME_SIZE', frame(FRAME_RST_STREAM, 0, 1, Buffer.alloc(5))],
    ['6.5: SETTINGS on a stream', 'PROTOCOL', frame(FRAME_SETTINGS, 0, 1)],
    ['6.5: SETTINGS of 5 bytes', 'FRAME_SIZE', frame(FRAME_SETTINGS, 0, 0, Buffer.alloc(5))],
    ['6.5: SETTINGS ACK with content', 'FRAME_SIZE', frame(FRAME_SETTINGS, FLAG_ACK, 0, Buffer.alloc(6))],
    ['6.5.2: ENABLE_PUSH 2', 'PROTOCOL', settings([2, 2])],
    ['6.5.2: INITIAL_WINDOW_SIZE 2^31', 'FLOW_CONTROL', settings([4, 2 ** 31])],
    ['6.5.2: MAX_FRAME_SIZE 16383', 'PROTOCOL', settings([5, 16_383])],
    ['6.5.2: MAX_FRAME_SIZE 2^24', 'PROTOCOL', settings([5, 2 ** 24])],
    ['6.6: PUSH_PROMISE', 'PROTOCOL', frame(FRAME_PUSH_PROMISE, FLAG_END_HEADERS, 1, Buffer.from('0000000282', 'hex'))],
    ['6.7: PING on a stream', 'PROTOCOL', frame(FRAME_PING, 0, 1, Buffer.alloc(8))],
    ['6.7: PING of 7 bytes', 'FRAME_SIZE', frame(FRAME_PING, 0, 0, Buffer.alloc(7))],
    ['6.8: GOAWAY on a stream', 'PROTOCOL', frame(7, 0, 1, Buffer.alloc(8))],
    ['6.8: GOAWAY of 7 bytes', 'FRAME_SIZE', frame(7, 0, 0, Buffer.alloc(7))],
    ['6.9: WINDOW_UPDATE of 3 bytes', 'FRAME_SIZE', frame(FRAME_WINDOW_UPDATE, 0, 0, Buffer.alloc(3))],
    ['6.9: WINDOW_UPDATE of 0 on the connection', 'PROTOCOL', windowUpdate(0, 0)],
    ['6.9.1: connection window above 2^31-1', 'FLOW_CONTROL', windowUpdate(0, 0x7fffffff)],
    ['6.10: CONTINUATION without HEADERS', 'PROTOCOL', frame(FRAME_CONTINUATION, FLAG_END_HEADERS, 1, block(CONNECT))],
    [
      '4.3: a header block that cannot be decoded',
      'COMPRESSION',
      frame(FRAME_HEADERS, FLAG_END_HEADERS, 3, Buffer.from('80', 'hex')),
    ],
  ];
  it.each(cases)('%s: ERR_HTTP2_%s', (_what, code, bytes) => {
    const bench = serverBench({ maxFrameBytes: 16_384 }).receive(connect(1), bytes);
    expect(ending(bench).closed).toBe(`closed ERR_HTTP2_${code} ${code}${code === 'STREAM_CLOSED' ? '' : '_ERROR'}`);
    bench.receive(connect(3));
    expect(bench.take()).toEqual({ events: [], frames: [] });
  });

  it('6.5.2: a server that allows push is wrong', () => {
    expect(ending(clientBench().receive(settings([2, 1]))).closed).toContain('ERR_HTTP2_PROTOCOL');
  });

  it.each([
    ['6.3: PRIORITY of 4 bytes', frame(FRAME_PRIORITY, 0, 1, Buffer.alloc(4)), 'FRAME_SIZE_ERROR'],
    [
      '5.3.1 (RFC 7540): PRIORITY on itself',
      frame(FRAME_PRIORITY, 0, 1, Buffer.from('0000000110', 'hex')),
      'PROTOCOL_ERROR',
    ],
    ['6.9: WINDOW_UPDATE of 0', windowUpdate(1, 0), 'PROTOCOL_ERROR'],
    ['6.9.1: stream window above 2^31-1', windowUpdate(1, 0x7fffffff), 'FLOW_CONTROL_ERROR'],
  ])('%s is an error of the stream only', (_what, bytes, code) => {
    const bench = serverBench().receive(connect(1), connect(3), bytes);
    expect(bench.take()).toEqual({
      events: ['request 1 CONNECT 10.0.0.1:80', 'request 3 CONNECT 10.0.0.1:80', `reset 1 ${code}`],
      frames: [`RST_STREAM stream=1 length=4 ${code}`],
    });
  });

  it('5.5: unknown frames, flags and settings, and PRIORITY, are ignored', () => {
    const bench = serverBench().receive(
      frame(0xfa, 0xff, 7, Buffer.alloc(100)),
      frame(0xfa, 0, 0),
      settings([0x99, 7]),
      frame(FRAME_PRIORITY, 0, 9, Buffer.from('0000000010', 'hex')),
      frame(FRAME_PING, 0xfe, 0, Buffer.from('12345678')),
    );
    expect(bench.take()).toEqual({
      events: ['settings'],
      frames: ['SETTINGS stream=0 ACK length=0', 'PING stream=0 ACK length=8 3132333435363738'],
    });
  });

  it('6.1 and 6.2: padding and priority fields are left out of what is delivered', () => {
    const bench = serverBench();
    const padded = Buffer.concat([
      Buffer.from('03 80000000 10'.replaceAll(' ', ''), 'hex'),
      block(CONNECT),
      Buffer.alloc(3),
    ]);
    bench.receive(frame(FRAME_HEADERS, FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY, 1, padded));
    bench.receive(frame(FRAME_DATA, FLAG_PADDED | FLAG_END_STREAM, 1, Buffer.from('\u0004data\0\0\0\0', 'latin1')));
    expect(bench.take().events).toEqual(['request 1 CONNECT 10.0.0.1:80', 'data 1 4', 'end 1']);
    expect(bench.recorder.bytesOf(1).toString()).toBe('data');
  });

  it('6.2: HEADERS that depend on themselves reset their stream', () => {
    const bytes = Buffer.concat([Buffer.from('0000000110', 'hex'), block(CONNECT)]);
    const bench = serverBench().receive(frame(FRAME_HEADERS, FLAG_END_HEADERS | FLAG_PRIORITY, 1, bytes));
    expect(bench.take()).toEqual({ events: [], frames: ['RST_STREAM stream=1 length=4 PROTOCOL_ERROR'] });
  });
});

describe('RFC 9113 section 6.10, CONTINUATION', () => {
  const whole = block(CONNECT);
  const first = frame(FRAME_HEADERS, FLAG_END_STREAM, 1, whole.subarray(0, 4));

  it('joins fragments, empty ones too, and END_STREAM counts from HEADERS', () => {
    const bench = serverBench().receive(
      first,
      frame(FRAME_CONTINUATION, 0, 1),
      frame(FRAME_CONTINUATION, 0, 1, whole.subarray(4, 9)),
      frame(FRAME_CONTINUATION, FLAG_END_HEADERS, 1, whole.subarray(9)),
    );
    expect(bench.take().events).toEqual(['request 1 CONNECT 10.0.0.1:80 end']);
  });

  it.each([
    ['DATA', data(1, 'x')],
    ['HEADERS of another stream', connect(3)],
    ['CONTINUATION of another stream', frame(FRAME_CONTINUATION, FLAG_END_HEADERS, 3, whole)],
    ['PING', ping()],
    ['an unknown frame', frame(0xfa, 0, 0)],
  ])('interrupted by %s: a connection error', (_what, bytes) => {
    expect(ending(serverBench().receive(first, bytes)).closed).toBe('closed ERR_HTTP2_PROTOCOL PROTOCOL_ERROR');
  });

  it('a block that does not fit the frames of the peer is sent in several', () => {
    const bench = clientBench();
    bench.connection.open('a:1', [['x', 'y'.repeat(40_000)]], undefined);
    const encoded = bench.recorder.take();
    const server = serverBench();
    for (let at = 0; at < encoded.length; at += 1000) server.receive(encoded.subarray(at, at + 1000));
    expect(server.recorder.events).toEqual(['request 1 CONNECT a:1']);
    expect(server.recorder.requests[0]?.headers).toEqual([['x', 'y'.repeat(40_000)]]);
  });
});

describe('RFC 9113 section 6.4, resets', () => {
  it('carries the code both ways, once', () => {
    const bench = serverBench().receive(connect(1), connect(3), rstStream(1, CANCEL), rstStream(1, CANCEL));
    bench.connection.reset(bench.stream(3), REFUSED_STREAM);
    bench.connection.flush();
    expect(bench.take()).toEqual({
      events: ['request 1 CONNECT 10.0.0.1:80', 'request 3 CONNECT 10.0.0.1:80', 'reset 1 CANCEL'],
      frames: ['RST_STREAM stream=3 length=4 REFUSED_STREAM'],
    });
  });

  it('a stream reset inside onData gets no more of the frame', () => {
    const bench = serverBench();
    bench.recorder.hook = (event, stream) => {
      if (event.startsWith('data')) bench.connection.reset(stream!, CANCEL);
    };
    const bytes = data(1, 'abcdef', true);
    bench.receive(connect(1), bytes.subarray(0, 11), bytes.subarray(11));
    expect(bench.take()).toEqual({
      events: ['request 1 CONNECT 10.0.0.1:80', 'data 1 2'],
      frames: ['RST_STREAM stream=1 length=4 CANCEL'],
    });
  });
});

describe('RFC 9113 section 6.8, GOAWAY', () => {
  it('a client gets REFUSED_STREAM for what the server did not take, and keeps the rest', () => {
    const bench = clientBench();
    for (let i = 0; i < 3; i++) bench.connection.open('a:1', [], undefined);
    bench.connection.flush();
    bench.take();
    bench.receive(goaway(3, NO_ERROR));
    expect(bench.take().events).toEqual(['goaway 3 NO_ERROR', 'reset 5 REFUSED_STREAM']);
    expect(bench.connection.canOpen).toBe(false);
    expect(() => bench.connection.open('a:1', [], undefined)).toThrow(
      expect.objectContaining({ code: 'ERR_HTTP2_GOING_AWAY' }),
    );
    bench.receive(
      headers(1, [[':status', '200']]),
      data(1, 'still here', true),
      headers(3, [[':status', '503']], true),
    );
    expect(bench.take().events).toEqual(['response 1 200', 'data 1 10', 'end 1', 'response 3 503 end']);
    bench.connection.endStream(bench.stream(1));
    bench.connection.reset(bench.stream(3), CANCEL);
    bench.connection.flush();
    const { events, frames } = bench.take();
    expect(events).toEqual(['closed in order']);
    expect(frames.at(-1)).toBe('GOAWAY stream=0 length=8 last=0 NO_ERROR');
  });

  it('an error code ends the connection, with the code and the reason that the peer gave', () => {
    const bench = clientBench();
    bench.connection.open('a:1', [], undefined);
    bench.receive(goaway(1, 0xb, 'too_many_pings\n'));
    expect(bench.take().events).toEqual([
      'goaway 1 ENHANCE_YOUR_CALM',
      'closed ERR_HTTP2_PEER_GOAWAY ENHANCE_YOUR_CALM',
    ]);
    expect(bench.recorder.closedBy?.message).toBe(
      'http2.receive: the peer ended the connection with ENHANCE_YOUR_CALM (too_many_pings?)',
    );
  });

  it('the last stream id may not grow', () => {
    const bench = clientBench();
    bench.connection.open('a:1', [], undefined);
    bench.receive(goaway(1, NO_ERROR), goaway(3, NO_ERROR));
    expect(ending(bench).closed).toBe('closed ERR_HTTP2_PROTOCOL PROTOCOL_ERROR');
  });

  it('a server announces first, and names the last stream after a round trip (facts section 1.11)', () => {
    const bench = serverBench().receive(connect(1));
    bench.connection.goaway(NO_ERROR, 'draining');
    bench.connection.goaway(NO_ERROR);
    bench.connection.flush();
    expect(bench.take().frames).toEqual([
      'GOAWAY stream=0 length=16 last=2147483647 NO_ERROR "draining"',
      'PING stream=0 length=8 647261696e696e67',
    ]);
    // Opened before the client could know: served.
    bench.receive(connect(3), ping(true, 'draining'));
    expect(bench.take()).toEqual({
      events: ['request 3 CONNECT 10.0.0.1:80'],
      frames: ['GOAWAY stream=0 length=8 last=3 NO_ERROR'],
    });
    // Opened after it was told: ignored, whatever follows on it.
    bench.receive(connect(5), data(5, 'x'), windowUpdate(5, 1), rstStream(5, CANCEL), rstStream(1, CANCEL));
    expect(bench.take()).toEqual({ events: ['reset 1 CANCEL'], frames: [] });
    bench.connection.respond(bench.stream(3), 200, [], true);
    bench.receive(data(3, '', true));
    expect(bench.take().events).toEqual(['end 3', 'closed in order']);
  });

  it('a client that goes away idle is over at once', () => {
    const bench = clientBench();
    bench.connection.goaway(NO_ERROR);
    bench.connection.flush();
    expect(bench.take()).toEqual({
      events: ['closed in order'],
      frames: ['GOAWAY stream=0 length=8 last=0 NO_ERROR'],
    });
  });

  it('close says GOAWAY and nothing after', () => {
    const bench = serverBench().receive(connect(1));
    bench.take();
    bench.connection.close(CANCEL);
    bench.connection.flush();
    expect(bench.take()).toEqual({
      events: ['closed in order'],
      frames: ['GOAWAY stream=0 length=8 last=1 CANCEL'],
    });
    expect(bench.connection.activeStreams).toBe(0);
    expect(bench.stream(1).closed).toBe(true);
  });
});

describe('wrong calls', () => {
  it.each([
    ['two responses', (b: Bench) => b.connection.respond(b.stream(1), 200, [], false), 'ERR_HTTP2_STATE'],
    [
      'end after the end',
      (b: Bench) => {
        b.connection.endStream(b.stream(1));
        b.connection.endStream(b.stream(1));
      },
      'ERR_HTTP2_STATE',
    ],
    ['opening as a server', (b: Bench) => b.connection.open('a:1', [], undefined), 'ERR_HTTP2_STATE'],
    [
      'more data than the window',
      (b: Bench) => b.connection.sendData(b.stream(1), Buffer.alloc(70_000), 9, 70_000, false),
      'ERR_HTTP2_CAPACITY',
    ],
    [
      'no room for the header',
      (b: Bench) => b.connection.sendData(b.stream(1), Buffer.alloc(20), 8, 20, false),
      'ERR_HTTP2_INVALID',
    ],
    ['starting twice', (b: Bench) => b.connection.start(0), 'ERR_HTTP2_STATE'],
  ])('%s: throws', (_what, call, code) => {
    const bench = serverBench().receive(connect(1));
    bench.connection.respond(bench.stream(1), 200, [], false);
    expect(() => call(bench)).toThrow(expect.objectContaining({ code }));
  });

  it('data before the response: throws, and capacity is 0', () => {
    const bench = serverBench().receive(connect(1));
    expect(bench.connection.capacity(bench.stream(1))).toBe(0);
    expect(() => bench.connection.sendData(bench.stream(1), Buffer.alloc(10), 9, 10, false)).toThrow(
      expect.objectContaining({ code: 'ERR_HTTP2_STATE' }),
    );
  });

  it.each([
    ['an upper-case name', [['X', 'y']], 'headers[0].name'],
    [
      'a pseudo-header field',
      [
        ['a', 'b'],
        [':path', '/'],
      ],
      'headers[1].name',
    ],
    ['a field of HTTP/1.1', [['connection', 'close']], 'headers[0].name'],
    ['a line break in a value', [['a', 'b\r\nc: d']], 'headers[0].value'],
    ['a value that is not latin1', [['a', '→']], 'headers[0].value'],
  ] as const)('%s names the field, and changes nothing', (_what, fields, field) => {
    const bench = clientBench();
    expect(() => bench.connection.open('a:1', fields, undefined)).toThrow(
      expect.objectContaining({ code: 'ERR_HTTP2_INVALID', field }),
    );
    bench.connection.flush();
    expect(bench.connection.activeStreams).toBe(0);
    expect(bench.take()).toEqual({ events: [], frames: [] });
  });

  it('more headers than the peer takes', () => {
    const bench = clientBench({}, [6, 200]);
    expect(() => bench.connection.open('a:1', [['x', 'y'.repeat(200)]], undefined)).toThrow(
      expect.objectContaining({ code: 'ERR_HTTP2_HEADERS_TOO_LARGE' }),
    );
  });

  it('options out of range', () => {
    expect(() => new Bench('server', { maxFrameBytes: 100 })).toThrow(
      expect.objectContaining({ code: 'ERR_HTTP2_INVALID', field: 'options.maxFrameBytes' }),
    );
  });
});
