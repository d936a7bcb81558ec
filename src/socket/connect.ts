import { Socket } from 'node:net';
import { canonicalIp } from '../ip/index.ts';
import { type FileDescriptor, SystemError } from '../system/index.ts';
import { openBound } from './open-socket.ts';
import type { ConnectingOptions } from './options.ts';
import { SocketError } from './socket-error.ts';
import { integer } from './validate.ts';

/** As long as a Node timer goes. */
const MAX_TIMEOUT_MS = 0x7fffffff;

export interface ConnectOptions extends ConnectingOptions {
  /** How long the handshake may take, 10 000 by default. */
  readonly timeoutMs?: number | undefined;
  /** A peer that ends its half leaves ours open; off by default, as in `net.connect`. A relay wants it on. */
  readonly allowHalfOpen?: boolean | undefined;
  /** Gives the attempt up. Without effect once connected. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A connected `net.Socket`. It reads nothing until somebody listens to it, so nothing is lost after the `await`.
 *
 * @returns owned by the caller, who ends or destroys it
 * @throws {InvalidInputError} `ERR_SOCKET_INVALID` or `ERR_IP_ADDRESS` with `field`
 * @throws {SystemError} `ECONNREFUSED`, `EADDRNOTAVAIL`, `EPERM`, … with `syscall`
 * @throws {SocketError} `ERR_SOCKET_TIMEOUT` after `timeoutMs`
 * @throws `signal.reason` when aborted
 */
export async function connect(options: ConnectOptions): Promise<Socket> {
  const { signal, timeoutMs = 10_000, allowHalfOpen = false } = options;
  integer('timeoutMs', timeoutMs, 1, MAX_TIMEOUT_MS);
  signal?.throwIfAborted();
  const descriptor = openBound(options);
  const { subject } = descriptor;
  const socket = adopt(descriptor, allowHalfOpen);
  // The descriptor has it already; this tells the object, so that a later setNoDelay(false) is not taken for no change.
  if (options.noDelay !== false) socket.setNoDelay(true);

  let timer: NodeJS.Timeout | undefined;
  let abort = () => {};
  let fail = (_error: NodeJS.ErrnoException) => {};
  try {
    await new Promise<void>((resolve, reject) => {
      abort = () => reject(signal?.reason);
      signal?.addEventListener('abort', abort, { once: true });
      timer = setTimeout(() => reject(timedOut(subject, timeoutMs)), timeoutMs);
      fail = (error) => reject(asSystemError(error, subject));
      socket.once('error', fail);
      // The canonical spelling is the one whose family the socket was made for.
      socket.connect({ host: canonicalIp(options.host), port: options.port }, resolve);
    });
  } catch (error) {
    // Node may have its own error to report about a socket given up half-way; the caller has the reason already.
    socket.on('error', () => {});
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
    socket.off('error', fail);
  }
  return socket;
}

function adopt(descriptor: FileDescriptor, allowHalfOpen: boolean): Socket {
  try {
    // manualStart: without it, Node starts reading at once, from a socket that is not connected.
    const socket = new Socket({
      fd: descriptor.fd,
      manualStart: true,
      readable: true,
      writable: true,
      allowHalfOpen,
    } as {
      fd: number;
    });
    descriptor.release();
    return socket;
  } catch (error) {
    descriptor.close();
    throw error;
  }
}

function asSystemError(error: NodeJS.ErrnoException, subject: string): Error {
  if (error.errno === undefined) return error;
  const syscall = error.syscall ?? 'connect';
  return new SystemError({ syscall, errno: -error.errno, subject, op: 'socket.connect', cause: error });
}

function timedOut(subject: string, timeoutMs: number): SocketError {
  return new SocketError({
    code: 'ERR_SOCKET_TIMEOUT',
    op: 'socket.connect',
    message: `${subject} did not answer within ${timeoutMs} ms`,
  });
}
