import { AmbientError, InvalidInputError } from '../errors/index.ts';

/**
 * A lab that could not be built. `ERR_LAB_EXISTS`: a namespace of that name is there already, and was left alone; `ERR_LAB_FAILED`:
 * a step failed, `cause` says why; `ERR_LAB_CLOSED`: the lab was closed or left before; `ERR_LAB_CAPTURE`: no such device to listen on.
 */
export class LabError extends AmbientError {
  override readonly name: string = 'LabError';
}

/** @param field - path into the description */
export function invalid(field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_LAB_INVALID', op: 'lab.create', field, message });
}
