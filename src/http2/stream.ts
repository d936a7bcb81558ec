/**
 * One stream: a handle for the driver and a record for the connection. Only `context` is the driver's to write; the rest
 * is kept by the connection and may be read.
 */
export class Http2Stream<C> {
  readonly id: number;
  /** The driver's own object. On a server it is undefined until `onRequest` sets it. */
  context: C;
  /** Our END_STREAM is written. */
  localEnded = false;
  /** The peer's END_STREAM is read. */
  remoteEnded = false;
  /** Both have ended, or the stream was reset. Nothing more happens on it. */
  closed = false;
  /** Response headers are written (server) or read (client). */
  answered = false;
  /** DATA bytes we may still send on this stream; below zero after the peer shrank its window. */
  sendWindow: number;
  /** DATA bytes the peer may still send on this stream. */
  receiveWindow: number;
  /** Bytes given to `onData` and not yet consumed. */
  unconsumed = 0;
  /** Consumed bytes that are not yet given back by WINDOW_UPDATE. */
  credit = 0;
  /** Body bytes still to come by content-length; -1 where that says nothing. */
  contentLeft = -1;
  /** `capacity()` gave 0 and `onWritable` is owed. */
  waiting = false;
  /** Links of the queue of streams that have window of their own and wait for the connection's. */
  queued = false;
  next: Http2Stream<C> | undefined = undefined;
  previous: Http2Stream<C> | undefined = undefined;

  constructor(id: number, context: C, sendWindow: number, receiveWindow: number) {
    this.id = id;
    this.context = context;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }
}
