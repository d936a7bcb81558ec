import { InvalidInputError } from '../errors/index.ts';

/** @returns an InvalidInputError `ERR_EXPLAIN_INVALID` for `field` of a packet, to be thrown */
export function invalid(field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_EXPLAIN_INVALID', op: 'explain.packet', field, message });
}
