import { invalidInput } from './hbone-error.ts';

/** Default, least and most of an option. */
export type NumberRange = readonly [standard: number, least: number, most: number];

/**
 * Fills in defaults: one whole number for every name in `ranges`.
 *
 * @throws {InvalidInputError} `ERR_HBONE_INVALID`; `field` is `options.<name>`
 */
export function resolveNumbers<K extends string>(
  op: string,
  options: NoInfer<{ readonly [name in K]?: number | undefined }>,
  ranges: { readonly [name in K]: NumberRange },
): { readonly [name in K]: number } {
  const resolved = {} as { [name in K]: number };
  for (const name of Object.keys(ranges) as K[]) {
    const [standard, least, most] = ranges[name];
    const value = options[name] ?? standard;
    if (!Number.isSafeInteger(value) || value < least || value > most) {
      throw invalidInput(op, `options.${name}`, `must be a whole number from ${least} to ${most}`);
    }
    resolved[name] = value;
  }
  return resolved;
}
