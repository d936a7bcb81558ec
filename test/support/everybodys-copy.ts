import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NOBODY } from './require.ts';

const root = join(import.meta.dirname, '../..');
/** What `ambient` needs of node_modules. */
const PACKAGES = ['koffi', '@koromix', 'yaml', 'ip-num'] as const;

/** A copy of `ambient` and of Node that every user can read, as this checkout may not be. Disposing removes it. */
export class EverybodysCopy implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'akt-copy-'));

  constructor() {
    for (const name of ['src', 'package.json']) cpSync(join(root, name), join(this.folder, name), { recursive: true });
    for (const name of PACKAGES) {
      const path = join('node_modules', name);
      cpSync(join(root, path), join(this.folder, path), { recursive: true, dereference: true });
    }
    copyFileSync(process.execPath, join(this.folder, 'node'));
    execFileSync('chmod', ['-R', 'a+rX', this.folder]);
  }

  /** The command line of `ambient <args…>` as the user `nobody`, without a home. */
  asNobody(...args: string[]): [program: string, args: string[]] {
    const drop = ['--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups', 'env', '--unset=HOME'];
    return ['setpriv', [...drop, join(this.folder, 'node'), join(this.folder, 'src/cli/main.ts'), ...args]];
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
