import { readdirSync, readFileSync } from 'node:fs';
import { setPriority } from 'node:os';

/** V8's helpers: compilers and collectors, and what wakes them. */
const BACKGROUND = /^(V8Worker|DelayedTaskSche)/;
const NICENESS = 10;

/**
 * Lets V8's background threads yield to the data plane's: while code is being compiled, the processor is theirs only when nothing waits
 * for it. Where /proc has other names, or none, nothing happens.
 */
export function yieldInBackground(): void {
  try {
    for (const thread of readdirSync('/proc/self/task')) {
      const name = readFileSync(`/proc/self/task/${thread}/comm`, 'latin1');
      // On Linux niceness is a thread's own, and a thread's id is as good as a process's.
      if (BACKGROUND.test(name)) setPriority(Number(thread), NICENESS);
    }
  } catch {
    // A thread that has just ended, or a /proc that does not say: it runs as it is.
  }
}
