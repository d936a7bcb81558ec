import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The version of the package this file is in: src/cli/version.ts, or a file of dist. */
export const version = readVersion(dirname(fileURLToPath(import.meta.url)));

function readVersion(directory: string): string {
  for (let at = directory; at !== dirname(at); at = dirname(at)) {
    try {
      const { name, version } = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8')) as Record<string, unknown>;
      if (name === 'ambient-kit') return String(version);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return 'unknown';
}
