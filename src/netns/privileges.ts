import { readFileSync } from 'node:fs';

/** Bits of a capability set, as `<linux/capability.h>` counts them. */
const CAP_NET_ADMIN = 12;
const CAP_SYS_ADMIN = 21;

/**
 * Whether this process may make and change network namespaces: it has CAP_SYS_ADMIN and CAP_NET_ADMIN, be it of the machine or of a
 * user namespace. A container's root often has neither.
 */
export function hasNamespacePrivileges(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/thread-self/status', 'latin1'))?.[1] ?? '0';
  const needed = (1n << BigInt(CAP_SYS_ADMIN)) | (1n << BigInt(CAP_NET_ADMIN));
  return (BigInt(`0x${effective}`) & needed) === needed;
}

/**
 * Whether this process is in another user namespace than the machine's: its root is somebody else outside. Told by user_namespaces(7)'s
 * map of user ids, which the first namespace alone has whole.
 */
export function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'));
  } catch (error) {
    // A kernel without user namespaces has no such file.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
