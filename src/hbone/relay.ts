import type { Socket } from 'node:net';
import { HboneError } from './hbone-error.ts';
import type { HboneStream } from './hbone-stream.ts';

/** What went through a relay. */
export interface Relayed {
  /** Payload bytes from the socket into the tunnel. */
  readonly bytesToTunnel: number;
  /** Payload bytes out of the tunnel. */
  readonly bytesFromTunnel: number;
}

/**
 * Joins a TCP connection with a stream, to the last bit of TCP's meaning:
 *
 * ```text
 *   FIN ◄─► END_STREAM, in each direction by itself            RST ◄─► RST_STREAM, never a clean end
 * ```
 *
 * The socket must be one with `allowHalfOpen: true`. Both are owned by the relay from here on, and are gone when it settles.
 *
 * @throws {HboneError} the stream was reset or its tunnel lost; `ERR_HBONE_STREAM_CLOSED`: the socket was reset (`cause`) or
 *   destroyed
 */
export function relay(socket: Socket, stream: HboneStream): Promise<Relayed> {
  if (socket.destroyed || stream.destroyed) {
    // The client of a request may go away while its upstream is being dialled.
    const error = socket.destroyed ? socketLost('it is closed') : streamLost();
    stream.on('error', ignore).destroy(error);
    if (!socket.destroyed) socket.on('error', ignore).resetAndDestroy();
    return Promise.reject(error);
  }
  return new Promise((resolve, reject) => {
    let failure: unknown;
    let left = 2;
    const fail = (error: unknown): void => {
      failure ??= error;
    };
    const closed = (): void => {
      if (--left > 0) return;
      if (failure !== undefined) reject(failure);
      else resolve({ bytesToTunnel: stream.bytesWritten, bytesFromTunnel: stream.bytesRead });
    };
    socket.on('error', (cause) => {
      const error = socketLost(cause.message, cause);
      fail(error);
      stream.destroy(error);
    });
    socket.on('close', () => {
      if (!(socket.readableEnded && socket.writableFinished)) {
        const error = socketLost('it was closed before its end');
        // The peer may take no more, and have said all it had to: then nothing is lost.
        if (!stream.destroyed || !stream.readableEnded) fail(error);
        stream.destroy(error);
      }
      closed();
    });
    stream.on('error', (error) => {
      fail(error);
      // destroy() would send FIN: a transfer that was cut off would look complete.
      if (!socket.destroyed) socket.resetAndDestroy();
    });
    stream.on('close', () => {
      if (!stream.readableEnded && failure === undefined) fail(streamLost());
      if (failure !== undefined && !socket.destroyed) socket.resetAndDestroy();
      // Unheard by the peer, which has ended: what the application still sends goes nowhere, and it is told by a close.
      else if (!stream.writableFinished) socket.destroySoon();
      closed();
    });
    socket.pipe(stream);
    stream.pipe(socket);
  });
}

function socketLost(message: string, cause?: Error): HboneError {
  return new HboneError({
    code: 'ERR_HBONE_STREAM_CLOSED',
    op: 'hbone.relay',
    message: `the socket: ${message}`,
    cause,
  });
}

function streamLost(): HboneError {
  return new HboneError({ code: 'ERR_HBONE_STREAM_CLOSED', op: 'hbone.relay', message: 'the stream was destroyed' });
}

function ignore(): void {}
