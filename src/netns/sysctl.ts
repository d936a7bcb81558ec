import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { InvalidInputError } from '../errors/index.ts';
import { SystemError } from '../system/index.ts';
import type { NetworkNamespace } from './network-namespace.ts';

/**
 * Reads a `net.` kernel parameter of a namespace, without the trailing newline.
 *
 * @param name - as sysctl(8) spells it: `net.ipv4.conf.eth0.rp_filter`, or `net/ipv4/conf/eth0.100/rp_filter` for a device with a
 *   dot in its name
 * @throws {InvalidInputError} `ERR_NETNS_SYSCTL`, field `name`
 * @throws {SystemError} `ENOENT` where this kernel has no such parameter
 */
export function readSysctl(namespace: NetworkNamespace, name: string): string {
  const path = sysctlPath(name);
  return namespace.run(() => attempt(path, 'netns.readSysctl', () => readFileSync(path, 'latin1').trimEnd()));
}

/**
 * Writes a `net.` kernel parameter of a namespace. Names and errors as in {@link readSysctl}.
 *
 * @throws {InvalidInputError} `ERR_NETNS_SYSCTL`, field `value`: empty or of several lines
 * @throws {SystemError} `EINVAL` where the kernel refuses the value
 */
export function writeSysctl(namespace: NetworkNamespace, name: string, value: string | number): void {
  const path = sysctlPath(name);
  const text = String(value);
  if (text === '' || /[\n\0]/.test(text)) throw invalid('value', `${JSON.stringify(text)} is not one line of text`);
  namespace.run(() =>
    attempt(path, 'netns.writeSysctl', () => {
      // One write: the kernel parses each on its own. No O_CREAT: /proc/sys answers that with EACCES for a name it does not have.
      const fd = openSync(path, 'r+');
      try {
        writeSync(fd, `${text}\n`);
      } finally {
        closeSync(fd);
      }
    }),
  );
}

function sysctlPath(name: string): string {
  const separator = /[./]/.exec(name)?.[0];
  const parts = name.split(separator ?? '.').map((part) => (separator === '.' ? part.replaceAll('/', '.') : part));
  if (parts.length < 2 || parts[0] !== 'net') {
    throw invalid('name', `${JSON.stringify(name)} does not start with "net.": only those are per namespace`);
  }
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0'))) {
    throw invalid('name', `${JSON.stringify(name)} has an empty or relative part`);
  }
  return `/proc/sys/${parts.join('/')}`;
}

function attempt<T>(path: string, op: string, fn: () => T): T {
  try {
    return fn();
  } catch (cause) {
    const { errno: negative, syscall } = cause as NodeJS.ErrnoException;
    if (negative === undefined || syscall === undefined) throw cause;
    throw new SystemError({ syscall, errno: -negative, subject: path, op, cause });
  }
}

function invalid(field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_NETNS_SYSCTL', op: 'netns.sysctl', field, message });
}
