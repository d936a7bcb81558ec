import { AmbientError } from '../errors/index.ts';

/** A failure inside the data plane. Codes: docs/ERRORS.md, `ERR_ENGINE_…`. */
export class EngineError extends AmbientError {
  override readonly name = 'EngineError';
}

/** What an error of any kind says, for the connection that it ends. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
