import { native } from './native.ts';
import { UnsupportedPlatformError } from './system-error.ts';

let mallocTrim: ((keepBytes: number) => number) | undefined;

/**
 * Gives memory that was freed, by OpenSSL for one, back to the kernel: the C library keeps it for the next time, in an arena for each
 * thread.
 *
 * @returns whether there was any; false as well where the C library has no malloc_trim(3) (musl)
 */
export function releaseFreeMemory(): boolean {
  try {
    mallocTrim ??= native<(keepBytes: number) => number>('int malloc_trim(uint64_t)');
  } catch (error) {
    if (!(error instanceof UnsupportedPlatformError)) throw error;
    mallocTrim = () => 0;
  }
  return mallocTrim(0) === 1;
}
