import { join } from 'node:path';
import type { Processes } from './processes.ts';

const ROOT = join(import.meta.dirname, '..');
const BUILD_TIMEOUT_MS = 120_000;

/**
 * Builds the package as it is published, from the sources as they are now: stripping types while the program runs costs it tens of
 * megabytes that no user pays for.
 *
 * @param folder - below the repository, so that dependencies are found
 * @returns the program `ambient`
 */
export async function buildOurs(processes: Processes, folder: string, signal: AbortSignal): Promise<string> {
  const tsup = join(ROOT, 'node_modules/tsup/dist/cli-default.js');
  const args = [tsup, '--no-dts', '--no-sourcemap', '--silent', '--out-dir', folder];
  await processes.run({ program: process.execPath, args, directory: ROOT }, { timeoutMs: BUILD_TIMEOUT_MS, signal });
  return join(folder, 'cli.js');
}

/** Where a run builds to: beside other tools' caches, and taken away afterwards. */
export function buildFolder(): string {
  return join(ROOT, `node_modules/.cache/ambient-bench-${process.pid}`);
}
