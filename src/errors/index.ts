/**
 * The one error base of ambient-kit. Every error the library throws on purpose is an {@link AmbientError}: branch on
 * its stable `code`, print its `message`, follow its `cause`.
 *
 * ```ts
 * import { AmbientError } from 'ambient-kit/errors';
 *
 * try {
 *   parseSpiffeId('spiffe://cluster.local/oops');
 * } catch (error) {
 *   if (AmbientError.is(error) && error.code === 'ERR_IDENTITY_SPIFFE_ID') console.error(error.op, error.message);
 *   else throw error;
 * }
 * ```
 *
 * @module errors
 */

const brand = Symbol.for('ambient-kit.error');

/** What an {@link AmbientError} is made of. */
export interface AmbientErrorInit {
  /** Stable and documented (docs/ERRORS.md): `ERR_<MODULE>_<WHAT>`, or an errno name (`EADDRINUSE`) for a system call. */
  readonly code: string;
  /** The operation that failed, as `module.verb`: `netlink.request`, `identity.parse`. */
  readonly op: string;
  /** What went wrong, for a person, without the operation: that is put in front. */
  readonly message: string;
  /** The input at fault as a path into the caller's own value: `rules[2].sourceIps[0]`. */
  readonly field?: string | undefined;
  readonly cause?: unknown;
}

/** The base of every error that the library throws on purpose. */
export class AmbientError extends Error {
  override readonly name: string = 'AmbientError';
  readonly code: string;
  readonly op: string;
  readonly field: string | undefined;

  constructor(init: AmbientErrorInit) {
    const where = init.field === undefined ? '' : `${init.field}: `;
    super(`${init.op}: ${where}${init.message}`, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = init.code;
    this.op = init.op;
    this.field = init.field;
    Object.defineProperty(this, brand, { value: true });
  }

  /** True for any ambient-kit error, also one thrown by another copy of the library in the same process. */
  static is(value: unknown): value is AmbientError {
    return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[brand] === true;
  }
}

/** Bad input: names the field that is at fault. Nothing was changed. `code` is `ERR_<MODULE>_INVALID` or finer. */
export class InvalidInputError extends AmbientError {
  override readonly name: string = 'InvalidInputError';
}

/** What a caught value says, for a message of our own: anything can be thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
