import { IPPROTO_TCP, TCP_INFO } from './constants.ts';
import { libc } from './libc.ts';

/** `TCP_CLOSE` of <netinet/tcp.h>: no connection, or one that is broken. */
const TCP_CLOSE = 7;

// struct tcp_info begins with tcpi_state, one byte; the kernel writes as much as there is room for.
const info = Buffer.alloc(16);
const infoLength = new Int32Array(1);

/**
 * Is the TCP connection of `fd` over (or was there never one)? True too for what is no TCP socket.
 *
 * The second opinion on a failed call: `errno` is read in a call of its own, and the engine may run between the two (compile, collect)
 * and leave a number of its own there. An error other than EAGAIN is to be believed only of a connection that is in fact closed.
 */
export function tcpClosed(fd: number): boolean {
  infoLength[0] = info.length;
  return libc().getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, infoLength) < 0 || info[0] === TCP_CLOSE;
}
