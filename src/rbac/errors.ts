import { type AmbientErrorInit, InvalidInputError } from '../errors/index.ts';

/**
 * A policy or an option that cannot be used; `field` is the path to it (`rules[0][1][0].sourceIps[2]`). `code` is
 * ERR_RBAC_POLICY, ERR_RBAC_DUPLICATE, ERR_RBAC_LIMIT or ERR_RBAC_OPTION.
 */
export class InvalidPolicyError extends InvalidInputError {
  override readonly name: string = 'InvalidPolicyError';
  /** The message without operation and field, for a caller who puts a path of its own in front of `field`. */
  readonly detail: string;

  constructor(init: AmbientErrorInit) {
    super(init);
    this.detail = init.message;
  }
}

/** A connection that cannot be judged: bad address, port or identity. `code` is ERR_RBAC_CONNECTION. */
export class InvalidConnectionError extends InvalidInputError {
  override readonly name: string = 'InvalidConnectionError';
}
