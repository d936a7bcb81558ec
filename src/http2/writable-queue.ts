import type { Http2Stream } from './stream.ts';

/** Streams that wait for connection window, first come first served. Linked through the streams, so it allocates nothing. */
export class WritableQueue<C> {
  #first: Http2Stream<C> | undefined = undefined;
  #last: Http2Stream<C> | undefined = undefined;

  /** Appends a stream unless it is queued already. */
  push(stream: Http2Stream<C>): void {
    if (stream.queued) return;
    stream.queued = true;
    stream.previous = this.#last;
    if (this.#last === undefined) this.#first = stream;
    else this.#last.next = stream;
    this.#last = stream;
  }

  shift(): Http2Stream<C> | undefined {
    const stream = this.#first;
    if (stream !== undefined) this.remove(stream);
    return stream;
  }

  remove(stream: Http2Stream<C>): void {
    if (!stream.queued) return;
    stream.queued = false;
    if (stream.previous === undefined) this.#first = stream.next;
    else stream.previous.next = stream.next;
    if (stream.next === undefined) this.#last = stream.previous;
    else stream.next.previous = stream.previous;
    stream.next = undefined;
    stream.previous = undefined;
  }
}
