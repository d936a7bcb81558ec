import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe } from 'vitest';

/** What a test needs of the machine it runs on. */
export interface Needs {
  /** CAP_NET_ADMIN and friends: network namespaces, netlink writes, transparent sockets. */
  readonly root?: boolean;
  /** Programs to be found on the PATH: `nft`, `ip`, `conntrack`, `openssl`. */
  readonly tools?: readonly string[];
}

function missing(needs: Needs): string | undefined {
  if (needs.root && process.getuid?.() !== 0) return 'needs root';
  for (const tool of needs.tools ?? []) if (!onPath(tool)) return `needs the program ${tool}`;
  return undefined;
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
  const reason = missing(needs);
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
