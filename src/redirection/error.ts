import { AmbientError, InvalidInputError } from '../errors/index.ts';

/** What a {@link RedirectionError} adds. */
export interface RedirectionErrorInit {
  readonly code: string;
  readonly op: string;
  readonly message: string;
  /** The step that failed: `node: rule prerouting-8`, `ztunnel: route table 100 0.0.0.0/0`. */
  readonly step: string;
  readonly cause: unknown;
  /** What could not be undone afterwards; empty when everything is as it was before. */
  readonly leftovers?: readonly string[];
}

/** The kernel refused a part of a redirection. */
export class RedirectionError extends AmbientError {
  override readonly name = 'RedirectionError';
  readonly step: string;
  readonly leftovers: readonly string[];

  constructor(init: RedirectionErrorInit) {
    super(init);
    this.step = init.step;
    this.leftovers = init.leftovers ?? [];
  }
}

/** @returns an {@link InvalidInputError} `ERR_REDIRECTION_INVALID` about one field */
export function invalid(op: string, field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_REDIRECTION_INVALID', op: `redirection.${op}`, field, message });
}
