// Two HTTP/2 connections that talk through memory: a CONNECT tunnel from its first byte to its last, frame by frame as
// it would be on the wire. Needs no root, no socket and no TLS.
import { Http2Connection, type Http2Sink, type Http2Stream, NO_ERROR, traceFrames } from '../src/http2/index.ts';

const wire: { to: 'client' | 'server'; bytes: Buffer }[] = [];

/** A driver in its smallest form: prints what is written, and answers what arrives. */
function driver(
  name: 'client' | 'server',
  onData: (stream: Http2Stream<string>, text: string) => void,
): Http2Sink<string> {
  const say = (what: string): void => console.log(`${' '.repeat(name === 'client' ? 0 : 40)}${name}: ${what}`);
  return {
    write(buffer, start, end) {
      const bytes = Buffer.from(buffer.subarray(start, end));
      for (const line of traceFrames(bytes)) console.log(`${name === 'client' ? '  ──▶' : '  ◀──'} ${line}`);
      wire.push({ to: name === 'client' ? 'server' : 'client', bytes });
    },
    onRequest(stream, request) {
      say(`${request.method} ${request.authority} ${JSON.stringify(request.headers)}`);
      server.respond(stream, 200, [['baggage', 'k8s.pod.name=httpbin']], false);
    },
    onResponse: (_stream, status, headers) => say(`${status} ${JSON.stringify(headers)}`),
    onData: (stream, buffer, start, end) => onData(stream, buffer.toString('utf8', start, end)),
    onEnd: (stream) => say(`stream ${stream.id} has ended`),
    onReset: (stream, code) => say(`stream ${stream.id} was reset: ${code}`),
    onWritable: () => {},
    onGoaway: () => say('the peer goes away'),
    onSettings: () => {},
    onClosed: (error) => say(error === undefined ? 'closed in order' : error.message),
  };
}

const send = (from: Http2Connection<string>, stream: Http2Stream<string>, text: string): void => {
  const buffer = Buffer.from(`.........${text}`); // nine bytes of room for the frame header
  from.sendData(stream, buffer, 9, buffer.length, true);
};

const client = new Http2Connection<string>(
  'client',
  driver('client', (_s, text) => console.log(`client: got ${text}`)),
);
const server = new Http2Connection<string>(
  'server',
  driver('server', (s, text) => send(server, s, text.toUpperCase())),
);

function settle(): void {
  for (let next = wire.shift(); next !== undefined; next = wire.shift()) {
    const to = next.to === 'client' ? client : server;
    to.receive(next.bytes, 0, next.bytes.length);
    to.flush();
  }
}

client.start(0);
server.start(0);
const tunnel = client.open('10.96.0.105:80', [['baggage', 'k8s.pod.name=sleep']], 'the example');
send(client, tunnel, 'hello through the tunnel');
settle();
server.goaway(NO_ERROR);
server.flush();
settle();
