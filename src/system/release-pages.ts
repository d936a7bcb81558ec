import { MADV_DONTNEED } from './constants.ts';
import { libc } from './libc.ts';
import type { Address } from './native.ts';

let pageBytes = 0;

/**
 * Gives the pages that lie wholly within a stretch of anonymous memory back to the kernel; the stretch stays its owner's and reads as
 * zeros there. For buffers that are large, long-lived and empty at the moment.
 */
export function releasePages(start: Address, bytes: number): void {
  pageBytes ||= libc().getpagesize();
  const from = Math.ceil(start / pageBytes) * pageBytes;
  const to = Math.floor((start + bytes) / pageBytes) * pageBytes;
  if (to > from) libc().madvise(from, to - from, MADV_DONTNEED);
}
