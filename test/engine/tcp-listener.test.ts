import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Reactor, TcpListener } from '../../src/engine/index.ts';
import { openConnecting, openListener } from '../../src/socket/index.ts';
import { EPOLLIN, F_GETFL, libc, O_NONBLOCK } from '../../src/system/index.ts';
import { withoutDescriptors } from './descriptor-limit.ts';
import { localPort, receiveNow } from './sockets.ts';
import { openDescriptors, settle, turnUntil } from './turning.ts';

let reactor: Reactor;
beforeEach(() => {
  reactor = new Reactor();
});
afterEach(() => reactor.close());

const listening = () => openListener({ host: '127.0.0.1', port: 0, backlog: 512 }).release();
const dial = (port: number) => openConnecting({ host: '127.0.0.1', port }).release();

function closeAndReuse(fd: number): void {
  libc().close(fd);
  expect(libc().eventfd(0, 0)).toBe(fd);
}

describe('TcpListener', () => {
  it('hands over non-blocking descriptors with the address they come from', () => {
    const fd = listening();
    const accepted: { fd: number; port: number }[] = [];
    const listener = new TcpListener(reactor, fd, {
      onConnection: (fd, source) => {
        expect(source.ip).toBe('127.0.0.1');
        accepted.push({ fd, port: source.port });
      },
    });
    const clients = Array.from({ length: 200 }, () => dial(localPort(fd)));
    turnUntil(reactor, () => accepted.length === 200);
    expect(new Set(accepted.map(({ port }) => port))).toEqual(new Set(clients.map(localPort)));
    expect(libc().fcntl(accepted[0]!.fd, F_GETFL, 0) & O_NONBLOCK).toBe(O_NONBLOCK);
    listener.close();
    for (const each of [...clients, ...accepted.map(({ fd }) => fd)]) libc().close(each);
  });

  it('rests when descriptors have run out (EMFILE), and accepts what waited when there are some again', () => {
    const fd = listening();
    const accepted: number[] = [];
    const listener = new TcpListener(reactor, fd, { onConnection: (fd) => accepted.push(fd) });
    const client = dial(localPort(fd));
    settle(reactor, 0);
    let turns = 0;
    withoutDescriptors(() => {
      // A listener that did not rest would be announced in each of these at once.
      const endMs = performance.now() + 60;
      while (performance.now() < endMs) {
        reactor.turn(60);
        turns++;
      }
    });
    expect(accepted).toEqual([]);
    expect(turns).toBeLessThan(10);
    turnUntil(reactor, () => accepted.length === 1);
    listener.close();
    for (const each of [client, ...accepted]) libc().close(each);
  });

  it('may be closed by its acceptor, in the middle of a burst and while it rests', () => {
    const before = openDescriptors();
    const fd = listening();
    const accepted: number[] = [];
    const listener: TcpListener = new TcpListener(reactor, fd, {
      onConnection: (fd) => {
        accepted.push(fd);
        if (accepted.length === 2) listener.close();
      },
    });
    const clients = Array.from({ length: 5 }, () => dial(localPort(fd)));
    settle(reactor);
    expect(accepted.length).toBe(2);
    listener.close();
    for (const each of [...clients, ...accepted]) libc().close(each);

    const resting = new TcpListener(reactor, listening(), { onConnection: () => {} });
    const client = dial(localPort(resting.fd));
    withoutDescriptors(() => reactor.turn(20));
    resting.close();
    settle(reactor, 150);
    libc().close(client);
    expect(openDescriptors()).toBe(before);
  });

  it.each<[what: string, acceptor: (fd: number) => void, seen: string]>([
    ['has done nothing with it: reset', () => {}, 'reset'],
    ['has closed it: left alone, and who has its number now too', closeAndReuse, 'end'],
    [
      'has given it to somebody who is watched: theirs',
      (fd) => reactor.add({ fd, onEvents: () => {} }, EPOLLIN),
      'nothing',
    ],
  ])('an acceptor that throws when it %s; the next connection is accepted', (_what, acceptor, seen) => {
    const fd = listening();
    const accepted: number[] = [];
    const listener = new TcpListener(reactor, fd, {
      onConnection: (fd) => {
        accepted.push(fd);
        if (accepted.length > 1) return;
        acceptor(fd);
        throw new Error('weather');
      },
    });
    const clients = [dial(localPort(fd)), dial(localPort(fd))];
    expect(() => turnUntil(reactor, () => false)).toThrow('weather');
    turnUntil(reactor, () => accepted.length === 2);
    settle(reactor, 10);
    const got = receiveNow(clients[0]!);
    expect(Buffer.isBuffer(got) ? 'end' : (got ?? 'nothing')).toBe(seen);
    if (seen === 'end') expect(libc().fcntl(accepted[0]!, F_GETFL, 0)).toBeGreaterThanOrEqual(0);
    listener.close();
    for (const each of [...clients, ...accepted]) libc().close(each);
  });

  it('refuses connections once closed', async () => {
    const fd = listening();
    const port = localPort(fd);
    new TcpListener(reactor, fd, { onConnection: () => {} }).close();
    const socket = connect(port, '127.0.0.1');
    await expect(new Promise((_, reject) => socket.on('error', reject))).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
  });
});
