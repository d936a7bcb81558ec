import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { describe } from 'vitest';

/** The real peers: what `install.sh` beside this file installs. */
export type Program = 'envoy' | 'hbonepeer' | 'h2spec';

const root = join(import.meta.dirname, '../..');
const installed = process.env.AMBIENT_PEERS_DIR ?? join(root, 'node_modules/.cache/ambient-peers');

/** Where a peer's program is: what `ENVOY`, `HBONEPEER` or `H2SPEC` names, else what `install.sh` has installed. */
export function programPath(program: Program): string | undefined {
  const path = process.env[program.toUpperCase()] ?? join(installed, 'bin', program);
  try {
    accessSync(path, constants.X_OK);
    return path;
  } catch {
    return undefined;
  }
}

/**
 * A `describe` that is skipped, with the reason in its title, where a peer is not installed. Under `CI=true` that is a failure, unless
 * `AMBIENT_PEERS=optional` says that the machine cannot install them.
 */
export function describeWithPeer(name: string, programs: readonly Program[], body: () => void): void {
  const missing = programs.find((program) => programPath(program) === undefined);
  if (missing === undefined) return void describe(name, body);
  const reason = `needs the program ${missing}: test/peers/install.sh`;
  if (process.env.CI === 'true' && process.env.AMBIENT_PEERS !== 'optional') {
    throw new Error(`${name}: ${reason}, and CI=true forbids skipping`);
  }
  describe.skip(`${name} [skipped: ${reason}]`, body);
}
