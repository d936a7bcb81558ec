import type { Writable } from 'node:stream';
import { FRAME_HEADER_BYTES } from '../http2/index.ts';

/** Memory that is collected into before it goes to the socket: four TLS records. */
const SLAB_BYTES = 64 << 10;
/** A frame of less payload is not worth its header; the next slab is begun instead. */
const LEAST_PAYLOAD_BYTES = 4 << 10;
/** Less room than this is called none: a stream waits rather than send crumbs. */
const LEAST_ROOM_BYTES = 16 << 10;
/** Slabs kept for the next tunnel that has something to say; all tunnels of the process share them. 2 MiB. */
const MOST_SPARE_SLABS = 32;

const spareSlabs: Buffer[] = [];

/** Memory that frames are laid into, and the writes that still read from it. */
class Slab {
  readonly buffer: Buffer = spareSlabs.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES);
  writes = 0;
}

/**
 * The bytes of one tunnel on their way into its TLS socket: frames are laid behind each other and handed over in large
 * pieces, and nothing is allocated for a frame. `limitBytes` bounds what payload may wait here and in the socket; control
 * frames come on top, and the owner looks at {@link pendingBytes} for those.
 */
export class OutputBuffer {
  readonly #socket: Writable;
  readonly #limitBytes: number;
  readonly #onRoom: () => void;
  #slab: Slab | undefined;
  /** Of the current slab, `[#from, #end)` is laid down and not yet handed over. */
  #from = 0;
  #end = 0;

  /** @param onRoom - called whenever the socket has got rid of a piece */
  constructor(socket: Writable, limitBytes: number, onRoom: () => void) {
    this.#socket = socket;
    this.#limitBytes = limitBytes;
    this.#onRoom = onRoom;
  }

  /** Bytes that the peer's kernel has not been given yet. */
  get pendingBytes(): number {
    return this.#socket.writableLength + this.#end - this.#from;
  }

  /** Payload that one DATA frame may have now; 0 when there is as good as no room. */
  get payloadRoom(): number {
    const room = this.#limitBytes - this.pendingBytes;
    if (room < LEAST_ROOM_BYTES) return 0;
    const left = SLAB_BYTES - this.#end - FRAME_HEADER_BYTES;
    return Math.min(
      room,
      this.#slab === undefined || left < LEAST_PAYLOAD_BYTES ? SLAB_BYTES - FRAME_HEADER_BYTES : left,
    );
  }

  /**
   * Lays a payload down so that `Http2Connection.sendData(stream, buffer, start, …)` needs no copy of it: gives `start` in
   * {@link buffer}. Control frames must be flushed before; {@link append} of the frame then finds it in its place.
   */
  place(payload: Buffer, from: number, to: number): number {
    const slab = this.#room(FRAME_HEADER_BYTES + to - from);
    const start = this.#end + FRAME_HEADER_BYTES;
    payload.copy(slab.buffer, start, from, to);
    return start;
  }

  /** The memory that {@link place} has laid the payload into. */
  get buffer(): Buffer {
    return this.#slab!.buffer;
  }

  /** Takes `buffer[start, end)` in: copies it, unless {@link place} has put it there already. */
  append(buffer: Buffer, start: number, end: number): void {
    if (buffer === this.#slab?.buffer && start === this.#end) {
      this.#end = end;
      return;
    }
    for (let at = start; at < end; ) {
      const slab = this.#room(1);
      const bytes = Math.min(end - at, SLAB_BYTES - this.#end);
      buffer.copy(slab.buffer, this.#end, at, at + bytes);
      this.#end += bytes;
      at += bytes;
    }
  }

  /** Hands over what was laid down. */
  flush(): void {
    const slab = this.#slab;
    if (slab === undefined || this.#end === this.#from) return;
    const piece = slab.buffer.subarray(this.#from, this.#end);
    this.#from = this.#end;
    slab.writes++;
    this.#socket.write(piece, () => this.#onWritten(slab));
  }

  #room(bytes: number): Slab {
    if (this.#slab !== undefined && this.#end + bytes > SLAB_BYTES) {
      this.flush();
      // The last of its writes gives it back.
      this.#slab = undefined;
    }
    if (this.#slab === undefined) {
      this.#slab = new Slab();
      this.#from = 0;
      this.#end = 0;
    }
    return this.#slab;
  }

  #onWritten(slab: Slab): void {
    slab.writes--;
    if (slab.writes === 0) this.#release(slab);
    this.#onRoom();
  }

  /** A tunnel with nothing to say holds no slab. */
  #release(slab: Slab): void {
    if (slab === this.#slab) {
      if (this.#end > this.#from) return;
      this.#slab = undefined;
      this.#from = 0;
      this.#end = 0;
    }
    if (spareSlabs.length < MOST_SPARE_SLABS) spareSlabs.push(slab.buffer);
  }
}
