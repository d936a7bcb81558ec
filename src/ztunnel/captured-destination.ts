import type { SocketAddress } from '../ip/index.ts';
import { originalDestination } from '../socket/index.ts';
import { resetAndClose } from './relayed-connection.ts';

/** Where an accepted connection was meant to go; undefined, and the descriptor closed, where its client has gone before it could be asked. */
export function capturedDestination(fd: number): SocketAddress | undefined {
  try {
    return originalDestination(fd);
  } catch {
    resetAndClose(fd);
    return undefined;
  }
}
