import { availableParallelism } from 'node:os';

const WINDOW_MS = 0.1;

/**
 * How long a data-plane thread looks before it sleeps, in milliseconds, where nobody has said: not at all unless there are more processors
 * than data-plane threads, for a poller must not take the last one from the applications that it waits for.
 *
 * @param processors - default: those that this process may use, as Node's `availableParallelism()` counts them; it knows some CPU limits
 */
export function defaultBusyPollMs(threads: number, processors: number = availableParallelism()): number {
  return processors > threads ? WINDOW_MS : 0;
}
