import { native } from '../../src/system/native.ts';

const RLIMIT_NOFILE = 7;

let calls:
  | {
      get: (resource: number, limit: BigUint64Array) => number;
      set: (resource: number, limit: BigUint64Array) => number;
    }
  | undefined;

/**
 * Runs `body` with no descriptor left to be had: the soft limit is put at 0 and back. For synchronous bodies only, since the
 * limit is the whole process's.
 */
export function withoutDescriptors<T>(body: () => T): T {
  calls ??= {
    get: native('int getrlimit(int, void*)'),
    set: native('int setrlimit(int, void*)'),
  };
  // struct rlimit { rlim_cur, rlim_max }
  const limit = new BigUint64Array(2);
  if (calls.get(RLIMIT_NOFILE, limit) !== 0) throw new Error('getrlimit failed');
  calls.set(RLIMIT_NOFILE, BigUint64Array.of(0n, limit[1]!));
  try {
    return body();
  } finally {
    calls.set(RLIMIT_NOFILE, limit);
  }
}
