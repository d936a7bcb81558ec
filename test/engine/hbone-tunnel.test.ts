import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { HboneTunnel, TlsContext, type TunnelInit, type TunnelStream } from '../../src/engine/index.ts';
import { ErrorCode, FRAME_HEADER_BYTES } from '../../src/http2/index.ts';
import { libc, SHUT_WR } from '../../src/system/index.ts';
import { Joined, Mesh, type MeshOptions, sleepCredentials, verifier } from './mesh.ts';
import { receiveNow, refusedConnect, resetSocket, sendAll, stuckConnect, tcpPair } from './sockets.ts';
import { openDescriptors, settle } from './turning.ts';

let descriptors: number;
let mesh: Mesh;
function makeMesh(options?: MeshOptions): Mesh {
  mesh = new Mesh(options);
  return mesh;
}
beforeEach(() => {
  descriptors = openDescriptors();
});
afterEach(() => {
  mesh[Symbol.dispose]();
  expect(openDescriptors()).toBe(descriptors);
});

const QUICK = { connectMs: 60, handshakeMs: 60 };

/** A client tunnel that stands, with streams on it whose bytes flow. */
function standing(streams = 1, options: { smallBuffers?: boolean } = {}) {
  const { tunnel, events } = mesh.client();
  const joined = Array.from({ length: streams }, () => new Joined(mesh, options));
  mesh.until(() => tunnel.state === 'open');
  for (const each of joined) {
    each.attach(false);
    tunnel.open(each.stream, '127.0.0.1:80', []);
  }
  mesh.until(() => joined.every(({ events }) => events.includes('answer 200')));
  return { tunnel, events, joined, first: joined[0]! };
}

describe('HboneTunnel', () => {
  it('goes through its states in order and says who is at the other end', () => {
    makeMesh();
    const { tunnel, events } = mesh.client();
    expect([tunnel.state, tunnel.canOpen, tunnel.peerIdentity, tunnel.description]).toEqual([
      'connecting',
      false,
      undefined,
      '',
    ]);
    mesh.until(() => tunnel.state === 'open' && mesh.servers[0]?.state === 'open');
    expect(events).toEqual(['ready', 'capacity']);
    expect(tunnel.peerIdentity).toBe('spiffe://cluster.local/ns/default/sa/httpbin');
    expect(mesh.servers[0]!.peerIdentity).toBe('spiffe://cluster.local/ns/default/sa/sleep');
    expect(tunnel.description).toMatch(/^TLSv1\.3 TLS_AES_256_GCM_SHA384 X25519$/i);
    tunnel.close('done');
    tunnel.close('done twice');
    expect(events.at(-1)).toBe('closed: done');
    expect(tunnel.canOpen).toBe(false);
    const late = new Joined(mesh);
    expect(() => tunnel.open(late.stream, 'a:1', [])).toThrow(expect.objectContaining({ code: 'ERR_HTTP2_CLOSED' }));
    late.attach(false);
    late.stream.abort('over');
    mesh.until(() => mesh.servers[0]!.closed);
    // GOAWAY, then the end: not a broken connection.
    expect(mesh.tunnelFailures).toEqual([undefined]);
  });

  it('tells the reactor what it reads, of the application and of the peer: streams are told from messages by it', () => {
    makeMesh();
    const { tunnel, first } = standing();
    const told = vi.spyOn(mesh.reactor, 'tellRead');
    first.write('x'.repeat(10_000));
    mesh.inbound[0]!.read(10_000);
    // From the application, and as one DATA frame from the client's tunnel.
    expect(told.mock.calls.slice(0, 2)).toEqual([[10_000], [FRAME_HEADER_BYTES + 10_000]]);
    tunnel.close();
  });

  it('a context closed by a rotation does not disturb a tunnel under way', () => {
    makeMesh();
    const context = new TlsContext(sleepCredentials);
    const { tunnel } = mesh.client({ context });
    expect(tunnel.state).toBe('connecting');
    context.close();
    mesh.until(() => tunnel.state === 'open');
    tunnel.close();
  });

  it.each<[what: string, init: () => Partial<TunnelInit>, code: string]>([
    [
      'a closed context',
      () => {
        const context = new TlsContext(sleepCredentials);
        context.close();
        return { context };
      },
      'ERR_ENGINE_CLOSED',
    ],
    ['options out of range', () => ({ http2: { maxFrameBytes: 1 } }), 'ERR_HTTP2_INVALID'],
  ])('takes its descriptor over also where it cannot be made: %s', (_what, init, code) => {
    makeMesh();
    const [near, far] = tcpPair();
    expect(() => mesh.client({ fd: near, ...init() })).toThrow(expect.objectContaining({ code }));
    expect(libc().close(near)).toBe(-1);
    libc().close(far);
    settle(mesh.reactor, 20);
  });
});

describe('HboneTunnel: every wait has an end', () => {
  it('TCP connect', () => {
    makeMesh({ limits: QUICK });
    const { fd, release } = stuckConnect();
    const { tunnel, events } = mesh.client({ fd });
    mesh.until(() => tunnel.closed);
    expect(events).toEqual(['closed: connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008']);
    release();
  });

  it('TCP connect refused', () => {
    makeMesh();
    const { tunnel, events } = mesh.client({ fd: refusedConnect() });
    mesh.until(() => tunnel.closed);
    expect(events).toEqual(['closed: connect: ECONNREFUSED']);
  });

  it.each(['client', 'server'] as const)('TLS handshake: a peer that says nothing (%s)', (role) => {
    makeMesh({ limits: QUICK });
    const [near, far] = tcpPair();
    const { tunnel, events } = mesh.client({ fd: near, role });
    mesh.until(() => tunnel.closed);
    expect(events).toEqual(['closed: the TLS handshake timed out']);
    libc().close(far);
  });

  it('TLS handshake: a peer that says a byte at a time', () => {
    makeMesh({ limits: { connectMs: 1000, handshakeMs: 100 } });
    const [near, far] = tcpPair();
    const { tunnel, events } = mesh.client({ fd: near, role: 'server' });
    // The head of a ClientHello of 512 bytes (RFC 8446 section 5.1), of which the rest trickles.
    const hello = Buffer.from('1603010200010001fc0303', 'hex');
    let at = 0;
    let nextMs = 0;
    mesh.until(() => {
      if (performance.now() > nextMs) {
        nextMs = performance.now() + 10;
        libc().sendData(far, at < hello.length ? hello.subarray(at, ++at) : Buffer.of(7), 1, 0x4000);
      }
      return tunnel.closed;
    });
    expect(events).toEqual(['closed: the TLS handshake timed out']);
    libc().close(far);
  });

  it('the SETTINGS of HTTP/2', () => {
    makeMesh({ limits: QUICK });
    mesh.onServerReady = (tunnel) => {
      // TLS stands, and nothing ever follows: whatever the server wrote is not sent.
      tunnel.flushLater = () => {};
      Object.assign(tunnel, { onDeferred: () => {} });
    };
    const { tunnel, events } = mesh.client();
    mesh.until(() => tunnel.state === 'greeting');
    mesh.until(() => tunnel.closed);
    expect(events.at(-1)).toBe('closed: no HTTP/2 SETTINGS came in time');
  });
});

describe('TunnelStream: every wait has an end', () => {
  it('TCP connect to the target: 503 (facts section 1.3)', () => {
    makeMesh();
    const { fd, release } = stuckConnect();
    mesh.streamLimits = { connectMs: 60, answerMs: 10_000 };
    mesh.onRequest = (far) => far.stream.attach(fd, true);
    const { tunnel } = mesh.client();
    mesh.until(() => tunnel.state === 'open');
    const joined = new Joined(mesh);
    joined.attach(false);
    tunnel.open(joined.stream, '127.0.0.1:80', []);
    mesh.until(() => joined.closed !== false);
    expect(joined.events).toEqual(['answer 503', 'closed']);
    expect(mesh.inbound[0]!.closed).toBe('connect: connection timed out');
    mesh.inbound[0]!.attach(false);
    release();
    tunnel.close();
  });

  it('the answer to CONNECT', () => {
    makeMesh();
    mesh.onRequest = (far) => far.attach(false);
    const { tunnel } = mesh.client();
    mesh.until(() => tunnel.state === 'open');
    mesh.streamLimits = { connectMs: 10_000, answerMs: 60 };
    const joined = new Joined(mesh);
    mesh.streamLimits = undefined;
    joined.attach(false);
    tunnel.open(joined.stream, '127.0.0.1:80', []);
    mesh.until(() => joined.closed !== false);
    expect(joined.closed).toBe('no answer to CONNECT in time');
    mesh.until(() => mesh.inbound[0]!.closed !== false);
    expect(mesh.inbound[0]!.closed).toBe(`stream reset by peer: ${ErrorCode.CANCEL}`);
    tunnel.close();
  });
});

describe('HboneTunnel: garbage', () => {
  it.each<[string, Buffer]>([
    ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    // Fixed: one in some hundred random beginnings is that of a longer message, which the handshake's time limit ends.
    ['noise', Buffer.alloc(2000, 'noise')],
    ['a record too long', Buffer.concat([Buffer.from('1603034fff', 'hex'), Buffer.alloc(0x4fff)])],
  ])('%s instead of TLS ends the connection with a reason', (_what, bytes) => {
    makeMesh();
    const [near, far] = tcpPair();
    const { tunnel, events } = mesh.client({ fd: near, role: 'server' });
    sendAll(far, bytes);
    mesh.until(() => tunnel.closed);
    expect(events).toEqual([expect.stringMatching(/^closed: tls: (?!no reason)/)]);
    libc().close(far);
  });

  it('an end in the middle of the handshake', () => {
    makeMesh();
    const [near, far] = tcpPair();
    const { tunnel, events } = mesh.client({ fd: near, role: 'server' });
    sendAll(far, Buffer.from('160301', 'hex'));
    libc().shutdown(far, SHUT_WR);
    mesh.until(() => tunnel.closed);
    expect(events).toEqual(['closed: tls: unexpected eof while reading']);
    libc().close(far);
  });
});

describe('HboneTunnel: the end', () => {
  it('close() cuts the streams: RST for their applications, RST_STREAM or GOAWAY for the peer', () => {
    makeMesh();
    const { tunnel, joined } = standing(3);
    tunnel.close('policy');
    expect(joined.map(({ closed }) => closed)).toEqual(['policy', 'policy', 'policy']);
    for (const each of joined) expect(each.read()).toBe('reset');
    mesh.until(() => mesh.inbound.every(({ closed }) => closed !== false));
    for (const each of mesh.inbound) expect(each.read()).toBe('reset');
  });

  it('a broken tunnel resets its own streams only', () => {
    makeMesh();
    const one = standing(2);
    const other = standing(2);
    mesh.servers[0]!.close();
    mesh.until(() => one.tunnel.closed);
    for (const each of one.joined) expect(each.read()).toBe('reset');
    other.first.write('still here');
    expect(`${mesh.inbound[2]!.read()}`).toBe('still here');
    other.tunnel.close();
  });

  it('RFC 9113 section 6.8: drain() of a server takes no new stream, lets the old ones finish, then ends', () => {
    makeMesh();
    const { tunnel, first, events } = standing(1);
    mesh.servers[0]!.drain();
    mesh.servers[0]!.drain();
    mesh.until(() => !tunnel.canOpen);
    first.write('question');
    const far = mesh.inbound[0]!;
    expect(`${far.read()}`).toBe('question');
    far.write('answer');
    expect(`${first.read()}`).toBe('answer');
    settle(mesh.reactor);
    expect([tunnel.closed, mesh.servers[0]!.closed]).toEqual([false, false]);
    for (const each of [first, far]) libc().shutdown(each.app, SHUT_WR);
    mesh.until(() => tunnel.closed && mesh.servers[0]!.closed);
    expect([first.closed, far.closed]).toEqual([undefined, undefined]);
    expect(events.at(-1)).toBe('closed: undefined');
    expect(mesh.tunnelFailures).toEqual([undefined]);
  });

  it('facts 1.11: a request that crosses the GOAWAY of a drain is served', () => {
    makeMesh();
    const { tunnel } = mesh.client();
    mesh.until(() => tunnel.state === 'open' && mesh.servers[0]?.state === 'open');
    settle(mesh.reactor, 10);
    // Sent before the client can have heard of the drain; the server has no stream at that moment.
    mesh.servers[0]!.drain();
    const crossing = new Joined(mesh);
    crossing.attach(false);
    tunnel.open(crossing.stream, '127.0.0.1:80', []);
    crossing.write('in time');
    mesh.until(() => mesh.inbound.length === 1);
    expect(`${mesh.inbound[0]!.read()}`).toBe('in time');
    for (const each of [crossing, mesh.inbound[0]!]) libc().shutdown(each.app, SHUT_WR);
    mesh.until(() => tunnel.closed && mesh.servers[0]!.closed);
    expect(crossing.closed).toBe(undefined);
  });

  it('drain() of a client ends at once without streams, and before it stands', () => {
    makeMesh();
    const idle = mesh.client();
    mesh.until(() => idle.tunnel.state === 'open');
    idle.tunnel.drain();
    mesh.until(() => idle.tunnel.closed);
    const early = mesh.client();
    early.tunnel.drain();
    expect(early.events).toEqual(['closed: drained']);
  });

  it.each(['drains', 'is cut by the peer'])('brings a slow reader what was complete when the tunnel %s', (how) => {
    makeMesh();
    const { tunnel, first } = standing(1, { smallBuffers: true });
    const far = mesh.inbound[0]!;
    const data = randomBytes(1 << 20);
    libc().shutdown(first.app, SHUT_WR);
    expect(far.read()).toEqual(Buffer.alloc(0));
    let at = 0;
    mesh.until(() => {
      const count = libc().sendData(far.app, data.subarray(at), data.length - at, 0);
      if (count > 0) at += count;
      return at === data.length;
    });
    libc().shutdown(far.app, SHUT_WR);
    // Everything has come out of the tunnel, both directions are at their end, and most of it waits for the reader.
    mesh.until(() => first.stream.bytesFromTunnel === data.length && far.closed === undefined);
    settle(mesh.reactor, 10);
    expect(first.closed).toBe(false);
    if (how === 'drains') mesh.servers[0]!.drain();
    else mesh.servers[0]!.close();
    mesh.until(() => tunnel.closed);
    expect(first.closed).toBe(false);
    // And the end behind the last byte.
    const received = first.read(data.length + 1);
    expect(Buffer.isBuffer(received) && received.equals(data)).toBe(true);
    mesh.until(() => first.closed !== false);
    expect(first.closed).toBe(undefined);
  });

  it('close() does not wait for a slow reader', () => {
    makeMesh();
    const { tunnel, first } = standing(1, { smallBuffers: true });
    mesh.inbound[0]!.write(randomBytes(200_000));
    mesh.until(() => first.stream.bytesFromTunnel >= 100_000);
    tunnel.close('drain deadline');
    expect(first.closed).toBe('drain deadline');
  });

  it('cuts a peer that asks and asks and never reads (PING flood), with a reason', () => {
    makeMesh({ serverHttp2: { maxPingsPerSecond: 10_000_000 } });
    const { tunnel } = mesh.client();
    mesh.until(() => tunnel.state === 'open' && mesh.servers[0]?.state === 'open');
    // The client's own reading is put to rest, and it sends PINGs for as long as the server lives.
    Object.assign(tunnel, { onEvents: () => {} });
    const frame = Buffer.concat([Buffer.from('000008060000000000', 'hex'), Buffer.alloc(8)]);
    const pings = Buffer.concat([
      Buffer.alloc(FRAME_HEADER_BYTES),
      ...Array.from<Buffer>({ length: 1000 }).fill(frame),
    ]);
    mesh.until(() => {
      if (tunnel.room() > pings.length * 2) tunnel.write(pings, FRAME_HEADER_BYTES, pings.length);
      tunnel.onDeferred();
      return mesh.servers[0]!.closed;
    }, 20_000);
    expect(mesh.tunnelFailures).toEqual(['tls: the peer does not read']);
    tunnel.close();
  });
});

describe('HboneTunnel: callbacks that close what calls them', () => {
  it.each(['closed', 'answer 200'])('the client cuts the tunnel when it hears: %s', (moment) => {
    makeMesh();
    const { tunnel } = mesh.client();
    const joined = [new Joined(mesh), new Joined(mesh)];
    mesh.until(() => tunnel.state === 'open');
    for (const each of joined) {
      each.attach(false);
      each.react = (event) => {
        if (event === moment) tunnel.close('from a callback');
      };
      tunnel.open(each.stream, '127.0.0.1:80', []);
    }
    mesh.onRequest = (far) => {
      if (moment === 'closed') far.stream.refuse(503, 'no');
      far.attach(true);
    };
    mesh.until(() => tunnel.closed);
    settle(mesh.reactor, 20);
    expect(joined.every(({ closed }) => closed !== false)).toBe(true);
    for (const each of joined) expect(each.events.filter((event) => event === 'closed').length).toBe(1);
  });

  it('the server cuts the tunnel in the middle of a batch of requests', () => {
    makeMesh();
    const { tunnel } = mesh.client();
    mesh.until(() => tunnel.state === 'open');
    const joined = Array.from({ length: 5 }, () => new Joined(mesh));
    mesh.onRequest = (far) => {
      far.attach(true);
      if (mesh.inbound.length === 3) mesh.servers[0]!.close('enough');
    };
    for (const each of joined) {
      each.attach(false);
      tunnel.open(each.stream, '127.0.0.1:80', []);
    }
    mesh.until(() => tunnel.closed && mesh.servers[0]!.closed);
    expect(mesh.inbound.length).toBe(3);
    expect(joined.every(({ closed }) => typeof closed === 'string')).toBe(true);
    expect(mesh.inbound.every(({ closed }) => closed === 'enough')).toBe(true);
  });

  it('a stream whose application has gone is closed from inside the receive of its own bytes, and takes the tunnel with it', () => {
    makeMesh();
    const { tunnel, joined, first } = standing(2);
    // The tunnel's bytes meet a reset application: send() fails inside onData, inside http2.receive, inside the read.
    first.react = (event) => {
      if (event === 'closed') tunnel.close('from inside');
    };
    mesh.inbound[0]!.write('for the gone');
    mesh.inbound[1]!.write('for the other');
    resetSocket(first.app);
    mesh.descriptors.splice(mesh.descriptors.indexOf(first.app), 1);
    mesh.until(() => tunnel.closed);
    expect(joined.map(({ closed }) => typeof closed)).toEqual(['string', 'string']);
    settle(mesh.reactor, 10);
  });

  it('streams end each other from their observers', () => {
    makeMesh();
    const { tunnel, joined } = standing(4);
    for (const [index, each] of joined.entries()) {
      each.react = (event) => {
        if (event === 'closed') for (const other of joined.slice(index)) other.stream.abort('domino');
      };
    }
    joined[0]!.stream.abort('first');
    expect(joined.map(({ closed }) => closed)).toEqual(['first', 'domino', 'domino', 'domino']);
    expect(tunnel.streamCount).toBe(0);
    mesh.until(() => mesh.inbound.every(({ closed }) => closed !== false));
    expect(tunnel.closed).toBe(false);
    tunnel.close();
  });

  it('an owner closes the tunnel the moment it is ready, or gone', () => {
    makeMesh();
    const seen: string[] = [];
    const tunnel: HboneTunnel = new HboneTunnel({
      reactor: mesh.reactor,
      memory: mesh.memory,
      role: 'client',
      fd: mesh.route().dial(),
      context: mesh.clientContext,
      verifier,
      owner: {
        onTunnelReady: () => {
          seen.push('ready');
          tunnel.close('at once');
        },
        onTunnelRequest: () => {},
        onTunnelCapacity: () => {},
        onTunnelClosed: () => {
          seen.push('closed');
          tunnel.close('again');
          tunnel.drain();
        },
      },
    });
    mesh.until(() => tunnel.closed);
    settle(mesh.reactor, 10);
    expect(seen).toEqual(['ready', 'closed']);
  });
});

describe('HboneTunnel and TunnelStream: callbacks that throw', () => {
  const thrower = (moment: string) => (event: string) => {
    if (event === moment) throw new Error(`when told: ${event}`);
  };

  it('from inside the tunnel’s bytes: that tunnel ends, with INTERNAL_ERROR for its peer; others go on', () => {
    makeMesh();
    const other = standing();
    const { tunnel, events, first } = standing(2);
    const bad = new Joined(mesh);
    bad.attach(false);
    bad.react = thrower('answer 200');
    tunnel.open(bad.stream, '127.0.0.1:80', []);
    expect(() => mesh.until(() => false)).toThrow('when told: answer 200');
    expect(tunnel.closed).toBe(true);
    expect(events.at(-1)).toBe('closed: a callback threw: when told: answer 200');
    expect([first.closed, bad.closed]).toEqual(Array(2).fill('a callback threw: when told: answer 200'));
    expect(first.read()).toBe('reset');
    mesh.until(() => mesh.servers[1]!.closed);
    expect(mesh.tunnelFailures).toEqual(['http2.receive: the peer ended the connection with INTERNAL_ERROR']);
    other.first.write('still served');
    expect(`${mesh.inbound[0]!.read()}`).toBe('still served');
    other.tunnel.close();
  });

  it('a request that its owner fails on: as much', () => {
    makeMesh();
    const { tunnel, joined } = standing(2);
    mesh.onRequest = (far) => {
      far.attach(true);
      throw new Error('cannot decide');
    };
    const bad = new Joined(mesh);
    bad.attach(false);
    tunnel.open(bad.stream, '127.0.0.1:80', []);
    expect(() => mesh.until(() => false)).toThrow('cannot decide');
    mesh.until(() => tunnel.closed);
    for (const each of [...joined, bad, ...mesh.inbound]) expect(each.closed).toEqual(expect.any(String));
    expect(mesh.servers[0]!.closed).toBe(true);
  });

  it('from inside a TCP side’s event: that stream is reset, its siblings go on', () => {
    makeMesh();
    const { tunnel, first } = standing();
    mesh.onRequest = (far) => {
      far.react = thrower('connected');
      far.attach(true);
    };
    const bad = new Joined(mesh);
    bad.attach(false);
    tunnel.open(bad.stream, '127.0.0.1:80', []);
    expect(() => mesh.until(() => false)).toThrow('when told: connected');
    mesh.until(() => bad.closed !== false);
    expect(bad.closed).toBe(`stream reset by peer: ${ErrorCode.INTERNAL_ERROR}`);
    expect(mesh.inbound[1]!.closed).toBe('a callback threw: when told: connected');
    first.write('still served');
    expect(`${mesh.inbound[0]!.read()}`).toBe('still served');
    tunnel.close();
  });

  it('when told of their end: each is told, and nothing is left behind', () => {
    makeMesh();
    const { tunnel, joined, events } = standing(5);
    for (const each of joined) each.react = thrower('closed');
    mesh.servers[0]!.close();
    expect(() => mesh.until(() => false)).toThrow('when told: closed');
    expect(joined.map(({ closed }) => typeof closed)).toEqual(Array(5).fill('string'));
    expect(events.at(-1)).toMatch(/^closed: /);
    expect(tunnel.closed).toBe(true);
  });
});

describe('TunnelStream: odd peers and moments', () => {
  it.each([
    ['is being dialled', false],
    ['is not even chosen', true],
  ])('half-close: END_STREAM that comes while the target %s reaches it as FIN', (_when, late) => {
    makeMesh();
    mesh.onRequest = (far) => {
      if (!late) far.attach(true);
    };
    const { tunnel } = mesh.client();
    mesh.until(() => tunnel.state === 'open');
    // A client that ends its direction in the same breath as it opens the stream.
    const answers: (number | string)[] = [];
    const bare = {
      onAnswer: (status: number) => answers.push(status),
      onData: (buffer: Buffer, start: number, end: number) => answers.push(buffer.toString('latin1', start, end)),
    } as unknown as TunnelStream;
    tunnel.http2.endStream(tunnel.http2.open('127.0.0.1:80', [], bare));
    tunnel.flushLater();
    mesh.until(() => mesh.inbound.length === 1);
    settle(mesh.reactor, 10);
    const far = mesh.inbound[0]!;
    if (late) far.attach(true);
    expect(far.read()).toEqual(Buffer.alloc(0));
    far.write('the answer');
    mesh.until(() => answers.length === 2);
    expect(answers).toEqual([200, 'the answer']);
    mesh.servers[0]!.close();
    Object.assign(bare, { onTunnelLost: () => {} });
    mesh.until(() => tunnel.closed);
  });

  it.each(['accept', 'refuse'] as const)(
    'a peer that takes no headers ends its own stream, not the reactor (%s)',
    (what) => {
      makeMesh({ clientHttp2: { maxHeaderListBytes: 256 } });
      const long: [string, string] = ['x', 'y'.repeat(300)];
      mesh.onRequest = (far) => {
        far.attach(false);
        // Twice: the first answer is too large for the peer, or already given.
        if (what === 'accept') far.stream.accept([long]);
        else {
          far.stream.accept([]);
          far.stream.refuse(503, 'a second answer');
        }
      };
      const { tunnel } = mesh.client();
      mesh.until(() => tunnel.state === 'open');
      const joined = new Joined(mesh);
      joined.attach(false);
      tunnel.open(joined.stream, '127.0.0.1:80', []);
      mesh.until(() => joined.closed !== false);
      expect(joined.read()).toBe('reset');
      expect(mesh.inbound[0]!.closed).toMatch(what === 'accept' ? /header list/ : /a second answer/);
      expect(tunnel.closed).toBe(false);
      tunnel.close();
    },
  );

  it.each(['ends', 'is reset', 'goes on and on'])(
    'declines what is no CONNECT, and reads its body until it %s',
    (what) => {
      makeMesh();
      mesh.streamLimits = { connectMs: 1000, answerMs: 100 };
      mesh.onRequest = (far) => far.stream.decline(400, 'no CONNECT');
      const { tunnel } = mesh.client();
      mesh.until(() => tunnel.state === 'open');
      const answers: unknown[] = [];
      const bare = {
        onAnswer: (...answer: unknown[]) => answers.push(...answer),
        onReset: (code: number) => answers.push(`reset ${code}`),
        onTunnelLost: () => {},
        onWritable: () => {},
      } as unknown as TunnelStream;
      const stream = tunnel.http2.open('127.0.0.1:80', [], bare);
      const buffer = Buffer.alloc(9 + 16_384);
      const send = () => {
        while (tunnel.room() > 0 && tunnel.http2.capacity(stream) >= 16_384) {
          tunnel.http2.sendData(stream, buffer, 9, buffer.length, false);
        }
        tunnel.flushLater();
      };
      mesh.until(() => answers.length === 2);
      expect(answers).toEqual([400, true]);
      const far = mesh.inbound[0]!;
      // More than a window of it: credit is given for what is thrown away.
      let turns = 0;
      mesh.until(() => {
        if (!stream.closed) send();
        return ++turns > 50 || stream.closed;
      });
      if (what === 'ends') tunnel.http2.endStream(stream);
      if (what === 'is reset') tunnel.http2.reset(stream, ErrorCode.CANCEL);
      tunnel.flushLater();
      mesh.until(() => {
        if (what === 'goes on and on' && !stream.closed) send();
        return far.closed !== false;
      });
      expect(far.closed).toBe('no CONNECT');
      settle(mesh.reactor, 10);
      expect(answers.slice(2)).toEqual(what === 'goes on and on' ? ['reset 0'] : []);
      expect(mesh.servers[0]!.streamCount).toBe(0);
      far.attach(false);
      tunnel.close();
    },
  );

  it('gets its TCP side too late: the descriptor is closed, the stream stays closed', () => {
    makeMesh();
    const joined = new Joined(mesh);
    joined.stream.abort('gone before it began');
    joined.attach(false);
    expect(joined.read()).toBe('reset');
    expect(joined.events).toEqual(['closed']);
  });

  it('bytes for a stream without a TCP side are an error, not a loss', () => {
    makeMesh();
    mesh.onRequest = (far) => far.stream.accept([]);
    const { tunnel } = mesh.client();
    mesh.until(() => tunnel.state === 'open');
    const joined = new Joined(mesh);
    joined.attach(false);
    tunnel.open(joined.stream, '127.0.0.1:80', []);
    joined.write('to nobody');
    mesh.until(() => joined.closed !== false);
    expect(mesh.inbound[0]!.closed).toMatch(/without a TCP side/);
    expect(receiveNow(joined.app)).toBe('reset');
    mesh.inbound[0]!.attach(false);
    tunnel.close();
  });
});
