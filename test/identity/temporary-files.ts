import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder for the files that `openssl` wants; gone at the end of the block that holds it. */
export function temporaryFiles() {
  const folder = mkdtempSync(join(tmpdir(), 'ambient-identity-'));
  return {
    path: (name: string): string => join(folder, name),
    read: (name: string): string => readFileSync(join(folder, name), 'utf8'),
    write(name: string, text: string): string {
      writeFileSync(join(folder, name), text, { mode: 0o600 });
      return join(folder, name);
    },
    [Symbol.dispose]: (): void => rmSync(folder, { recursive: true, force: true }),
  };
}
