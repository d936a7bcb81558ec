import { existsSync, readFileSync } from 'node:fs';

/** What this machine says of itself: a file's text without the newline, or undefined where there is none to read. */
export type ReadFact = (path: string) => string | undefined;

const SYS = '/proc/sys';

/**
 * Why a user namespace could not be entered, and the switch that forbids it. Called once it failed: many a switch is set without
 * standing in the way of a process with privileges.
 *
 * @param failure - what spawn() threw, or what the tools wrote
 */
export function userNamespaceObstacle(failure: string | NodeJS.ErrnoException, read: ReadFact = readFact): string {
  if (typeof failure !== 'string') {
    return failure.code === 'ENOENT'
      ? 'there is no program `unshare` on the PATH: it is in the package util-linux'
      : `\`unshare\` cannot be run: ${failure.message}`;
  }
  const said = failure.split('\n')[0]!;
  return switchedOff(read) ?? refused(said, read) ?? said;
}

/** Settings of the kernel that rule user namespaces out, whatever was said. */
function switchedOff(read: ReadFact): string | undefined {
  if (read('/proc/self/uid_map') === undefined) return 'this kernel has no user namespaces (CONFIG_USER_NS)';
  if (read(`${SYS}/kernel/unprivileged_userns_clone`) === '0') {
    return 'user namespaces are for root only: kernel.unprivileged_userns_clone is 0';
  }
  for (const kind of ['user', 'mnt', 'pid', 'net']) {
    const name = `max_${kind}_namespaces`;
    if (read(`${SYS}/user/${name}`) === '0')
      return `no namespace of the kind \`${kind}\` may be made: user.${name} is 0`;
  }
  return undefined;
}

/** Who may have refused, told by what was refused. */
function refused(said: string, read: ReadFact): string | undefined {
  if (/unrecognized option|invalid option/.test(said)) return `\`unshare\` is not that of util-linux: ${said}`;
  if (!/permission denied|not permitted/i.test(said)) return undefined;
  if (read(`${SYS}/kernel/apparmor_restrict_unprivileged_userns`) === '1') {
    return `AppArmor keeps user namespaces without rights: kernel.apparmor_restrict_unprivileged_userns is 1 (${said})`;
  }
  if (/^mount:/.test(said)) {
    return `this container hides parts of /proc or /sys, so that none of one’s own may be mounted (${said})`;
  }
  if (/^Seccomp:\s*2$/m.test(read('/proc/self/status') ?? '')) {
    return `a seccomp filter, as containers have one, forbids user namespaces (${said})`;
  }
  return undefined;
}

function readFact(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  try {
    return readFileSync(path, 'latin1').trimEnd();
  } catch {
    return undefined;
  }
}
