import { AmbientError, type AmbientErrorInit, InvalidInputError } from '../errors/index.ts';

/** Every `code` that an {@link HboneError} may have. */
export type HboneErrorCode =
  | 'ERR_HBONE_CREDENTIALS'
  | 'ERR_HBONE_CONNECT'
  | 'ERR_HBONE_TLS'
  | 'ERR_HBONE_PEER'
  | 'ERR_HBONE_TIMEOUT'
  | 'ERR_HBONE_REFUSED'
  | 'ERR_HBONE_STREAM_RESET'
  | 'ERR_HBONE_STREAM_CLOSED'
  | 'ERR_HBONE_TUNNEL_LOST'
  | 'ERR_HBONE_OUTPUT_FULL'
  | 'ERR_HBONE_TOO_MANY'
  | 'ERR_HBONE_LISTEN'
  | 'ERR_HBONE_STATE'
  | 'ERR_HBONE_CLOSED';

/** What an {@link HboneError} is made of. */
export interface HboneErrorInit extends AmbientErrorInit {
  readonly code: HboneErrorCode;
  readonly errorCode?: number;
  readonly status?: number;
}

/** Why there is no tunnel, or why one or its stream ended other than by END_STREAM in both directions. */
export class HboneError extends AmbientError {
  override readonly name: string = 'HboneError';
  declare readonly code: HboneErrorCode;
  /** `ERR_HBONE_STREAM_RESET`: the code of RST_STREAM (RFC 9113 section 7). */
  readonly errorCode: number | undefined;
  /** `ERR_HBONE_REFUSED`: the status of the answer (facts section 1.3): 400, 401, 503. */
  readonly status: number | undefined;

  constructor(init: HboneErrorInit) {
    super(init);
    this.errorCode = init.errorCode;
    this.status = init.status;
  }
}

/** Bad input of our own caller: `ERR_HBONE_INVALID` with the path of the field. */
export function invalidInput(op: string, field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_HBONE_INVALID', op, field, message });
}
