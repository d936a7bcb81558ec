import { SO_LINGER, SOL_SOCKET } from './constants.ts';
import { libc } from './libc.ts';

// struct linger { l_onoff = 1, l_linger = 0 } (socket(7)).
const LINGER_RESET = Int32Array.of(1, 0);

/** Makes close() of a TCP socket send RST instead of FIN: the other side must not take what it has for the whole. */
export function resetOnClose(fd: number): void {
  libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, LINGER_RESET, 8);
}
