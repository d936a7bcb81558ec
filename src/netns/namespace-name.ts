import { InvalidInputError } from '../errors/index.ts';

/** Where `ip netns` looks, and so do we. */
export const NETNS_DIRECTORY = '/run/netns';

/** NAME_MAX of Linux file systems. */
const NAME_MAX_BYTES = 255;

/**
 * The path under {@link NETNS_DIRECTORY} that a name stands for. What `ip netns` accepts: one path component.
 *
 * @throws {InvalidInputError} `ERR_NETNS_NAME`, field `name`: empty, `.`, `..`, with a slash or NUL, or over 255 bytes of UTF-8
 */
export function namespacePath(name: string): string {
  const fault =
    typeof name !== 'string'
      ? `is a ${typeof name}, not a string`
      : name === ''
        ? 'is empty'
        : name === '.' || name === '..'
          ? `${name} is a directory`
          : /[/\0]/.test(name)
            ? `${JSON.stringify(name)} has a slash or a NUL in it`
            : Buffer.byteLength(name) > NAME_MAX_BYTES
              ? `is longer than ${NAME_MAX_BYTES} bytes`
              : undefined;
  if (fault !== undefined) {
    throw new InvalidInputError({ code: 'ERR_NETNS_NAME', op: 'netns.name', field: 'name', message: fault });
  }
  return `${NETNS_DIRECTORY}/${name}`;
}
