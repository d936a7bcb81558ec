import { AmbientError, messageOf } from '../errors/index.ts';
import { NftablesError } from '../netlink/nftables/index.ts';
import { RedirectionError } from './error.ts';

/**
 * Steps that are all done or all undone. The kernel has transactions for nftables only; for links, routes and the rest this keeps
 * the way back.
 */
export class Transaction {
  readonly #op: string;
  readonly #signal: AbortSignal | undefined;
  readonly #undo: { readonly step: string; readonly run: () => void }[] = [];

  /** @param signal - looked at before each step; an abort undoes the steps before it */
  constructor(op: string, signal?: AbortSignal) {
    this.#op = op;
    this.#signal = signal;
  }

  /** Does one step, and remembers how to undo it. A step that throws must have changed nothing itself. */
  step(name: string, run: () => void, undo?: () => void): void {
    try {
      this.#signal?.throwIfAborted();
      run();
    } catch (cause) {
      throw this.#fail(name, cause);
    }
    if (undo !== undefined) this.#undo.push({ step: name, run: undo });
  }

  /** Looks something up for later steps; a failure undoes what was done before. */
  look<T>(name: string, run: () => T): T {
    try {
      return run();
    } catch (cause) {
      throw this.#fail(name, cause);
    }
  }

  #fail(name: string, cause: unknown): unknown {
    const leftovers: string[] = [];
    for (const { step, run } of this.#undo.reverse()) {
      try {
        run();
      } catch (error) {
        leftovers.push(`${step}: ${messageOf(error)}`);
      }
    }
    this.#undo.length = 0;
    if (!AmbientError.is(cause) && leftovers.length === 0) return cause;
    const step = cause instanceof NftablesError ? `${name}: ${cause.command}` : name;
    const what = cause instanceof NftablesError ? cause.kernel : cause instanceof Error ? cause.message : String(cause);
    const state =
      leftovers.length === 0 ? 'everything is as it was before' : `could not be undone: ${leftovers.join('; ')}`;
    return new RedirectionError({
      code: 'ERR_REDIRECTION_FAILED',
      op: this.#op,
      message: `${step}: ${what} (${state})`,
      step,
      cause,
      leftovers,
    });
  }
}
