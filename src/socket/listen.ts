import { createServer, type Server } from 'node:net';
import { check, libc } from '../system/index.ts';
import { openListener } from './open-socket.ts';
import type { ListenerOptions } from './options.ts';
import { BACKLOG_DEFAULT } from './validate.ts';

export interface ListenOptions extends ListenerOptions {
  /** A client that ends its half keeps the other one; off by default, as in `net.createServer`. A relay wants it on. */
  readonly allowHalfOpen?: boolean | undefined;
  /** Accepted sockets read nothing until `resume()`. Off by default. */
  readonly pauseOnConnect?: boolean | undefined;
  /** Closes the server, at any time. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A `net.Server` that is listening. Add its `connection` listener right after the `await`: nothing is accepted before.
 *
 * @returns owned by the caller, who closes it
 * @throws as {@link openListener}; `signal.reason` where it is aborted already
 */
export async function listen(options: ListenOptions): Promise<Server> {
  const { signal, allowHalfOpen = false, pauseOnConnect = false, noDelay = true, backlog = BACKLOG_DEFAULT } = options;
  signal?.throwIfAborted();
  const descriptor = openListener(options);
  const { fd, subject } = descriptor;
  const server = createServer({ allowHalfOpen, pauseOnConnect, noDelay });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.once('listening', () => {
        server.off('error', reject);
        resolve();
      });
      // From here on the descriptor is the server's: it closes it on errors too.
      server.listen({ fd: descriptor.release(), signal });
    });
    // Node calls listen(2) again and takes no backlog for a descriptor: it has put its own 511 in place of ours.
    check(libc().listen(fd, backlog), 'listen', subject, 'socket.listen');
  } catch (error) {
    server.close();
    throw error;
  }
  return server;
}
