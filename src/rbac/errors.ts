import { InvalidInputError } from '../errors/index.ts';

/** A policy that cannot be used; `field` is the path in it (`rules[0][1][0].sourceIps[2]`). `code` is ERR_RBAC_POLICY, ERR_RBAC_DUPLICATE or ERR_RBAC_LIMIT. */
export class InvalidPolicyError extends InvalidInputError {
  override readonly name: string = 'InvalidPolicyError';
}

/** A connection that cannot be judged: bad address, port or identity. `code` is ERR_RBAC_CONNECTION. */
export class InvalidConnectionError extends InvalidInputError {
  override readonly name: string = 'InvalidConnectionError';
}
