import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EngineMemory, PipePool, Reactor, TcpRelay } from '../../src/engine/index.ts';
import { libc } from '../../src/system/index.ts';
import { pollReadable, receiveNow, refusedConnect, resetSocket, sendAll, stuckConnect, tcpPair } from './sockets.ts';
import { openDescriptors, settle, turnUntil } from './turning.ts';

const memory = new EngineMemory();
let reactor: Reactor;
let pipes: PipePool;
let descriptors: number;
let closed: (string | undefined)[];
beforeEach(() => {
  descriptors = openDescriptors();
  reactor = new Reactor();
  pipes = new PipePool();
  closed = [];
});
afterEach(() => {
  pipes.close();
  reactor.close();
  expect(openDescriptors()).toBe(descriptors);
});

function relay(downstreamFd: number, upstreamFd: number, connectMs?: number): TcpRelay {
  const observer = { onRelayClosed: (_relay: TcpRelay, failure: string | undefined) => closed.push(failure) };
  return new TcpRelay({
    reactor,
    memory,
    pipes,
    downstreamFd,
    upstreamFd,
    observer,
    ...(connectMs === undefined ? {} : { connectMs }),
  });
}

// Content, half-close, resets and back-pressure of relays: see tunnel-stream.test.ts, which holds both to the same promises.
describe('TcpRelay', () => {
  it('gives the client a reset when the target does not answer in time, and says why once', () => {
    const [client, downstream] = tcpPair();
    const { fd, release } = stuckConnect();
    relay(downstream, fd, 60);
    settle(reactor, 20);
    expect(closed).toEqual([]);
    turnUntil(reactor, () => closed.length > 0);
    expect(closed).toEqual(['connect: connection timed out']);
    pollReadable(client);
    expect(receiveNow(client)).toBe('reset');
    libc().close(client);
    release();
  });

  it('gives the client a reset when the target refuses', () => {
    const [client, downstream] = tcpPair();
    relay(downstream, refusedConnect());
    turnUntil(reactor, () => closed.length > 0);
    expect(closed).toEqual(['connect: ECONNREFUSED']);
    pollReadable(client);
    expect(receiveNow(client)).toBe('reset');
    libc().close(client);
  });

  it('gives the target up when the client goes away while it is dialled', () => {
    const [client, downstream] = tcpPair();
    const { fd, release } = stuckConnect();
    relay(downstream, fd);
    resetSocket(client);
    turnUntil(reactor, () => closed.length > 0);
    expect(closed).toEqual(['io: ECONNRESET']);
    release();
  });

  it('holds what the client says first until the target stands', () => {
    const [client, downstream] = tcpPair();
    const [upstream, target] = tcpPair();
    sendAll(client, Buffer.from('first words'));
    const joined = relay(downstream, upstream);
    turnUntil(reactor, () => joined.bytesUp === 11);
    pollReadable(target);
    expect(`${receiveNow(target)}`).toBe('first words');
    joined.abort('enough');
    joined.abort('twice');
    expect(closed).toEqual(['enough']);
    for (const fd of [client, target]) libc().close(fd);
  });

  it('takes both descriptors over also where it cannot be made', () => {
    const [client, downstream] = tcpPair();
    const [upstream, target] = tcpPair();
    reactor.close();
    expect(() => relay(downstream, upstream)).toThrow(expect.objectContaining({ code: 'ERR_SYSTEM_CLOSED' }));
    for (const fd of [downstream, upstream]) expect(libc().close(fd)).toBe(-1);
    for (const fd of [client, target]) libc().close(fd);
  });
});
