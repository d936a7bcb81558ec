import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EngineMemory, type LegOwner, Reactor, TcpLeg } from '../../src/engine/index.ts';
import { LEG_AGAIN, LEG_FAILED } from '../../src/engine/tcp-leg.ts';
import { openConnecting, openListener } from '../../src/socket/index.ts';
import {
  EAGAIN,
  ECONNREFUSED,
  ECONNRESET,
  EPOLLERR,
  EPOLLIN,
  F_DUPFD_CLOEXEC,
  libc,
  MSG_NOSIGNAL,
  SHUT_WR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
} from '../../src/system/index.ts';
import {
  localPort,
  pollReadable,
  receiveNow,
  refusedConnect,
  resetSocket,
  sendAll,
  stuckConnect,
  tcpPair,
} from './sockets.ts';
import { openDescriptors, settle, turnUntil } from './turning.ts';

let reactor: Reactor;
let descriptors: number;
const memory = new EngineMemory();
beforeEach(() => {
  descriptors = openDescriptors();
  reactor = new Reactor();
});
afterEach(() => {
  reactor.close();
  expect(openDescriptors()).toBe(descriptors);
});

/** Writes down what it is told; reads at once, as owners do. */
class Owner implements LegOwner {
  readonly events: string[] = [];
  readonly received: Buffer[] = [];
  reads = true;
  react: (leg: TcpLeg, event: string) => void = () => {};

  onLegConnected(leg: TcpLeg): void {
    this.#tell(leg, 'connected');
  }
  onLegReadable(leg: TcpLeg): void {
    this.#tell(leg, 'readable');
    while (this.reads && leg.readable) {
      const count = leg.read(memory.receive.address, 65_536);
      if (count < 0) return;
      if (count === 0) return this.#tell(leg, 'end');
      this.received.push(Buffer.from(memory.receive.buffer.subarray(0, count)));
    }
  }
  onLegDrained(leg: TcpLeg, sentBytes: number): void {
    expect(sentBytes).toBeGreaterThan(0);
    this.#tell(leg, 'drained');
  }
  onLegWritable(leg: TcpLeg): void {
    this.#tell(leg, 'writable');
  }
  onLegFailed(leg: TcpLeg, reason: number): void {
    this.#tell(leg, `failed ${reason}`);
  }

  #tell(leg: TcpLeg, event: string): void {
    this.events.push(event);
    this.react(leg, event);
  }

  get text(): string {
    return Buffer.concat(this.received).toString('latin1');
  }
}

function write(leg: TcpLeg, data: Buffer | string): number {
  const bytes = Buffer.from(data);
  bytes.copy(memory.send.buffer, 9);
  return leg.write(memory.send.buffer, memory.send.address, 9, 9 + bytes.length);
}

/** As splice(2) would, until the socket is full. */
function fillPast(leg: TcpLeg): void {
  while (libc().send(leg.fd, memory.send.address, 65_536, MSG_NOSIGNAL) > 0);
  expect(leg.writeFailed(EAGAIN)).toBe(false);
}

function connected(options: { smallBuffers?: boolean } = {}) {
  const [near, far] = tcpPair(options);
  const owner = new Owner();
  const leg = new TcpLeg(reactor, memory, near, owner, false);
  return { leg, owner, far };
}

describe('TcpLeg', () => {
  it('reads what comes, then the end, and sends on after it', () => {
    const { leg, owner, far } = connected();
    sendAll(far, Buffer.from('hello'));
    turnUntil(reactor, () => owner.text === 'hello');
    expect(leg.readable).toBe(false);
    sendAll(far, Buffer.from(' and bye'));
    libc().shutdown(far, SHUT_WR);
    turnUntil(reactor, () => owner.events.includes('end'));
    expect(owner.text).toBe('hello and bye');
    expect(write(leg, 'the answer')).toBe(10);
    leg.finish();
    pollReadable(far);
    expect(`${receiveNow(far)}`).toBe('the answer');
    pollReadable(far);
    expect(receiveNow(far)).toEqual(Buffer.alloc(0));
    leg.close();
    libc().close(far);
  });

  it('finds the end that came together with the last bytes, which no further event announces', () => {
    const { leg, owner, far } = connected();
    sendAll(far, Buffer.from('all at once'));
    libc().shutdown(far, SHUT_WR);
    settle(reactor);
    expect(owner.text).toBe('all at once');
    expect(owner.events.at(-1)).toBe('end');
    leg.close();
    libc().close(far);
  });

  it('keeps what the socket does not take, sends it in order, and FIN after it', () => {
    const { leg, owner, far } = connected({ smallBuffers: true });
    const data = randomBytes(1 << 20);
    let sent = 0;
    for (let at = 0; at < data.length; at += 65_536) sent += write(leg, data.subarray(at, at + 65_536));
    expect(sent + leg.pendingBytes).toBe(data.length);
    expect(leg.pendingBytes).toBeGreaterThan(0);
    leg.finish();
    const received: Buffer[] = [];
    turnUntil(reactor, () => {
      const got = receiveNow(far);
      if (Buffer.isBuffer(got) && got.length > 0) received.push(got);
      return Buffer.isBuffer(got) && got.length === 0;
    });
    expect(Buffer.concat(received).equals(data)).toBe(true);
    expect(leg.pendingBytes).toBe(0);
    expect(owner.events).toContain('drained');
    leg.close();
    libc().close(far);
  });

  it('tells an owner that writes past it when a full socket takes bytes again, and not before it was full', () => {
    const { leg, owner, far } = connected({ smallBuffers: true });
    settle(reactor);
    fillPast(leg);
    settle(reactor);
    expect(owner.events).toEqual([]);
    turnUntil(reactor, () => {
      receiveNow(far);
      return owner.events.includes('writable');
    });
    leg.close();
    libc().close(far);
  });

  it('tells of a reset at once, also an owner that does not read, and closes', () => {
    const { leg, owner, far } = connected();
    owner.reads = false;
    sendAll(far, Buffer.from('unread'));
    resetSocket(far);
    turnUntil(reactor, () => !leg.open);
    expect(owner.events.at(-1)).toBe(`failed ${ECONNRESET}`);
    expect(leg.readable).toBe(false);
  });

  it('aborts with RST and closes with FIN', () => {
    const cut = connected();
    cut.leg.abort();
    cut.leg.abort();
    pollReadable(cut.far);
    expect(receiveNow(cut.far)).toBe('reset');
    const closed = connected();
    closed.leg.close();
    closed.leg.abort();
    pollReadable(closed.far);
    expect(receiveNow(closed.far)).toEqual(Buffer.alloc(0));
    for (const { far } of [cut, closed]) libc().close(far);
  });

  it('ignores what is asked of it once it is closed, and leaves alone who has its number now', () => {
    const { leg, owner, far } = connected();
    const [stranger, correspondent] = tcpPair();
    leg.close();
    const reused = libc().fcntl(stranger, F_DUPFD_CLOEXEC, leg.fd);
    expect(reused).toBe(leg.fd);
    sendAll(correspondent, Buffer.from('not for you'));
    pollReadable(stranger);
    leg.finish();
    leg.onEvents(EPOLLIN | EPOLLERR);
    expect(leg.readable).toBe(false);
    expect(leg.read(memory.receive.address, 16)).toBe(LEG_FAILED);
    expect(write(leg, 'x')).toBe(-1);
    expect(owner.events).toEqual([]);
    expect(`${receiveNow(stranger)}`).toBe('not for you');
    expect(receiveNow(correspondent)).toBeUndefined();
    for (const fd of [far, stranger, correspondent, reused]) libc().close(fd);
  });
});

describe('TcpLeg, connecting', () => {
  function connecting() {
    const listener = openListener({ host: '127.0.0.1', port: 0 });
    const fd = openConnecting({ host: '127.0.0.1', port: localPort(listener.fd) }).release();
    const owner = new Owner();
    const leg = new TcpLeg(reactor, memory, fd, owner, true);
    const accept = () => {
      pollReadable(listener.fd);
      const far = libc().accept4(listener.fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
      listener.close();
      return far;
    };
    return { leg, owner, accept };
  }

  it('says that it stands, before anything else, and then sends what was written before', () => {
    const { leg, owner, accept } = connecting();
    expect([leg.connecting, leg.readable]).toEqual([true, false]);
    expect(write(leg, 'early')).toBe(0);
    expect(leg.pendingBytes).toBe(5);
    const far = accept();
    turnUntil(reactor, () => leg.pendingBytes === 0);
    expect(owner.events.slice(0, 2)).toEqual(['connected', 'drained']);
    pollReadable(far);
    expect(`${receiveNow(far)}`).toBe('early');
    leg.close();
    libc().close(far);
  });

  it.each([
    ['with nothing else to send', ''],
    ['behind what is pending', 'last words'],
  ])('sends FIN that was asked for before the connection stood, %s', (_how, words) => {
    const { leg, accept } = connecting();
    if (words !== '') write(leg, words);
    leg.finish();
    const far = accept();
    turnUntil(reactor, () => !leg.connecting);
    settle(reactor);
    pollReadable(far);
    if (words !== '') expect(`${receiveNow(far)}`).toBe(words);
    expect(receiveNow(far)).toEqual(Buffer.alloc(0));
    leg.close();
    libc().close(far);
  });

  it('fails once when the target refuses', () => {
    const owner = new Owner();
    const leg = new TcpLeg(reactor, memory, refusedConnect(), owner, true);
    let connectingThen: boolean | undefined;
    owner.react = () => {
      connectingThen = leg.connecting;
    };
    turnUntil(reactor, () => !leg.open);
    expect(owner.events).toEqual([`failed ${ECONNREFUSED}`]);
    expect(connectingThen).toBe(true);
  });

  it('waits for a target that does not answer, and closes quietly', () => {
    const { fd, release } = stuckConnect();
    const owner = new Owner();
    const leg = new TcpLeg(reactor, memory, fd, owner, true);
    settle(reactor);
    expect([leg.connecting, owner.events]).toEqual([true, []]);
    leg.abort();
    release();
  });

  it('closes its descriptor where it cannot be watched', () => {
    const [near, far] = tcpPair();
    reactor.close();
    expect(() => new TcpLeg(reactor, memory, near, new Owner(), false)).toThrow(
      expect.objectContaining({ code: 'ERR_SYSTEM_CLOSED' }),
    );
    expect(libc().close(near)).toBe(-1);
    libc().close(far);
  });
});

describe('TcpLeg, closed by the one it is telling something', () => {
  it.each(['readable', 'writable', 'drained', `failed ${ECONNRESET}`])('in the middle of: %s', (moment) => {
    const { leg, owner, far } = connected({ smallBuffers: true });
    let taken = -1;
    owner.react = (_leg, event) => {
      if (event !== moment || taken >= 0) return;
      leg.abort();
      // The number goes to somebody else right here; everything that still happens must leave it alone.
      taken = libc().eventfd(0, 0);
    };
    if (moment === 'readable') sendAll(far, Buffer.from('x'));
    if (moment === 'drained') {
      while (leg.pendingBytes === 0) write(leg, Buffer.alloc(65_536));
      settle(reactor, 5);
    }
    if (moment === 'writable') fillPast(leg);
    if (moment.startsWith('failed')) resetSocket(far);
    turnUntil(reactor, () => {
      if (moment === 'drained' || moment === 'writable') receiveNow(far);
      return taken >= 0;
    });
    settle(reactor, 5);
    expect(leg.open).toBe(false);
    expect(owner.events.filter((event) => event === moment).length).toBe(1);
    expect(owner.events.at(-1)).toBe(moment);
    expect(libc().close(taken)).toBe(0);
    if (!moment.startsWith('failed')) libc().close(far);
  });

  it('in the middle of a write that fails', () => {
    const { leg, owner, far } = connected();
    resetSocket(far);
    owner.react = (_leg, event) => {
      if (event.startsWith('failed')) leg.abort();
    };
    expect(write(leg, 'x')).toBe(-1);
    expect(owner.events.length).toBe(1);
    expect(leg.open).toBe(false);
  });

  it('in the middle of a read that fails', () => {
    const { leg, owner, far } = connected();
    resetSocket(far);
    owner.react = () => leg.close();
    expect(leg.read(memory.receive.address, 16)).toBe(LEG_FAILED);
    expect(owner.events).toEqual([`failed ${ECONNRESET}`]);
    expect(LEG_AGAIN).not.toBe(LEG_FAILED);
  });
});
