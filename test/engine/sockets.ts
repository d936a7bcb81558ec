import { openConnecting, openListener } from '../../src/socket/index.ts';
import {
  check,
  decodeSockaddr,
  EAGAIN,
  errno,
  libc,
  POLLIN,
  SO_LINGER,
  SO_RCVBUF,
  SO_SNDBUF,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCKADDR_BYTES,
  SOL_SOCKET,
} from '../../src/system/index.ts';

/** Two ends of one TCP connection over loopback, non-blocking. `smallBuffers` makes them full after some ten KiB. */
export function tcpPair(options: { smallBuffers?: boolean } = {}): [number, number] {
  const listener = openListener({ host: '127.0.0.1', port: 0 });
  const size = Int32Array.of(16_384);
  if (options.smallBuffers) libc().setsockopt(listener.fd, SOL_SOCKET, SO_RCVBUF, size, 4);
  if (options.smallBuffers) libc().setsockopt(listener.fd, SOL_SOCKET, SO_SNDBUF, size, 4);
  const one = openConnecting({ host: '127.0.0.1', port: localPort(listener.fd) }).release();
  if (options.smallBuffers) libc().setsockopt(one, SOL_SOCKET, SO_RCVBUF, size, 4);
  if (options.smallBuffers) libc().setsockopt(one, SOL_SOCKET, SO_SNDBUF, size, 4);
  pollReadable(listener.fd);
  const other = check(libc().accept4(listener.fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC), 'accept4');
  listener.close();
  return [one, other];
}

/** The port that a socket is bound to. */
export function localPort(fd: number): number {
  const address = Buffer.alloc(SOCKADDR_BYTES);
  check(libc().getsockname(fd, address, Int32Array.of(SOCKADDR_BYTES)), 'getsockname');
  return decodeSockaddr(address).port;
}

/** A connecting socket to a port of loopback where nobody listens (any more). */
export function refusedConnect(): number {
  const listener = openListener({ host: '127.0.0.1', port: 0 });
  const port = localPort(listener.fd);
  listener.close();
  return openConnecting({ host: '127.0.0.1', port }).release();
}

/** A connecting socket that stays so: the listener's backlog is full, so that its SYN is dropped. */
export function stuckConnect(): { fd: number; release: () => void } {
  const listener = openListener({ host: '127.0.0.1', port: 0, backlog: 1 });
  const port = localPort(listener.fd);
  const fds = Array.from({ length: 4 }, () => openConnecting({ host: '127.0.0.1', port }).release());
  const fd = fds.pop()!;
  return {
    fd,
    release() {
      for (const each of fds) libc().close(each);
      listener.close();
    },
  };
}

export function sendAll(fd: number, data: Buffer): void {
  check(libc().sendData(fd, data, data.length, 0), 'send');
}

/** What there is to read now: undefined for nothing, an empty buffer for the end, `reset` for a reset. */
export function receiveNow(fd: number, most = 1 << 20): Buffer | 'reset' | undefined {
  const buffer = Buffer.alloc(most);
  const count = libc().recvData(fd, buffer, most, 0);
  if (count >= 0) return buffer.subarray(0, count);
  return errno() === EAGAIN ? undefined : 'reset';
}

/** Closes with RST. */
export function resetSocket(fd: number): void {
  libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, Int32Array.of(1, 0), 8);
  libc().close(fd);
}

export function pollReadable(fd: number, timeoutMs = 2000): void {
  const poll = Buffer.alloc(8);
  poll.writeInt32LE(fd, 0);
  poll.writeInt16LE(POLLIN, 4);
  if (libc().poll(poll, 1, timeoutMs) !== 1) throw new Error(`nothing to read on ${fd}`);
}
