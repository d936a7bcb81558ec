import { describe, expect, it } from 'vitest';
import type { HeaderField } from '../../src/http2/header-field.ts';
import { contentLength, parseRequest, parseResponse } from '../../src/http2/message-head.ts';
import { clientBench, data, headers, serverBench } from './harness.ts';

const field = (line: string): HeaderField => {
  const colon = line.indexOf(':', 1);
  return [line.slice(0, colon), line.slice(colon + 1)];
};
const list = (...lines: string[]): HeaderField[] => lines.map(field);

describe('RFC 9113 sections 8.2, 8.3 and 8.5, requests', () => {
  it('takes CONNECT as ztunnel sends it (facts section 1.2)', () => {
    const fields = list(
      ':method:CONNECT',
      ':authority:[fd00::1]:8080',
      'baggage:k8s.namespace.name=default',
      'forwarded:for="10.0.0.1:1234"',
    );
    expect(parseRequest(fields)).toEqual({
      method: 'CONNECT',
      authority: '[fd00::1]:8080',
      scheme: undefined,
      path: undefined,
      headers: fields.slice(2),
    });
  });

  it('takes other methods: to refuse them is the driver’s answer', () => {
    expect(parseRequest(list(':path:/', ':scheme:https', ':method:GET', 'te:trailers'))?.path).toBe('/');
  });

  it.each([
    ['8.5: CONNECT with :scheme', [':method:CONNECT', ':authority:a:1', ':scheme:https']],
    ['8.5: CONNECT with :path', [':method:CONNECT', ':authority:a:1', ':path:/']],
    ['8.5: CONNECT without :authority', [':method:CONNECT']],
    ['8.3: :protocol, which nobody announced', [':method:CONNECT', ':protocol:websocket', ':authority:a:1']],
    ['8.3: an unknown pseudo-header field', [':method:CONNECT', ':authority:a:1', ':x:y']],
    ['8.3: one of a response', [':method:CONNECT', ':authority:a:1', ':status:200']],
    ['8.3: a pseudo-header field behind a regular one', [':method:CONNECT', 'a:b', ':authority:a:1']],
    ['8.3.1: a duplicate', [':method:CONNECT', ':authority:a:1', ':authority:a:1']],
    ['8.3.1: no :method', [':authority:a:1']],
    ['8.3.1: no :path', [':method:GET', ':scheme:http']],
    ['8.3.1: an empty :path', [':method:GET', ':scheme:http', ':path:']],
    ['8.3.1: no :scheme', [':method:GET', ':path:/']],
    ['8.3.1: :method is no token', [':method:GE T', ':scheme:http', ':path:/']],
    ['8.2.1: an upper-case name', [':method:CONNECT', ':authority:a:1', 'Via:x']],
    ['8.2.1: a name with a space', [':method:CONNECT', ':authority:a:1', 'v ia:x']],
    ['8.2.1: a value with a line break', [':method:CONNECT', ':authority:a:1', 'via:x\r\ny']],
    ['8.2.1: a value with NUL', [':method:CONNECT', ':authority:a:1', 'via:x\0']],
    ['8.2.1: a value with a space in front', [':method:CONNECT', ':authority:a:1', 'via: x']],
    ['8.2.2: connection', [':method:CONNECT', ':authority:a:1', 'connection:close']],
    ['8.2.2: transfer-encoding', [':method:CONNECT', ':authority:a:1', 'transfer-encoding:chunked']],
    ['8.2.2: te other than trailers', [':method:CONNECT', ':authority:a:1', 'te:gzip']],
  ])('%s is malformed', (_what, lines) => {
    expect(parseRequest(list(...lines))).toBeUndefined();
    const bench = serverBench().receive(headers(1, list(...lines)));
    expect(bench.take()).toEqual({ events: [], frames: ['RST_STREAM stream=1 length=4 PROTOCOL_ERROR'] });
  });

  it('8.2.1: an empty name is malformed', () => {
    expect(parseRequest([...list(':method:CONNECT', ':authority:a:1'), ['', 'x']])).toBeUndefined();
  });
});

describe('RFC 9113 section 8.1, messages', () => {
  const post = (...more: string[]): HeaderField[] => list(':method:POST', ':scheme:http', ':path:/', ...more);

  it.each([
    ['less content than announced', [headers(1, post('content-length:3')), data(1, 'ab', true)]],
    ['more content than announced', [headers(1, post('content-length:3')), data(1, 'abcd')]],
    ['no content where some is announced', [headers(1, post('content-length:3'), true)]],
    ['two different lengths', [headers(1, post('content-length:3', 'content-length:4'))]],
    ['a length that is no number', [headers(1, post('content-length:-1'))]],
    ['trailers without END_STREAM', [headers(1, post()), headers(1, list('a:b'))]],
    ['a pseudo-header field in trailers', [headers(1, post()), headers(1, list(':path:/'), true)]],
  ])('%s is malformed', (_what, frames) => {
    const bench = serverBench().receive(...frames);
    expect(bench.take().frames).toEqual(['RST_STREAM stream=1 length=4 PROTOCOL_ERROR']);
    expect(bench.connection.activeStreams).toBe(0);
  });

  it('content as long as announced is in order, and a tunnel is not measured', () => {
    const bench = serverBench().receive(headers(1, post('content-length:3')), data(1, 'abc', true));
    bench.receive(headers(3, list(':method:CONNECT', ':authority:a:1', 'content-length:3')), data(3, 'abcd', true));
    expect(bench.take().events).toEqual([
      'request 1 POST undefined',
      'data 1 3',
      'end 1',
      'request 3 CONNECT a:1',
      'data 3 4',
      'end 3',
    ]);
  });

  it.each([
    ['none', [], -1],
    ['one', ['content-length:12'], 12],
    ['the same twice', ['content-length:12', 'content-length:12'], 12],
    ['too many digits', ['content-length:1234567890123456'], -2],
  ])('content-length: %s', (_what, lines, length) => {
    expect(contentLength(list(...lines))).toBe(length);
  });
});

describe('RFC 9113 section 8.3.2, responses', () => {
  it.each([
    ['no :status', ['a:b']],
    ['two of them', [':status:200', ':status:200']],
    ['one of a request', [':status:200', ':path:/']],
    ['not three digits', [':status:20']],
    ['an upper-case name', [':status:200', 'A:b']],
    ['101', [':status:101']],
  ])('%s is malformed', (_what, lines) => {
    const bench = clientBench();
    bench.connection.open('a:1', [], undefined);
    bench.connection.flush();
    bench.take();
    bench.receive(headers(1, list(...lines)));
    expect(bench.take()).toEqual({
      events: ['reset 1 PROTOCOL_ERROR'],
      frames: ['RST_STREAM stream=1 length=4 PROTOCOL_ERROR'],
    });
  });

  it('informational responses are left out; data before the response is malformed', () => {
    const bench = clientBench();
    bench.connection.open('a:1', [], undefined);
    bench.connection.open('a:1', [], undefined);
    bench.connection.flush();
    bench.receive(headers(1, list(':status:103')), headers(1, list(':status:200', 'baggage:a=b')), data(3, 'x'));
    expect(bench.recorder.events).toEqual(['response 1 200', 'reset 3 PROTOCOL_ERROR']);
    expect(parseResponse(list(':status:200', 'baggage:a=b'))?.headers).toEqual([['baggage', 'a=b']]);
  });
});
