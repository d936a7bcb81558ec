import type { Duplex } from 'node:stream';
import type { HeaderField } from '../http2/index.ts';
import type { WorkloadIdentity } from '../identity/index.ts';

/**
 * One connection through a tunnel: an ordinary Duplex of bytes. It is owned by whom it was given to, who ends and reads it,
 * or destroys it. Listen to `error`, as for a socket.
 *
 * - `end()` is END_STREAM, and the peer's END_STREAM is `end`; each direction ends by itself.
 * - `destroy()` is RST_STREAM with CANCEL, `destroy(error)` with CONNECT_ERROR. A RST_STREAM of the peer destroys it with
 *   `ERR_HBONE_STREAM_RESET`, and so does the end of the tunnel with `ERR_HBONE_TUNNEL_LOST`: what was cut off never looks complete.
 * - Back-pressure goes all the way: the peer may send as much as was read, plus one window.
 */
export type HboneStream = Duplex & {
  /** Where the stream leads to: the `:authority` of its CONNECT. */
  readonly authority: string;
  /** Whom the certificate of the other end of the tunnel names. */
  readonly peer: WorkloadIdentity;
  /** The other side's headers: those of the answer at a client, those of the CONNECT at a server. */
  readonly headers: readonly HeaderField[];
  /** HTTP/2 stream id, for logs. */
  readonly streamId: number;
  /** Payload bytes that came out of the tunnel, read or not. */
  readonly bytesRead: number;
  /** Payload bytes given to the tunnel. */
  readonly bytesWritten: number;
};
