import { execFileSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe } from 'vitest';
import { hasNamespacePrivileges, inUserNamespace } from '../../src/netns/index.ts';

/** The user that has no rights. */
export const NOBODY = 65534;

/** What a test needs of the machine it runs on. */
export interface Needs {
  /** CAP_NET_ADMIN and friends, be it of a user namespace: network namespaces, netlink writes, transparent sockets. */
  readonly root?: boolean;
  /** Other users to become: a user namespace made without root has one only. */
  readonly users?: boolean;
  /** Programs to be found on the PATH: `nft`, `ip`, `conntrack`, `openssl`. */
  readonly tools?: readonly string[];
}

function missing(needs: Needs): string | undefined {
  if ((needs.root || needs.users) && process.getuid?.() !== 0) return 'needs root';
  if (needs.root && !hasNamespacePrivileges()) return 'needs CAP_SYS_ADMIN and CAP_NET_ADMIN';
  if (needs.users && inUserNamespace() && !hasUser(NOBODY))
    return 'needs other users to become, and this user namespace has one';
  for (const tool of needs.tools ?? []) if (!onPath(tool)) return `needs the program ${tool}`;
  return undefined;
}

/** Whether this user namespace has such a user: user_namespaces(7), "User and group ID mappings". */
function hasUser(id: number): boolean {
  const lines = readFileSync('/proc/self/uid_map', 'latin1').trim().split('\n');
  return lines.some((line) => {
    const [first = 0, , count = 0] = line.trim().split(/\s+/).map(Number);
    return id >= first && id < first + count;
  });
}

function onPath(tool: string): boolean {
  const folders = `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`.split(delimiter);
  return folders.some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * A `describe` that is skipped, with the reason in its title, where the machine lacks what it needs. The reporter counts
 * the skipped; `.ci/run` turns them into a failure, since its machine has everything.
 */
export function describeRequiring(name: string, needs: Needs, body: () => void): void {
  describeUnless(missing(needs), name, body);
}

/** The same with a reason found out by the test itself; undefined where nothing is missing. */
export function describeUnless(reason: string | undefined, name: string, body: () => void): void {
  if (reason === undefined) describe(name, body);
  else if (process.env.CI === 'true') throw new Error(`${name}: ${reason}, and CI=true forbids skipping`);
  else describe.skip(`${name} [skipped: ${reason}]`, body);
}

/** Runs a tool and gives its standard output; its standard error is part of the error. For cross-checks against real tools. */
export function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 << 20,
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, LC_ALL: 'C' },
  });
}
