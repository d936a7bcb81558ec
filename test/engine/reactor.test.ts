import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Deferred, type Pollable, Reactor, Timer } from '../../src/engine/index.ts';
import { EPOLLIN, EPOLLOUT, EPOLLRDHUP, F_DUPFD_CLOEXEC, libc } from '../../src/system/index.ts';
import { sendAll, tcpPair } from './sockets.ts';
import { openDescriptors, turnUntil } from './turning.ts';

let reactor: Reactor;
beforeEach(() => {
  reactor = new Reactor();
});
afterEach(() => reactor.close());

class Watched implements Pollable {
  readonly fd: number;
  readonly seen: number[] = [];
  readonly #then: () => void;

  constructor(fd: number, then: () => void = () => {}) {
    this.fd = fd;
    this.#then = then;
  }

  onEvents(events: number): void {
    this.seen.push(events);
    this.#then();
  }
}

class Later implements Deferred {
  deferred = false;
  readonly #work: () => void;

  constructor(work: () => void) {
    this.#work = work;
  }

  onDeferred(): void {
    this.#work();
  }
}

describe('Reactor: descriptors', () => {
  it('tells an owner what it asked for, until it is removed', () => {
    const [near, far] = tcpPair();
    const watched = new Watched(near);
    reactor.add(watched, EPOLLIN | EPOLLRDHUP);
    reactor.turn(0);
    expect(watched.seen).toEqual([]);
    sendAll(far, Buffer.from('x'));
    turnUntil(reactor, () => watched.seen.length > 0);
    expect(watched.seen).toEqual([EPOLLIN]);
    reactor.modify(watched, EPOLLOUT);
    reactor.turn(0);
    expect(watched.seen[1]).toBe(EPOLLOUT);
    reactor.remove(watched);
    reactor.turn(0);
    expect(watched.seen.length).toBe(2);
    for (const fd of [near, far]) libc().close(fd);
  });

  it('refuses a descriptor that epoll refuses, and keeps its owner', () => {
    const [near, far] = tcpPair();
    const first = new Watched(near);
    reactor.add(first, EPOLLIN);
    expect(() => reactor.add(new Watched(near), EPOLLIN)).toThrow(
      expect.objectContaining({ code: 'EEXIST', syscall: 'epoll_ctl' }),
    );
    sendAll(far, Buffer.from('x'));
    turnUntil(reactor, () => first.seen.length > 0);
    const gone = openDescriptors() + 1000;
    expect(() => reactor.add(new Watched(gone), EPOLLIN)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    reactor.remove(first);
    for (const fd of [near, far]) libc().close(fd);
  });

  it.each(['remove', 'forget'] as const)(
    'hands the events of a closed descriptor to nobody, nor to who has its number now (%s)',
    (how) => {
      const [nearA, farA] = tcpPair();
      const [nearB, farB] = tcpPair();
      const [nearC, farC] = tcpPair();
      const newcomer: Watched[] = [];
      // Whichever is told first closes the other, whose event waits in the same batch, and gives its number away.
      const closing = (other: () => Watched) => () => {
        if (newcomer.length > 0) return;
        const { fd } = other();
        reactor[how](other());
        libc().close(fd);
        const reused = libc().fcntl(nearC, F_DUPFD_CLOEXEC, fd);
        expect(reused).toBe(fd);
        newcomer.push(new Watched(reused));
        reactor.add(newcomer[0]!, EPOLLIN);
      };
      const a: Watched = new Watched(
        nearA,
        closing(() => b),
      );
      const b: Watched = new Watched(
        nearB,
        closing(() => a),
      );
      reactor.add(a, EPOLLIN);
      reactor.add(b, EPOLLIN);
      sendAll(farA, Buffer.from('x'));
      sendAll(farB, Buffer.from('x'));
      reactor.turn(100);
      expect(a.seen.length + b.seen.length).toBe(1);
      expect(newcomer[0]!.seen).toEqual([]);
      sendAll(farC, Buffer.from('x'));
      turnUntil(reactor, () => newcomer[0]!.seen.length > 0);
      expect(newcomer[0]!.seen).toEqual([EPOLLIN]);
      const survivor = a.seen.length > 0 ? a : b;
      reactor.remove(survivor);
      reactor.remove(newcomer[0]!);
      for (const fd of [survivor.fd, newcomer[0]!.fd, farA, farB, nearC, farC]) libc().close(fd);
    },
  );

  it('forgets only for the owner that asks', () => {
    const [near, far] = tcpPair();
    const owner = new Watched(near);
    reactor.add(owner, EPOLLIN);
    reactor.forget(new Watched(near));
    reactor.remove(new Watched(near));
    sendAll(far, Buffer.from('x'));
    turnUntil(reactor, () => owner.seen.length > 0);
    reactor.remove(owner);
    for (const fd of [near, far]) libc().close(fd);
  });
});

describe('Reactor: busyPollMs', () => {
  let polling: Reactor;
  beforeEach(() => {
    polling = new Reactor({ busyPollMs: 1 });
  });
  afterEach(() => polling.close());

  /** A descriptor that always has something, since nobody reads it. */
  function watchEver(of: Reactor, onEvents?: () => void): { watched: Watched; close: () => void } {
    const [near, far] = tcpPair();
    sendAll(far, Buffer.from('x'));
    const watched = new Watched(near, onEvents);
    of.add(watched, EPOLLIN);
    const close = () => {
      of.remove(watched);
      for (const fd of [near, far]) libc().close(fd);
    };
    return { watched, close };
  }

  it('looks before it sleeps where waits are short, and hands out what it finds', () => {
    const { watched, close } = watchEver(polling);
    for (let turns = 0; turns < 1000; turns++) polling.turn(1000);
    expect(watched.seen).toEqual(new Array(1000).fill(EPOLLIN));
    // Not all: a turn that another program interrupted was a long one.
    expect(polling.polls).toBeGreaterThan(100);
    close();
  });

  it('goes to sleep after a poll in vain, and wakes in time for a timer', () => {
    const { close } = watchEver(polling);
    for (let turns = 0; turns < 1000; turns++) polling.turn(1000);
    close();
    const { polls } = polling;
    let expired = false;
    const timer = new Timer({ onExpired: () => (expired = true) });
    polling.timers(30).arm(timer, polling.nowMs);
    const fromMs = performance.now();
    while (!expired) polling.turn(1000);
    expect(performance.now() - fromMs).toBeGreaterThan(25);
    expect(polling.polls - polls).toBeLessThanOrEqual(1);
  });

  it('sleeps between the turns in which a handler told of the reading of a stream', () => {
    const { watched, close } = watchEver(polling, () => polling.tellRead(16 << 10));
    for (let turns = 0; turns < 1000; turns++) polling.turn(1000);
    expect(watched.seen).toHaveLength(1000);
    expect(polling.polls).toBe(0);
    close();
  });

  it('counts what is read in a turn anew in each', () => {
    const { close } = watchEver(polling, () => polling.tellRead(1000));
    for (let turns = 0; turns < 1000; turns++) polling.turn(1000);
    expect(polling.polls).toBeGreaterThan(100);
    close();
  });

  it('never polls by default', () => {
    const { close } = watchEver(reactor);
    for (let turns = 0; turns < 1000; turns++) reactor.turn(1000);
    expect(reactor.polls).toBe(0);
    close();
  });
});

describe('Reactor: deferred work and timers', () => {
  it('runs deferred work after the events of the turn, in order, once however often asked', () => {
    const log: string[] = [];
    const [near, far] = tcpPair();
    const work = new Later(() => log.push('work'));
    const other = new Later(() => log.push('other'));
    const watched = new Watched(near, () => {
      log.push('event');
      for (let count = 0; count < 3; count++) reactor.defer(work);
      reactor.defer(other);
    });
    reactor.add(watched, EPOLLIN);
    sendAll(far, Buffer.from('x'));
    reactor.turn(100);
    expect(log).toEqual(['event', 'work', 'other']);
    reactor.remove(watched);
    for (const fd of [near, far]) libc().close(fd);
  });

  it('puts work that defers itself off to the next turn, and does not wait before it', () => {
    let left = 3;
    const work: Later = new Later(() => {
      if (--left > 0) reactor.defer(work);
    });
    reactor.defer(work);
    const startMs = performance.now();
    reactor.turn(10_000);
    expect(left).toBe(2);
    reactor.turn(10_000);
    reactor.turn(10_000);
    expect(left).toBe(0);
    expect(performance.now() - startMs).toBeLessThan(5000);
  });

  it('wakes for the nearest timer of any duration, never before its deadline', () => {
    const log: [string, number][] = [];
    const timer = (name: string) => new Timer({ onExpired: () => log.push([name, performance.now()]) });
    reactor.turn(0);
    const startMs = reactor.nowMs;
    reactor.timers(60).arm(timer('long'), startMs);
    reactor.timers(20).arm(timer('short'), startMs);
    expect(reactor.timers(20)).toBe(reactor.timers(20));
    turnUntil(reactor, () => log.length === 2);
    expect(log.map(([name]) => name)).toEqual(['short', 'long']);
    expect(log[0]![1]).toBeGreaterThanOrEqual(startMs + 20);
    expect(log[1]![1]).toBeGreaterThanOrEqual(startMs + 60);
  });

  it('stops after the turn that it is in', () => {
    const log: string[] = [];
    reactor.defer(new Later(() => reactor.stop()));
    reactor.defer(new Later(() => log.push('still this turn')));
    reactor.run();
    expect(log).toEqual(['still this turn']);
  });

  it('goes on after a signal has interrupted its wait (EINTR)', () => {
    // A signal with a handler, sent while epoll_wait blocks; in a process of its own, since Node holds signals of workers back.
    const program = `
      import { spawn } from 'node:child_process';
      import { Reactor, Timer } from '${join(import.meta.dirname, '../../src/engine/index.ts')}';
      process.on('SIGUSR2', () => {});
      const reactor = new Reactor();
      let fired = false;
      spawn('/bin/sh', ['-c', \`for i in 1 2 3 4 5; do kill -USR2 \${process.pid}; sleep 0.02; done\`]);
      reactor.turn(0);
      reactor.timers(300).arm(new Timer({ onExpired: () => { fired = true; } }), reactor.nowMs);
      let turns = 0;
      while (!fired) { reactor.turn(5000); turns++; }
      console.log(turns > 1 ? 'interrupted and went on' : 'was not interrupted');
      process.exit(0);
    `;
    const output = execFileSync(process.execPath, ['--input-type=module-typescript', '-e', program], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect(output.trim()).toBe('interrupted and went on');
  });

  it('holds one descriptor, and gives it back', () => {
    const before = openDescriptors();
    const another = new Reactor();
    expect(openDescriptors()).toBe(before + 1);
    another.close();
    another.close();
    expect(openDescriptors()).toBe(before);
  });
});

describe('Reactor: callbacks that throw', () => {
  const thrower = (what: string) => () => {
    throw new Error(what);
  };

  it('are told, once, and ended; events, deferred work and timers of everybody else go on in the same turn', () => {
    const seen: string[] = [];
    const reactor = new Reactor({ onUncaught: (error) => seen.push(`uncaught ${error}`) });
    const pairs = Array.from({ length: 3 }, () => tcpPair());
    const fds = pairs.flat();
    for (const [index, [peer, fd]] of pairs.entries()) {
      const bad = index === 1;
      const onEvents = () => {
        seen.push(`event ${index}`);
        reactor.remove(pollable);
        if (bad) throw new Error(`event ${index}`);
      };
      const pollable = { fd, onEvents, onThrown: (error: unknown) => seen.push(`ended by ${error}`) };
      reactor.add(pollable, EPOLLIN);
      sendAll(peer, Buffer.from('x'));
    }
    reactor.defer({ deferred: false, onDeferred: thrower('deferred 1') });
    reactor.defer({
      deferred: false,
      onDeferred: thrower('deferred 2'),
      onThrown: thrower('and again'),
    });
    reactor.defer({ deferred: false, onDeferred: () => seen.push('deferred 3') });
    const { nowMs } = reactor;
    reactor.timers(0).arm(new Timer({ onExpired: thrower('timer 1') }), nowMs - 1);
    reactor.timers(0).arm(new Timer({ onExpired: () => seen.push('timer 2') }), nowMs - 1);
    reactor.turn(0);
    expect(seen.slice(0, 5).sort()).toEqual([
      'ended by Error: event 1',
      'event 0',
      'event 1',
      'event 2',
      'uncaught Error: event 1',
    ]);
    expect(seen.slice(5)).toEqual([
      'uncaught Error: deferred 1',
      'uncaught Error: deferred 2',
      'uncaught Error: and again',
      'deferred 3',
      'uncaught Error: timer 1',
      'timer 2',
    ]);
    for (const fd of fds) libc().close(fd);
    reactor.close();
  });

  it('without a listener: the turn is done to its end, then throws the first; the next one is as any', () => {
    const seen: string[] = [];
    reactor.defer({ deferred: false, onDeferred: thrower('first') });
    reactor.defer({ deferred: false, onDeferred: thrower('second') });
    reactor.defer({ deferred: false, onDeferred: () => seen.push('third') });
    expect(() => reactor.turn(0)).toThrow('first');
    expect(seen).toEqual(['third']);
    reactor.defer({ deferred: false, onDeferred: () => seen.push('fourth') });
    reactor.turn(0);
    expect(seen).toEqual(['third', 'fourth']);
  });
});
