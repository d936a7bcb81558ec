import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TlsContext, TunnelPool, type TunnelPoolOptions, type TunnelRoute } from '../../src/engine/index.ts';
import { ErrorCode } from '../../src/http2/index.ts';
import { libc, SHUT_WR } from '../../src/system/index.ts';
import { Joined, Mesh, type MeshOptions, sleepCredentials } from './mesh.ts';
import { receiveNow, refusedConnect, resetSocket, stuckConnect } from './sockets.ts';
import { openDescriptors, settle } from './turning.ts';

let descriptors: number;
let mesh: Mesh;
let pool: TunnelPool;
function make(pools: TunnelPoolOptions = {}, options?: MeshOptions): void {
  mesh = new Mesh(options);
  pool = new TunnelPool(mesh.reactor, mesh.memory, pools);
}
beforeEach(() => {
  descriptors = openDescriptors();
});
afterEach(() => {
  pool.close();
  mesh[Symbol.dispose]();
  expect(openDescriptors()).toBe(descriptors);
});

function open(route: TunnelRoute = mesh.route(), headers: [string, string][] = []): Joined {
  const joined = new Joined(mesh);
  joined.attach(false);
  pool.open(route, joined.stream, '127.0.0.1:80', headers);
  return joined;
}

const openMany = (count: number, route?: TunnelRoute) => Array.from({ length: count }, () => open(route));
const answered = (joined: readonly Joined[]) => () => joined.every(({ events }) => events.includes('answer 200'));

describe('TunnelPool (facts 1.8)', () => {
  it('dials once for a burst, and carries 100 streams a tunnel', () => {
    make();
    const burst = openMany(100);
    expect([mesh.dials, pool.tunnelCount]).toEqual([1, 1]);
    mesh.until(answered(burst));
    expect(mesh.dials).toBe(1);
    const more = openMany(2);
    expect(mesh.dials).toBe(2);
    mesh.until(answered(more));
    expect(mesh.servers.map(({ streamCount }) => streamCount)).toEqual([100, 2]);
  });

  it('has one dial at a time under way per key, also for more streams than that one will carry', () => {
    make({ maxStreamsPerTunnel: 10 });
    const burst = openMany(35);
    let mostAtOnce = 0;
    mesh.until(() => {
      mostAtOnce = Math.max(mostAtOnce, mesh.dials - mesh.servers.filter(({ state }) => state === 'open').length);
      return answered(burst)();
    });
    expect(mesh.dials).toBe(4);
    // One dialled, and at most one more whose SETTINGS have come to the client and not yet to the server.
    expect(mostAtOnce).toBeLessThanOrEqual(2);
  });

  it('keeps keys apart', () => {
    make();
    const joined = [open(mesh.route({ key: 'a' })), open(mesh.route({ key: 'b' })), open(mesh.route({ key: 'a' }))];
    mesh.until(answered(joined));
    expect(mesh.dials).toBe(2);
  });

  it('uses a tunnel again whose streams have ended', () => {
    make({ maxStreamsPerTunnel: 1 });
    for (let round = 0; round < 5; round++) {
      const joined = open();
      mesh.until(answered([joined]));
      for (const each of [joined, mesh.inbound.at(-1)!]) libc().shutdown(each.app, SHUT_WR);
      mesh.until(() => joined.closed === undefined && mesh.servers[0]!.streamCount === 0);
    }
    expect(mesh.dials).toBe(1);
  });

  it('goes to another tunnel where the peer allows few streams', () => {
    make({}, { serverHttp2: { maxConcurrentStreams: 2 } });
    const joined = openMany(5);
    mesh.until(answered(joined));
    expect(mesh.servers.map(({ streamCount }) => streamCount)).toEqual([2, 2, 1]);
  });
});

describe('TunnelPool: tunnels that end', () => {
  it('lets an unused tunnel go, and only an unused one', () => {
    make({ idleMs: 50 });
    const joined = open();
    mesh.until(answered([joined]));
    settle(mesh.reactor, 120);
    expect(pool.tunnelCount).toBe(1);
    joined.stream.abort('done');
    settle(mesh.reactor, 10);
    expect(pool.tunnelCount).toBe(1);
    mesh.until(() => pool.tunnelCount === 0 && mesh.servers[0]!.closed);
    expect(mesh.tunnelFailures).toEqual([undefined]);
    const again = open();
    mesh.until(answered([again]));
    expect(mesh.dials).toBe(2);
  });

  it('lets a tunnel go whose only user went away before it stood', () => {
    make({ idleMs: 50 });
    open().stream.abort('gone');
    mesh.until(() => mesh.servers[0]?.state === 'open');
    expect(pool.tunnelCount).toBe(1);
    mesh.until(() => pool.tunnelCount === 0);
    expect(mesh.inbound.length).toBe(0);
  });

  it('GOAWAY: opens no more streams there, while the old ones go on', () => {
    make();
    const old = open();
    mesh.until(answered([old]));
    mesh.servers[0]!.drain();
    settle(mesh.reactor, 10);
    const fresh = open();
    mesh.until(answered([fresh]));
    expect(mesh.dials).toBe(2);
    old.write('still served');
    expect(`${mesh.inbound[0]!.read()}`).toBe('still served');
    for (const each of [old, mesh.inbound[0]!]) libc().shutdown(each.app, SHUT_WR);
    mesh.until(() => mesh.servers[0]!.closed);
    expect(old.closed).toBe(undefined);
    expect(pool.tunnelCount).toBe(1);
  });

  it('a broken tunnel fails its own streams and is not used again', () => {
    make({ maxStreamsPerTunnel: 2 });
    const joined = openMany(4);
    mesh.until(answered(joined));
    mesh.servers[0]!.close();
    mesh.until(() => pool.tunnelCount === 1);
    expect(joined.filter(({ closed }) => typeof closed === 'string').length).toBe(2);
    const next = openMany(2);
    mesh.until(answered(next));
    expect(pool.tunnelCount).toBe(2);
    expect(joined.filter(({ closed }) => closed === false).length).toBe(2);
  });

  it('takes the certificate of after a rotation for the next tunnel, also one that is dialled for those who wait', () => {
    make({ maxStreamsPerTunnel: 1 });
    const old = new TlsContext(sleepCredentials);
    const first = open(mesh.route({ context: old }));
    mesh.until(answered([first]));
    // The key's first route goes out of use; what waits now is dialled by the latest.
    old.close();
    const rest = openMany(3);
    mesh.until(answered(rest));
    expect(mesh.dials).toBe(4);
  });
});

describe('TunnelPool: those who wait', () => {
  it.each<[string, () => Partial<TunnelRoute>, RegExp]>([
    ['the target refuses', () => ({ dial: refusedConnect }), /ECONNREFUSED/],
    [
      'no socket is to be had',
      () => ({
        dial: () => {
          throw new Error('no socket today');
        },
      }),
      /no socket today/,
    ],
    [
      'our certificate is gone',
      () => {
        const context = new TlsContext(sleepCredentials);
        context.close();
        return { context };
      },
      /context is closed/,
    ],
    [
      'the peer is another',
      () => ({
        verifier: {
          verifyPeer: () => {
            throw new Error('another workload');
          },
        },
      }),
      /another workload/,
    ],
  ])('all hear why when %s, and the next try is a new dial', (_what, more, reason) => {
    make();
    const joined = openMany(3, mesh.route(more()));
    mesh.until(() => joined.every(({ closed }) => closed !== false));
    for (const each of joined) {
      expect(each.closed).toMatch(reason);
      expect(each.read()).toBe('reset');
    }
    expect(pool.tunnelCount).toBe(0);
    const next = open();
    mesh.until(answered([next]));
  });

  it('all hear in time when the peer accepts TLS and then says nothing: none waits for a second dial', () => {
    make({ limits: { connectMs: 100, handshakeMs: 100 } });
    mesh.onServerReady = (tunnel) => Object.assign(tunnel, { flushLater: () => {}, onDeferred: () => {} });
    const joined = openMany(5);
    mesh.until(() => joined.every(({ closed }) => closed !== false), 2000);
    expect(joined.map(({ closed }) => closed)).toEqual(Array(5).fill('no HTTP/2 SETTINGS came in time'));
    expect(mesh.dials).toBe(1);
  });

  it('a retry from inside the bad news is a new dial, and nothing is forgotten', () => {
    make();
    const joined = openMany(2, mesh.route({ dial: refusedConnect }));
    const retries: Joined[] = [];
    for (const each of joined) {
      each.react = (event) => {
        if (event === 'closed') retries.push(open());
      };
    }
    mesh.until(() => retries.length === 2 && answered(retries)());
    expect(mesh.dials).toBe(1);
    expect(pool.tunnelCount).toBe(1);
    const later = open();
    mesh.until(answered([later]));
    expect(mesh.dials).toBe(1);
  });

  it('an application that goes away while it waits is not served', () => {
    make();
    const [gone, stays] = [open(), open()];
    resetSocket(gone.app);
    mesh.descriptors.splice(mesh.descriptors.indexOf(gone.app), 1);
    mesh.until(answered([stays]));
    expect(gone.closed).toBe('io: ECONNRESET');
    settle(mesh.reactor, 10);
    expect(mesh.inbound.length).toBe(1);
  });

  it('an application that goes away while its CONNECT is pending takes its stream along at once', () => {
    make();
    mesh.onRequest = () => {};
    const joined = open();
    mesh.until(() => mesh.inbound.length === 1);
    resetSocket(joined.app);
    mesh.descriptors.splice(mesh.descriptors.indexOf(joined.app), 1);
    mesh.until(() => mesh.inbound[0]!.closed !== false);
    expect(mesh.inbound[0]!.closed).toMatch(/reset by peer/);
    expect(mesh.servers[0]!.closed).toBe(false);
    mesh.inbound[0]!.attach(false);
  });

  it('are no more than the limit; those who left make room', () => {
    const { fd, release } = stuckConnect();
    make({ maxWaiting: 2 });
    const route = mesh.route({ dial: () => fd });
    const [one, two, three] = [open(route), open(route), open(route)];
    expect([one.closed, two.closed]).toEqual([false, false]);
    expect(three.closed).toBe('too many connections wait for a tunnel');
    one.stream.abort('lost patience');
    expect(open(route).closed).toBe(false);
    expect(open(route).closed).toBe('too many connections wait for a tunnel');
    pool.close();
    release();
  });

  it('bad headers are their own stream’s trouble, now and when it had to wait', () => {
    make();
    const bad: [string, string][] = [['x', 'line\nbreak']];
    const [waited, fine] = [open(mesh.route(), bad), open()];
    mesh.until(answered([fine]));
    expect(waited.closed).toMatch(/http2\.open/);
    const direct = open(mesh.route(), bad);
    expect(direct.closed).toMatch(/http2\.open/);
    expect(fine.closed).toBe(false);
  });

  it('a stream that has ended already opens nothing', () => {
    make();
    const joined = new Joined(mesh);
    joined.attach(false);
    joined.stream.abort('ended');
    pool.open(mesh.route(), joined.stream, '127.0.0.1:80', []);
    expect(mesh.dials).toBe(0);
    expect(joined.events).toEqual(['closed']);
  });
});

describe('TunnelPool: a peer that refuses a CONNECT unprocessed (RFC 9113 section 8.7)', () => {
  const refuse = (joined: Joined) => {
    joined.attach(false);
    joined.stream.abort('weather', ErrorCode.REFUSED_STREAM);
  };
  const serve = (joined: Joined) => joined.attach(true);

  it('once: it goes through another tunnel, and the one before gets no more streams', () => {
    make();
    const first = open();
    mesh.until(answered([first]));
    mesh.onRequest = (joined) => {
      refuse(joined);
      mesh.onRequest = serve;
    };
    const second = open();
    mesh.until(answered([second]));
    expect(second.events).toEqual(['answer 200']);
    expect(mesh.dials).toBe(2);
    // Nobody was held up or cut.
    first.write('still served');
    expect(`${mesh.inbound[0]!.read()}`).toBe('still served');
    const third = open();
    mesh.until(answered([third]));
    expect(third.stream.tunnel).toBe(second.stream.tunnel);
    first.stream.abort('done');
    mesh.until(() => pool.tunnelCount === 1);
  });

  it('twice: it fails, and whoever comes next starts anew', () => {
    make();
    mesh.onRequest = refuse;
    const joined = open();
    mesh.until(() => joined.closed !== false);
    expect(joined.closed).toBe('stream reset by peer: 7');
    expect(joined.read()).toBe('reset');
    expect(mesh.dials).toBe(2);
    mesh.until(() => pool.tunnelCount === 0);
    mesh.onRequest = serve;
    const next = open();
    mesh.until(answered([next]));
  });

  it('a hundred at once: all are served, over one tunnel more', () => {
    make();
    const [first] = openMany(1);
    mesh.until(answered([first!]));
    let refusals = 0;
    mesh.onRequest = (joined) => (++refusals <= 50 ? refuse(joined) : serve(joined));
    const joined = openMany(50);
    mesh.until(answered(joined));
    expect(mesh.dials).toBe(2);
  });

  it('one that was answered before is a reset, and nothing is sent twice', () => {
    make();
    mesh.onRequest = (joined) => {
      joined.attach(false);
      joined.stream.accept([]);
      joined.stream.abort('weather', ErrorCode.REFUSED_STREAM);
    };
    const joined = open();
    mesh.until(() => joined.closed !== false);
    expect(mesh.inbound.length).toBe(1);
  });
});

describe('TunnelPool: bytes before the answer (RFC 9113 section 8.5)', () => {
  /** A tunnel that stands, and a peer that answers when it is told to. */
  function makeSlow(options?: MeshOptions): Joined[] {
    make({}, options);
    const first = open();
    mesh.until(answered([first]));
    const asked: Joined[] = [];
    mesh.onRequest = (joined) => {
      joined.attach(false);
      asked.push(joined);
    };
    return asked;
  }

  const openEarly = () => open(mesh.route({ sendsEarly: true }));

  it('arrive with the CONNECT, and what follows after the answer', () => {
    const asked = makeSlow();
    const joined = openEarly();
    joined.write('first words');
    mesh.until(() => asked.length === 1);
    expect(`${asked[0]!.read(11)}`).toBe('first words');
    joined.write(' and more');
    settle(mesh.reactor);
    expect([joined.events, joined.stream.bytesToTunnel]).toEqual([[], 11]);
    asked[0]!.stream.accept([]);
    expect(`${asked[0]!.read(9)}`).toBe(' and more');
    asked[0]!.write('the answer');
    expect(`${joined.read(10)}`).toBe('the answer');
    expect([joined.stream.bytesToTunnel, asked[0]!.stream.bytesFromTunnel]).toEqual([20, 20]);
  });

  it('are 16 KiB at most, once', () => {
    const asked = makeSlow();
    const joined = openEarly();
    const words = randomBytes(50_000);
    joined.write(words);
    mesh.until(() => asked.length === 1);
    const before = asked[0]!.read(16_384);
    settle(mesh.reactor);
    expect(receiveNow(asked[0]!.app)).toBeUndefined();
    asked[0]!.stream.accept([]);
    expect(Buffer.concat([before as Buffer, asked[0]!.read(50_000 - 16_384) as Buffer]).equals(words)).toBe(true);
  });

  it('leave the end of the application for after the answer', () => {
    const asked = makeSlow();
    const joined = openEarly();
    joined.write('all of it');
    libc().shutdown(joined.app, SHUT_WR);
    mesh.until(() => asked.length === 1);
    expect(`${asked[0]!.read(9)}`).toBe('all of it');
    settle(mesh.reactor);
    expect(receiveNow(asked[0]!.app)).toBeUndefined();
    asked[0]!.stream.accept([]);
    expect(asked[0]!.read()).toEqual(Buffer.alloc(0));
  });

  it('stay behind where the route does not say that its peer takes them, and on a tunnel whose SETTINGS have not come', () => {
    const asked = makeSlow();
    const plain = open();
    plain.write('later');
    const fresh = open(mesh.route({ key: 'two', sendsEarly: true }));
    fresh.write('later');
    mesh.until(() => asked.length === 2);
    settle(mesh.reactor);
    expect(asked.map(({ app }) => receiveNow(app))).toEqual([undefined, undefined]);
    for (const each of asked) each.stream.accept([]);
    for (const each of asked) expect(`${each.read(5)}`).toBe('later');
  });

  it.each([
    ['4 MiB', undefined],
    ['a window of 10 bytes', { serverHttp2: { initialWindowBytes: 10 } }],
  ])(
    'go through another tunnel where their peer refuses the CONNECT unprocessed, once and in order: %s',
    (_, options) => {
      const asked = makeSlow(options);
      const take = mesh.onRequest;
      mesh.onRequest = (joined) => {
        mesh.onRequest = take;
        joined.attach(false);
        joined.stream.abort('weather', ErrorCode.REFUSED_STREAM);
      };
      const joined = openEarly();
      joined.write('first words');
      mesh.until(() => asked.length === 1);
      expect(mesh.dials).toBe(2);
      joined.write(', then others');
      settle(mesh.reactor);
      asked[0]!.stream.accept([]);
      expect(`${asked[0]!.read(24)}`).toBe('first words, then others');
      expect(joined.stream.bytesToTunnel).toBe(24);
    },
  );

  it('are lost with a connection that is refused, whose application sees a reset', () => {
    const asked = makeSlow();
    const joined = openEarly();
    joined.write('first words');
    mesh.until(() => asked.length === 1);
    asked[0]!.stream.refuse(401, 'a policy');
    mesh.until(() => joined.closed !== false);
    expect(joined.closed).toBe('http status: 401');
    expect(joined.read()).toBe('reset');
    // The tunnel is as it was.
    const next = openEarly();
    next.write('next');
    mesh.until(() => asked.length === 2);
    expect(`${asked[1]!.read(4)}`).toBe('next');
  });
});

describe('TunnelPool: its own end', () => {
  it('drain() lets streams finish and takes no more', () => {
    make();
    const joined = open();
    mesh.until(answered([joined]));
    pool.drain();
    expect(open().closed).toBe('the pool is closed');
    joined.write('last words');
    expect(`${mesh.inbound[0]!.read()}`).toBe('last words');
    for (const each of [joined, mesh.inbound[0]!]) libc().shutdown(each.app, SHUT_WR);
    mesh.until(() => pool.tunnelCount === 0);
    expect(joined.closed).toBe(undefined);
  });

  it('close() cuts what flows and what waits', () => {
    make({ maxStreamsPerTunnel: 1 });
    const flowing = open();
    mesh.until(answered([flowing]));
    const waiting = openMany(2);
    pool.close();
    for (const each of [flowing, ...waiting]) expect(each.closed).toMatch(/drain/);
    expect(pool.tunnelCount).toBe(0);
    expect(mesh.dials).toBe(2);
  });
});
