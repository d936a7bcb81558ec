import { AmbientError } from '../errors/index.ts';
import { type Address, native } from './native.ts';

let memmove: ((destination: Buffer, source: Buffer, length: number) => Address) | undefined;

/**
 * A `Buffer` whose address is known, so that native calls can be given any place inside it without making a view.
 *
 * The memory belongs to the JavaScript heap's array buffers: it is released when this object is collected, never earlier, so keep
 * the object for as long as any native code may use the address.
 */
export class NativeMemory {
  readonly buffer: Buffer;
  readonly address: Address;

  /** @param byteLength - at least 128: V8 may keep smaller arrays inside its own moving heap */
  constructor(byteLength: number) {
    if (!Number.isSafeInteger(byteLength) || byteLength < 128) {
      throw new AmbientError({
        code: 'ERR_SYSTEM_MEMORY_SIZE',
        op: 'system.memory',
        message: `needs a whole number of at least 128 bytes, got ${byteLength}`,
      });
    }
    this.buffer = Buffer.from(new ArrayBuffer(byteLength));
    this.address = addressOf(this.buffer);
  }
}

/** The address of the first byte. Only for buffers over an `ArrayBuffer` of their own, which V8 does not move. */
export function addressOf(buffer: Buffer): Address {
  memmove ??= native('uintptr_t memmove(void* destination, const void* source, uint64_t length)');
  return memmove(buffer, buffer, 0);
}
