import { FRAME_HEADER_BYTES } from '../http2/index.ts';
import { NativeMemory, SOCKADDR_BYTES } from '../system/index.ts';
import { ChunkPool } from './pending-bytes.ts';

/** The most payload that is read from an application at once: one DATA frame. */
export const SEND_BYTES = 128 << 10;
/** The most plaintext that is read from a tunnel at once. */
export const RECEIVE_BYTES = 512 << 10;

/** The buffers that one reactor thread works in. Shared by all its connections: nothing stays in them between two calls. */
export class EngineMemory {
  /** App → tunnel: payload from offset {@link FRAME_HEADER_BYTES} on. */
  readonly send = new NativeMemory(FRAME_HEADER_BYTES + SEND_BYTES);
  /** Tunnel → app. */
  readonly receive = new NativeMemory(RECEIVE_BYTES);
  readonly chunks: ChunkPool;
  /** For integer socket options. */
  readonly option = new Int32Array(1);
  readonly optionLength = new Int32Array(1);
  /** For the address of a socket's end. */
  readonly address = Buffer.alloc(SOCKADDR_BYTES);
  readonly addressLength = new Int32Array(1);

  /** @param keepBytes - chunks of slow readers that are kept for the next one, default 16 MiB */
  constructor(keepBytes?: number) {
    this.chunks = new ChunkPool(keepBytes);
  }
}
