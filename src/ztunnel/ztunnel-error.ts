import { AmbientError } from '../errors/index.ts';

/** A failure of the node proxy, or of one of its pods. `code` is `ERR_ZTUNNEL_…`. */
export class ZtunnelError extends AmbientError {
  override readonly name = 'ZtunnelError';
}
