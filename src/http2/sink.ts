import type { ByteSink } from './frame-writer.ts';
import type { HeaderField } from './header-field.ts';
import type { Http2Error } from './http2-error.ts';
import type { Http2Request } from './message-head.ts';
import type { Http2Stream } from './stream.ts';

/**
 * What a connection tells its driver. One object per connection: methods, never closures per event. From within a method
 * every call of the connection is allowed except `receive`, and except all of them from within `write`.
 */
export interface Http2Sink<C> extends ByteSink {
  /** Bytes for the peer. They must be sent or copied before this returns: the connection uses the buffer again. */
  write(buffer: Buffer, start: number, end: number): void;
  /** Server: a request. Set `stream.context` here. With `endStream` it has no body, and `onEnd` is not called. */
  onRequest(stream: Http2Stream<C>, request: Http2Request, endStream: boolean): void;
  /** Client: the response. With `endStream` it has no body, and `onEnd` is not called. Informational ones are left out. */
  onResponse(stream: Http2Stream<C>, status: number, headers: readonly HeaderField[], endStream: boolean): void;
  /** A piece of payload, at least one byte, in the buffer given to `receive`. Report it by `consume` once it is dealt with. */
  onData(stream: Http2Stream<C>, buffer: Buffer, start: number, end: number): void;
  /** END_STREAM after the headers: no `onData` follows. Trailers are swallowed. */
  onEnd(stream: Http2Stream<C>): void;
  /** The stream is over: RST_STREAM of the peer, a stream error that we answered, or REFUSED_STREAM after GOAWAY. */
  onReset(stream: Http2Stream<C>, errorCode: number): void;
  /** There is window again for a stream whose `capacity` had been 0. */
  onWritable(stream: Http2Stream<C>): void;
  /** The peer takes no new streams. Streams above `lastStreamId` get `onReset` with REFUSED_STREAM right after. */
  onGoaway(lastStreamId: number, errorCode: number): void;
  /** The peer's SETTINGS, the first or later ones, are applied. */
  onSettings(): void;
  /**
   * The connection is over; nothing follows, not for its streams either. Undefined after `close` and when a connection
   * that was going away has finished its last stream.
   */
  onClosed(error: Http2Error | undefined): void;
}
