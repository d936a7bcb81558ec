import { randomFillSync } from 'node:crypto';

const POOL_BYTES = 4096;
const pool = new Uint8Array(POOL_BYTES);
let at = POOL_BYTES;

/** Fills `bytes`, at most 4,096 of them, and gives it back. For ids, not for keys: asks the generator for many at once. */
export function fillFromPool(bytes: Uint8Array): Uint8Array {
  if (at + bytes.length > POOL_BYTES) {
    randomFillSync(pool);
    at = 0;
  }
  for (let index = 0; index < bytes.length; index++) bytes[index] = pool[at++]!;
  return bytes;
}
