import { AmbientError } from '../errors/index.ts';

/** A failure inside the data plane. Codes: docs/ERRORS.md, `ERR_ENGINE_…`. */
export class EngineError extends AmbientError {
  override readonly name = 'EngineError';
}
