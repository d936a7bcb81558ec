import { AmbientError } from '../errors/index.ts';

/** What no system call has a name for: `ERR_SOCKET_TIMEOUT`, `ERR_SOCKET_CLOSED`. Failed calls are `SystemError`. */
export class SocketError extends AmbientError {
  override readonly name = 'SocketError';
}
