import type { Clock } from '../identity/index.ts';
import { HboneError } from './hbone-error.ts';

/** One step that has to be done in time. */
export interface Step<T> {
  readonly op: string;
  /** What is waited for, for the error: `TCP connect to 10.0.0.1:15008`. */
  readonly what: string;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal | undefined;
  /** Does it, and gives up when the signal is aborted. */
  readonly run: (signal: AbortSignal) => Promise<T>;
  /** Releases a result that comes when nobody waits for it any more. */
  readonly release?: (late: T) => void;
}

/**
 * Runs a step, at most for its time and until its signal is aborted.
 *
 * @throws {HboneError} `ERR_HBONE_TIMEOUT`; `signal.reason`; whatever `run` throws
 */
export function withDeadline<T>(step: Step<T>): Promise<T> {
  const { clock, signal, timeoutMs } = step;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const inner = new AbortController();
    let over = false;
    const settle = (): boolean => {
      if (over) return false;
      over = true;
      clock.clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      return true;
    };
    const giveUp = (reason: unknown): void => {
      if (!settle()) return;
      reject(reason);
      inner.abort(reason);
    };
    const onAbort = (): void => giveUp(signal?.reason);
    const timer = clock.setTimeout(() => {
      const message = `${step.what} took longer than ${timeoutMs} ms`;
      giveUp(new HboneError({ code: 'ERR_HBONE_TIMEOUT', op: step.op, message }));
    }, timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    step.run(inner.signal).then(
      (result) => {
        if (settle()) resolve(result);
        else step.release?.(result);
      },
      (error: unknown) => {
        if (settle()) reject(error);
      },
    );
  });
}
