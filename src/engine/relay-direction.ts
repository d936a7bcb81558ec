import { FRAME_HEADER_BYTES } from '../http2/index.ts';
import { EAGAIN, errno, type Libc, libc, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, tcpClosed } from '../system/index.ts';
import type { EngineMemory } from './engine-memory.ts';
import { PIPE_BYTES, type Pipe, type PipePool } from './pipe-pool.ts';
import type { TcpLeg } from './tcp-leg.ts';

/** {@link RelayDirection.pump}: nothing to do until an event comes. */
export const RELAY_IDLE = 0;
/** {@link RelayDirection.pump}: there is more, but others are due. */
export const RELAY_MORE = 1;
/** {@link RelayDirection.pump}: the source has ended and everything has been passed on; FIN is sent. */
export const RELAY_ENDED = 2;
/** {@link RelayDirection.pump}: a leg broke, and its owner has been told. */
export const RELAY_FAILED = 3;

/** A read that fills this much is a stream worth a pipe; less is a message, copied in two calls. */
const COPY_BYTES = 64 << 10;
/** A transfer below this gives the pipe back once it is empty. */
const SMALL_BYTES = 16 << 10;
const TURN_BYTES = 2 << 20;
const SPLICE_FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;

/**
 * One direction between two TCP connections. Starts by copying (two system calls a message, no descriptors of its own) and moves to
 * splice(2) through a pipe while the source has much to say, so an idle relay holds no pipe.
 */
export class RelayDirection {
  readonly #source: TcpLeg;
  readonly #destination: TcpLeg;
  readonly #memory: EngineMemory;
  readonly #pipes: PipePool;
  readonly #libc: Libc = libc();
  #pipe: Pipe | undefined;
  #inPipe = 0;
  #sourceEnded = false;
  #finished = false;
  /** Payload bytes taken from the source so far. */
  bytes = 0;

  constructor(source: TcpLeg, destination: TcpLeg, memory: EngineMemory, pipes: PipePool) {
    this.#source = source;
    this.#destination = destination;
    this.#memory = memory;
    this.#pipes = pipes;
  }

  get finished(): boolean {
    return this.#finished;
  }

  /** Moves bytes until one side has no more, or others are due. */
  pump(): typeof RELAY_IDLE | typeof RELAY_MORE | typeof RELAY_ENDED | typeof RELAY_FAILED {
    if (this.#finished) return RELAY_ENDED;
    for (let turn = 0; turn < TURN_BYTES; ) {
      const moved = this.#pipe === undefined ? this.#copy() : this.#splice(this.#pipe);
      if (moved < 0) return RELAY_FAILED;
      if (this.#sourceEnded && this.#inPipe === 0) return this.#finish();
      if (moved === 0) return RELAY_IDLE;
      turn += moved;
    }
    return RELAY_MORE;
  }

  /** Gives the pipe back, or closes it when bytes are in it. */
  close(): void {
    const pipe = this.#pipe;
    this.#pipe = undefined;
    if (pipe === undefined) return;
    if (this.#inPipe === 0) this.#pipes.give(pipe);
    else this.#pipes.discard(pipe);
    this.#inPipe = 0;
  }

  /** @returns bytes moved, 0 when there is nothing to do now, -1 when a leg broke */
  #copy(): number {
    const source = this.#source;
    const destination = this.#destination;
    // One chunk may wait for the destination; the source is not read while it does.
    if (!source.readable || destination.pendingBytes > 0 || destination.connecting) return 0;
    const { send } = this.#memory;
    const count = source.read(send.address + FRAME_HEADER_BYTES, COPY_BYTES);
    if (count === 0) {
      this.#sourceEnded = true;
      return 0;
    }
    if (count < 0) return source.open ? 0 : -1;
    this.bytes += count;
    if (count === COPY_BYTES) this.#pipe = this.#pipes.take();
    const sent = destination.write(send.buffer, send.address, FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + count);
    return sent < 0 ? -1 : count;
  }

  /** @returns bytes taken in or passed on, 0 when there is nothing to do now, -1 when a leg broke */
  #splice(pipe: Pipe): number {
    const source = this.#source;
    const destination = this.#destination;
    let moved = 0;
    let taken = PIPE_BYTES;
    if (!this.#sourceEnded && source.readable && this.#inPipe < PIPE_BYTES) {
      taken = this.#libc.splice(source.fd, 0, pipe.writer, 0, PIPE_BYTES - this.#inPipe, SPLICE_FLAGS);
      if (taken === 0) this.#sourceEnded = true;
      else if (taken > 0) {
        this.#inPipe += taken;
        this.bytes += taken;
        source.wasRead(taken);
        moved = taken;
      } else {
        const reason = errno();
        // EAGAIN means an empty socket or a full pipe; only the first is the source's.
        if (this.#inPipe === 0 || (reason !== EAGAIN && tcpClosed(source.fd))) source.readFailed(reason);
        if (!source.open) return -1;
      }
    }
    if (this.#inPipe > 0 && destination.pendingBytes === 0) {
      const passed = this.#libc.splice(pipe.reader, 0, destination.fd, 0, this.#inPipe, SPLICE_FLAGS);
      if (passed > 0) {
        this.#inPipe -= passed;
        moved += passed;
      } else if (passed < 0) {
        const reason = errno();
        if (this.#destination.writeFailed(reason)) return -1;
        // The destination is full: taking more in would only move the queue.
        return 0;
      }
    }
    if (this.#inPipe === 0 && taken < SMALL_BYTES) this.close();
    return moved;
  }

  #finish(): typeof RELAY_ENDED {
    this.#finished = true;
    this.close();
    this.#destination.finish();
    return RELAY_ENDED;
  }
}
