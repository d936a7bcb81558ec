import { AmbientError } from '../errors/index.ts';

/** A namespace that is not what was asked for: `ERR_NETNS_EXISTS`, `_NOT_FOUND`, `_NOT_A_NAMESPACE`, `_ASYNC`, `_USER_NAMESPACE`. */
export class NetnsError extends AmbientError {
  override readonly name = 'NetnsError';
}
