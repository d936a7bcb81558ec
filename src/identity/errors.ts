import { AmbientError, type AmbientErrorInit, InvalidInputError } from '../errors/index.ts';

/**
 * A check on a certificate, a key or a chain that did not hold, or a certificate that cannot be had. `code` names which
 * (docs/ERRORS.md); `field` names the certificate, counted from the leaf: `chain[1]`. No message ever holds key material.
 */
export class IdentityError extends AmbientError {
  override readonly name: string = 'IdentityError';
}

/** Throws the {@link IdentityError} made of `init`. */
export function refuse(init: AmbientErrorInit): never {
  throw new IdentityError(init);
}

/** Throws the {@link InvalidInputError} made of `init`. */
export function refuseInput(init: AmbientErrorInit): never {
  throw new InvalidInputError(init);
}

/** Text of a stranger, made safe to put into a message: quoted, escaped, and cut at 120 characters. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);
}

/** `value` as a duration in milliseconds within `[min, max]`; otherwise `ERR_IDENTITY_INVALID` that names `field`. */
export function duration(value: number, field: string, op: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
  if (Number.isFinite(value) && value >= min && value <= max) return value;
  refuseInput({
    code: 'ERR_IDENTITY_INVALID',
    op,
    field,
    message: `expected ${min} to ${max} milliseconds, got ${value}`,
  });
}

/** `value` as a whole number within `[min, max]`; otherwise `ERR_IDENTITY_INVALID` that names `field`. */
export function count(value: number, field: string, op: string, min = 1, max = Number.MAX_SAFE_INTEGER): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  refuseInput({
    code: 'ERR_IDENTITY_INVALID',
    op,
    field,
    message: `expected a whole number from ${min} to ${max}, got ${value}`,
  });
}
