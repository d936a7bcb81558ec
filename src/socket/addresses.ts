import type { Socket } from 'node:net';
import type { SocketAddress } from '../ip/index.ts';
import {
  AF_INET,
  check,
  decodeSockaddr,
  ENOENT,
  errno,
  type FileDescriptor,
  IP6T_SO_ORIGINAL_DST,
  isV4Mapped,
  libc,
  SO_ORIGINAL_DST,
  SOCKADDR_BYTES,
  SOL_IP,
  SOL_IPV6,
  SystemError,
} from '../system/index.ts';
import { SocketError } from './socket-error.ts';

/** `<errno.h>`: no such option at this level, which is how a kernel without connection tracking answers. */
const ENOPROTOOPT = 92;

/** Whatever carries a socket: the number, its owner, or Node's object over it. */
export type SocketLike = number | FileDescriptor | Socket;

// Everything here is synchronous, so one place for the kernel to write to is enough for a thread.
const sockaddr = Buffer.alloc(SOCKADDR_BYTES);
const sockaddrLength = new Int32Array(1);

/**
 * Where the client of an accepted connection meant to go: what REDIRECT or DNAT of this machine has rewritten (read from connection
 * tracking), else the local address, which is what TPROXY leaves untouched. IPv4 and IPv6; an IPv4 client of a dual-stack listener
 * comes out as IPv4.
 *
 * Ask before the peer is gone: a closed connection may have lost its entry, and the local address would be the proxy's own.
 *
 * @throws {SystemError} `EBADF`, `ENOTSOCK`; {@link SocketError} `ERR_SOCKET_CLOSED` for a `net.Socket` without a descriptor
 */
export function originalDestination(socket: SocketLike): SocketAddress {
  const fd = descriptorOf(socket);
  readLocalAddress(fd);
  // The family of the address, not of the socket, decides who tracked it: v4-mapped connections are IPv4's.
  const level = sockaddr.readUInt16LE(0) === AF_INET || isV4Mapped(sockaddr) ? SOL_IP : SOL_IPV6;
  sockaddrLength[0] = SOCKADDR_BYTES;
  const option = level === SOL_IP ? SO_ORIGINAL_DST : IP6T_SO_ORIGINAL_DST;
  if (libc().getsockopt(fd, level, option, sockaddr, sockaddrLength) === 0) return decodeSockaddr(sockaddr);
  const reason = errno();
  // ENOENT: not tracked, so nothing was rewritten.
  if (reason === ENOENT || reason === ENOPROTOOPT) return localAddress(fd);
  throw new SystemError({
    syscall: 'getsockopt',
    errno: reason,
    subject: level === SOL_IP ? 'SO_ORIGINAL_DST' : 'IP6T_SO_ORIGINAL_DST',
    op: 'socket.originalDestination',
  });
}

/** This end of the connection, or what a listener is bound to; v4-mapped comes out as IPv4. Throws as {@link originalDestination}. */
export function localAddress(socket: SocketLike): SocketAddress {
  readLocalAddress(descriptorOf(socket));
  return decodeSockaddr(sockaddr);
}

function readLocalAddress(fd: number): void {
  sockaddrLength[0] = SOCKADDR_BYTES;
  const outcome = libc().getsockname(fd, sockaddr, sockaddrLength);
  if (outcome !== 0) check(outcome, 'getsockname', `fd ${fd}`, 'socket.localAddress');
}

/** The other end. Throws as {@link originalDestination}, and `ENOTCONN` where there is none. */
export function peerAddress(socket: SocketLike): SocketAddress {
  const fd = descriptorOf(socket);
  sockaddrLength[0] = SOCKADDR_BYTES;
  check(libc().getpeername(fd, sockaddr, sockaddrLength), 'getpeername', `fd ${fd}`, 'socket.peerAddress');
  return decodeSockaddr(sockaddr);
}

function descriptorOf(socket: SocketLike): number {
  if (typeof socket === 'number') return socket;
  if ('fd' in socket) return socket.fd;
  // Node has no public way to the descriptor; the handle's `fd` has been there, unchanged, since 0.12.
  const fd = (socket as unknown as { _handle?: { fd?: number } | null })._handle?.fd;
  if (fd !== undefined && fd >= 0) return fd;
  throw new SocketError({
    code: 'ERR_SOCKET_CLOSED',
    op: 'socket.descriptor',
    message: 'the socket is closed, or not one of the kernel',
  });
}
