import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { localAddress, openConnecting, openListener } from '../../src/socket/index.ts';
import { openBound } from '../../src/socket/open-socket.ts';
import {
  F_GETFL,
  libc,
  O_NONBLOCK,
  SO_ERROR,
  SO_KEEPALIVE,
  SOL_SOCKET,
  SOL_TCP,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
} from '../../src/system/index.ts';
import { congestionControl } from '../support/congestion-control.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { loadRules } from './lab.ts';

const POLLOUT = 4;

function option(fd: number, level: number, name: number): number {
  const value = new Int32Array(1);
  if (libc().getsockopt(fd, level, name, value, new Int32Array([4])) !== 0) throw new Error('getsockopt');
  return value[0]!;
}

/** Waits up to a second for the connect to be over, and gives its SO_ERROR. */
function outcome(fd: number): number {
  const request = Buffer.alloc(8);
  request.writeInt32LE(fd, 0);
  request.writeInt16LE(POLLOUT, 4);
  if (libc().poll(request, 1, 1000) !== 1) throw new Error('still under way');
  return option(fd, SOL_SOCKET, SO_ERROR);
}

describe('openListener and openConnecting', () => {
  it('connect to each other without an event loop, non-blocking', () => {
    using listener = openListener({ host: '127.0.0.1', port: 0 });
    using client = openConnecting({ host: '127.0.0.1', port: localAddress(listener).port });
    expect(outcome(client.fd)).toBe(0);
    for (const { fd } of [listener, client]) expect(libc().fcntl(fd, F_GETFL, 0) & O_NONBLOCK).toBe(O_NONBLOCK);
    expect(client.subject).toBe(`127.0.0.1:${localAddress(listener).port}`);
    const accepted = libc().accept4(listener.fd, null, null, 0);
    expect(accepted).toBeGreaterThan(0);
    libc().close(accepted);
  });

  it('takes a v4-mapped host as the IPv4 host that it is', () => {
    using listener = openListener({ host: '::ffff:127.0.0.1', port: 0 });
    expect(localAddress(listener).ip).toBe('127.0.0.1');
  });

  it('sets the congestion control, which accepted sockets have from their listener as they have TCP_NODELAY', () => {
    using listener = openListener({ host: '127.0.0.1', port: 0, congestionControl: 'reno' });
    using client = openConnecting({ host: '127.0.0.1', port: localAddress(listener).port, congestionControl: 'cubic' });
    expect(outcome(client.fd)).toBe(0);
    const accepted = libc().accept4(listener.fd, null, null, 0);
    try {
      expect([congestionControl(accepted), congestionControl(client.fd)]).toEqual(['reno', 'cubic']);
      expect(option(accepted, SOL_TCP, TCP_NODELAY)).toBe(1);
    } finally {
      libc().close(accepted);
    }
  });

  it('names the congestion control that the kernel does not have, and the text that can be none', () => {
    const open = (congestionControl: string) => openListener({ host: '127.0.0.1', port: 0, congestionControl });
    expect(() => open('nosuch')).toThrow(/TCP_CONGESTION nosuch.*ENOENT|ENOENT.*TCP_CONGESTION nosuch/);
    for (const name of ['', 'Reno', 'a-name-of-more-than-15', 'reno\0']) {
      expect(() => open(name)).toThrow(
        expect.objectContaining({ code: 'ERR_SOCKET_INVALID', field: 'congestionControl' }),
      );
    }
  });

  it('listens on both families unless told not to', () => {
    using both = openListener({ host: '::', port: 0 });
    using v4 = openConnecting({ host: '127.0.0.1', port: localAddress(both).port });
    expect(outcome(v4.fd)).toBe(0);
    using only = openListener({ host: '::', port: 0, ipv6Only: true });
    // The same port on IPv4 is still free.
    openListener({ host: '0.0.0.0', port: localAddress(only).port }).close();
  });

  it('shares a port among listeners that all say so, and with no other', () => {
    using first = openListener({ host: '127.0.0.1', port: 0, reusePort: true });
    const { port } = localAddress(first);
    using _second = openListener({ host: '127.0.0.1', port, reusePort: true });
    expect(() => openListener({ host: '127.0.0.1', port })).toThrow(
      expect.objectContaining({ code: 'EADDRINUSE', op: 'socket.listen', errno: 98 }),
    );
  });

  it('sets NODELAY unless told not to, and keepalive only when told to, with the defaults of facts section 1.9', () => {
    using listener = openListener({ host: '127.0.0.1', port: 0 });
    const target = { host: '127.0.0.1', port: localAddress(listener).port };
    using plain = openConnecting(target);
    expect([option(plain.fd, SOL_TCP, TCP_NODELAY), option(plain.fd, SOL_SOCKET, SO_KEEPALIVE)]).toEqual([1, 0]);
    using other = openConnecting({ ...target, noDelay: false, keepAlive: true });
    expect([option(other.fd, SOL_TCP, TCP_NODELAY), option(other.fd, SOL_SOCKET, SO_KEEPALIVE)]).toEqual([0, 1]);
    const times = (fd: number) => [TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT].map((name) => option(fd, SOL_TCP, name));
    expect(times(other.fd)).toEqual([180, 180, 9]);
    using own = openConnecting({ ...target, keepAlive: { idleMs: 1500, intervalMs: 1, probes: 3 } });
    expect(times(own.fd)).toEqual([2, 1, 3]);
  });

  it('chooses the port of a source at bind time, or with bindAddressNoPort at connect time', () => {
    const options = { host: '127.0.0.1', port: 9, source: { ip: '127.0.0.9' } };
    using early = openBound(options);
    expect(localAddress(early)).toEqual({ ip: '127.0.0.9', port: expect.toSatisfy((port) => port > 0) });
    using late = openBound({ ...options, bindAddressNoPort: true });
    expect(localAddress(late)).toEqual({ ip: '127.0.0.9', port: 0 });
  });

  it('takes the port from localPortRange, and says so when it is used up', () => {
    using listener = openListener({ host: '127.0.0.1', port: 0 });
    const { port } = localAddress(listener);
    const options = {
      host: '127.0.0.1',
      port,
      source: { ip: '127.0.0.7' },
      localPortRange: [40_100, 40_101] as const,
    };
    using first = openConnecting(options);
    using second = openConnecting(options);
    expect([localAddress(first).port, localAddress(second).port].sort()).toEqual([40_100, 40_101]);
    expect(() => openConnecting(options)).toThrow(expect.objectContaining({ code: 'EADDRINUSE', syscall: 'bind' }));
  });

  it.each([
    ['host', { host: 'localhost', port: 80 }],
    ['host', { host: 80 as unknown as string, port: 80 }],
    ['port', { host: '127.0.0.1', port: -1 }],
    ['port', { host: '127.0.0.1', port: 65_536 }],
    ['port', { host: '127.0.0.1', port: 1.5 }],
    ['mark', { host: '127.0.0.1', port: 80, mark: -1 }],
    ['mark', { host: '127.0.0.1', port: 80, mark: 2 ** 32 }],
  ])('names the field at fault, and opens nothing: %s of %j', (field, options) => {
    const fault = expect.objectContaining({ field, name: expect.stringMatching(/^Invalid/) });
    const before = readdirSync('/proc/self/fd').length;
    expect(() => openListener(options)).toThrow(fault);
    expect(() => openConnecting(options)).toThrow(fault);
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  it.each([
    ['port', { port: 0 }],
    ['source.ip', { source: { ip: '::1' } }],
    ['source.ip', { source: { ip: 'here' } }],
    ['source.port', { source: { ip: '127.0.0.1', port: 99_999 } }],
    ['localPortRange[1]', { localPortRange: [2000, 1000] as const }],
    ['keepAlive.probes', { keepAlive: { probes: 0 } }],
    ['keepAlive.idleMs', { keepAlive: { idleMs: 40_000_000 } }],
  ])('names the field of a connect at fault: %s', (field, options) => {
    expect(() => openConnecting({ host: '127.0.0.1', port: 80, ...options })).toThrow(
      expect.objectContaining({ field }),
    );
  });

  it('names the backlog at fault', () => {
    expect(() => openListener({ host: '::1', port: 0, backlog: 0 })).toThrow(
      expect.objectContaining({ code: 'ERR_SOCKET_INVALID', field: 'backlog' }),
    );
  });

  it('closes the descriptor where the kernel refuses', () => {
    using listener = openListener({ host: '127.0.0.1', port: 0 });
    const { port } = localAddress(listener);
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 20; i++) {
      expect(() => openListener({ host: '127.0.0.1', port })).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }));
      expect(() => openConnecting({ host: '127.0.0.1', port, source: { ip: '192.0.2.1' } })).toThrow(
        expect.objectContaining({ code: 'EADDRNOTAVAIL', syscall: 'bind' }),
      );
    }
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });
});

describeRequiring('sockets in a namespace', { root: true, tools: ['ip', 'nft', 'ss'] }, () => {
  it('live there, also when the namespace object is closed', () =>
    withNamespaces(['a'], (a) => {
      runIn(a, 'ip', 'link', 'set', 'lo', 'up');
      using listener = openListener({ namespace: a, host: '127.0.0.1', port: 15_001, backlog: 7 });
      expect(runIn(a, 'ss', '-ltnH')).toMatch(/LISTEN +0 +7 +127\.0\.0\.1:15001/);
      using client = openConnecting({ namespace: a, host: '127.0.0.1', port: 15_001 });
      a.close();
      expect(outcome(client.fd)).toBe(0);
      expect(localAddress(listener).port).toBe(15_001);
      using outside = openConnecting({ host: '127.0.0.1', port: 15_001 });
      expect(outcome(outside.fd)).toBe(111);
    }));

  it.each([0x539, 0xffffffff])('carry their mark: %s', (mark) =>
    withNamespaces(['a'], (a) => {
      runIn(a, 'ip', 'link', 'set', 'lo', 'up');
      const rule = `meta mark ${mark} counter name marked`;
      loadRules(a, `table inet t { counter marked {}; chain out { type filter hook output priority 0; ${rule}; }; }`);
      const packets = () => JSON.parse(runIn(a, 'nft', '-j', 'list', 'counters')).nftables[1].counter.packets as number;
      using listener = openListener({ namespace: a, host: '127.0.0.1', port: 15_001 });
      using unmarked = openConnecting({ namespace: a, host: '127.0.0.1', port: 15_001 });
      expect(outcome(unmarked.fd)).toBe(0);
      expect(packets()).toBe(0);
      using marked = openConnecting({ namespace: a, host: '127.0.0.1', port: 15_001, mark });
      expect(outcome(marked.fd)).toBe(0);
      expect(packets()).toBeGreaterThan(0);
      expect(listener.closed).toBe(false);
    }),
  );

  it('bind to an address that does not exist yet, with freebind', () =>
    withNamespaces(['a'], (a) => {
      // Without any address at all, Linux lets everything be bound.
      runIn(a, 'ip', 'link', 'set', 'lo', 'up');
      for (const host of ['192.0.2.1', '2001:db8::1']) {
        expect(() => openListener({ namespace: a, host, port: 80 })).toThrow(
          expect.objectContaining({ code: 'EADDRNOTAVAIL' }),
        );
        using listener = openListener({ namespace: a, host, port: 80, freebind: true });
        expect(localAddress(listener)).toEqual({ ip: host, port: 80 });
      }
    }));
});
