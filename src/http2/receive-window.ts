/**
 * Credit of the whole connection, receiving side. It is given back at receipt, so that a stream that nobody reads holds
 * up nobody else; only when more than `maxBufferedBytes` lie unconsumed over all streams is it withheld until they are
 * fewer. Methods that free credit give the increment to send as WINDOW_UPDATE, 0 for none yet.
 */
export class ReceiveWindow {
  readonly #threshold: number;
  readonly #maxBufferedBytes: number;
  #available: number;
  #credit = 0;
  #withheld = 0;
  #buffered = 0;

  constructor(windowBytes: number, maxBufferedBytes: number) {
    this.#available = windowBytes;
    this.#threshold = windowBytes >>> 1;
    this.#maxBufferedBytes = maxBufferedBytes;
  }

  /** DATA bytes the peer may still send. */
  get available(): number {
    return this.#available;
  }
  /** Bytes delivered and not consumed, over all streams. */
  get buffered(): number {
    return this.#buffered;
  }
  /** Received bytes whose credit waits for `consumed`. */
  get withheld(): number {
    return this.#withheld;
  }
  /** Received bytes whose credit waits for the next WINDOW_UPDATE. */
  get credit(): number {
    return this.#credit;
  }

  /** Takes a frame's payload off the window; false when the peer has sent more than it may. */
  take(bytes: number): boolean {
    this.#available -= bytes;
    return this.#available >= 0;
  }

  /** Frees the credit of received bytes, or withholds it. */
  received(bytes: number): number {
    if (this.#buffered > this.#maxBufferedBytes) {
      this.#withheld += bytes;
      return 0;
    }
    this.#credit += bytes;
    return this.#increment();
  }

  /** Payload handed to the driver. */
  delivered(bytes: number): void {
    this.#buffered += bytes;
  }

  /** Payload the driver is done with. */
  consumed(bytes: number): number {
    this.#buffered -= bytes;
    if (this.#withheld === 0 || this.#buffered > this.#maxBufferedBytes) return 0;
    this.#credit += this.#withheld;
    this.#withheld = 0;
    return this.#increment();
  }

  #increment(): number {
    if (this.#credit < this.#threshold) return 0;
    const increment = this.#credit;
    this.#credit = 0;
    this.#available += increment;
    return increment;
  }
}
