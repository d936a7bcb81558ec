import { formatSocketAddress } from '../ip/index.ts';
import {
  AF_INET,
  AF_INET6,
  check,
  EINPROGRESS,
  encodeSockaddr,
  errno,
  FileDescriptor,
  IP_BIND_ADDRESS_NO_PORT,
  IP_FREEBIND,
  IP_LOCAL_PORT_RANGE,
  IP_TRANSPARENT,
  IPV6_FREEBIND,
  IPV6_TRANSPARENT,
  IPV6_V6ONLY,
  libc,
  SO_KEEPALIVE,
  SO_MARK,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SOL_TCP,
  SystemError,
  TCP_CONGESTION,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
  tcpClosed,
} from '../system/index.ts';
import type { ConnectingOptions, ListenerOptions, SocketOptions } from './options.ts';
import { type CheckedSocket, checkConnecting, checkListener } from './validate.ts';

/**
 * A TCP socket that listens, non-blocking and close-on-exec, with SO_REUSEADDR. Synchronous.
 *
 * @returns owned by the caller
 * @throws {InvalidInputError} `ERR_SOCKET_INVALID` or `ERR_IP_ADDRESS` with `field`; nothing was made
 * @throws {SystemError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EPERM` (transparent or mark without CAP_NET_ADMIN), …
 */
export function openListener(options: ListenerOptions): FileDescriptor {
  const checked = checkListener(options);
  return openIn(options, checked, 'socket.listen', (fd, family, subject) => {
    setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, 'SO_REUSEADDR', 'socket.listen');
    if (options.reusePort) setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1, 'SO_REUSEPORT', 'socket.listen');
    if (family === AF_INET6) {
      setOption(fd, SOL_IPV6, IPV6_V6ONLY, options.ipv6Only ? 1 : 0, 'IPV6_V6ONLY', 'socket.listen');
    }
    bindTo(fd, checked.host, checked.port, subject, 'socket.listen');
    check(libc().listen(fd, checked.backlog), 'listen', subject, 'socket.listen');
  });
}

/**
 * A TCP socket that connects: non-blocking and close-on-exec, `connect(2)` called, usually still under way. It is writable (epoll,
 * poll) once that is over, and SO_ERROR then says how it went. Synchronous.
 *
 * @returns owned by the caller
 * @throws as {@link openListener}; `ENETUNREACH` and the like where the kernel knows at once
 */
export function openConnecting(options: ConnectingOptions): FileDescriptor {
  const descriptor = openBound(options);
  const target = encodeSockaddr({ ip: options.host, port: options.port });
  if (libc().connect(descriptor.fd, target, target.length) === 0) return descriptor;
  const reason = errno();
  // Under way although errno says something else: see tcpClosed.
  if (reason === EINPROGRESS || !tcpClosed(descriptor.fd)) return descriptor;
  descriptor.close();
  throw new SystemError({ syscall: 'connect', errno: reason, subject: descriptor.subject, op: 'socket.connect' });
}

/** {@link openConnecting} up to the point where only `connect(2)` is missing. */
export function openBound(options: ConnectingOptions): FileDescriptor {
  const checked = checkConnecting(options);
  const { source, localPortRange, keepAlive } = checked;
  return openIn(options, checked, 'socket.connect', (fd) => {
    const set = (level: number, option: number, value: number, name: string) =>
      setOption(fd, level, option, value, name, 'socket.connect');
    if (keepAlive !== undefined) {
      set(SOL_SOCKET, SO_KEEPALIVE, 1, 'SO_KEEPALIVE');
      set(SOL_TCP, TCP_KEEPIDLE, keepAlive.idle, 'TCP_KEEPIDLE');
      set(SOL_TCP, TCP_KEEPINTVL, keepAlive.interval, 'TCP_KEEPINTVL');
      set(SOL_TCP, TCP_KEEPCNT, keepAlive.probes, 'TCP_KEEPCNT');
    }
    // IPv6 sockets take these two at SOL_IP as well: they are properties of the port, and SOL_IPV6 has none of its own.
    if (localPortRange !== undefined) set(SOL_IP, IP_LOCAL_PORT_RANGE, localPortRange, 'IP_LOCAL_PORT_RANGE');
    if (options.reuseAddress) set(SOL_SOCKET, SO_REUSEADDR, 1, 'SO_REUSEADDR');
    if (options.bindAddressNoPort) set(SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1, 'IP_BIND_ADDRESS_NO_PORT');
    if (source !== undefined) {
      bindTo(fd, source.ip, source.port, formatSocketAddress(source.ip, source.port), 'socket.connect');
    }
  });
}

/** Makes the socket in its namespace and hands it to `prepare`; closes it where anything fails. */
function openIn(
  options: SocketOptions,
  checked: CheckedSocket,
  op: string,
  prepare: (fd: number, family: number, subject: string) => void,
): FileDescriptor {
  const subject = formatSocketAddress(checked.host, checked.port);
  const family = checked.ip.family === 4 ? AF_INET : AF_INET6;
  const create = () => libc().socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  // The socket keeps the namespace it is made in, so everything after this line can be done from anywhere.
  const made = options.namespace === undefined ? create() : options.namespace.run(create, options.home);
  const descriptor = new FileDescriptor(check(made, 'socket', subject, op), subject);
  try {
    const { fd } = descriptor;
    if (checked.mark !== undefined) setOption(fd, SOL_SOCKET, SO_MARK, checked.mark, 'SO_MARK', op);
    if (options.noDelay !== false) setOption(fd, SOL_TCP, TCP_NODELAY, 1, 'TCP_NODELAY', op);
    const { congestionControl } = checked;
    if (congestionControl !== undefined) {
      const outcome = libc().setsockopt(fd, SOL_TCP, TCP_CONGESTION, congestionControl, congestionControl.length);
      check(outcome, 'setsockopt', `TCP_CONGESTION ${options.congestionControl}`, op);
    }
    if (options.transparent) {
      setOption(fd, SOL_IP, IP_TRANSPARENT, 1, 'IP_TRANSPARENT', op);
      if (family === AF_INET6) setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1, 'IPV6_TRANSPARENT', op);
    }
    if (options.freebind) {
      if (family === AF_INET6) setOption(fd, SOL_IPV6, IPV6_FREEBIND, 1, 'IPV6_FREEBIND', op);
      else setOption(fd, SOL_IP, IP_FREEBIND, 1, 'IP_FREEBIND', op);
    }
    prepare(fd, family, subject);
    return descriptor;
  } catch (error) {
    descriptor.close();
    throw error;
  }
}

const optionValue = new Int32Array(1);

function setOption(fd: number, level: number, option: number, value: number, name: string, op: string): void {
  optionValue[0] = value;
  check(libc().setsockopt(fd, level, option, optionValue, 4), 'setsockopt', name, op);
}

function bindTo(fd: number, ip: string, port: number, subject: string, op: string): void {
  const sockaddr = encodeSockaddr({ ip, port });
  check(libc().bind(fd, sockaddr, sockaddr.length), 'bind', subject, op);
}
