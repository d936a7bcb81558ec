import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeRequiring } from './support/require.ts';

/**
 * The README's programs, run as they stand. Their imports of `ambient-kit/x` are turned to src/x, so that no build is needed. In front of
 * a fence, an HTML comment may say what is needed: `<!-- needs root -->`, or `<!-- not run: why -->` (checked for types all the same).
 */
const root = join(import.meta.dirname, '..');
// Not below node_modules, where Node strips no types.
const folder = join(root, 'test', `.readme-${process.pid}`);
const readme = existsSync(join(root, 'README.md')) ? readFileSync(join(root, 'README.md'), 'utf8') : '';
const run = promisify(execFile);

const snippets = [...readme.matchAll(/(?:<!--([^>]*)-->\s*\n)?^```ts\n([\s\S]*?)^```$/gm)].map(
  ([, note, code], index) => {
    const line = readme.slice(0, readme.indexOf(code!)).split('\n').length;
    return {
      title: `README.md line ${line}`,
      file: join(folder, `${index + 1}.ts`),
      note: note ?? '',
      source: code!.replaceAll(/(['"])ambient-kit(\/[\w/-]+)?\1/g, (_whole, quote, page = '') => {
        return `${quote}${relative(folder, join(root, 'src', page, 'index.ts'))}${quote}`;
      }),
    };
  },
);

beforeAll(() => {
  mkdirSync(folder, { recursive: true });
  for (const { file, source } of snippets) writeFileSync(file, `${source}\nexport {};\n`);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('README.md', () => {
  it('has programs', () => expect(snippets.length).toBeGreaterThan(0));

  it('has programs whose types are right', { timeout: 120_000 }, async () => {
    const project = {
      extends: relative(folder, join(root, 'tsconfig.json')),
      // A short example may leave a result unused.
      compilerOptions: {
        noUnusedLocals: false,
        noUnusedParameters: false,
        typeRoots: [join(root, 'node_modules/@types')],
      },
      include: ['*.ts'],
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(project));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const { stdout } = await run(process.execPath, [tsc, '-p', folder]).catch((error) => error);
    expect(stdout).toBe('');
  });
});

for (const { title, file, note } of snippets.filter(({ note }) => !/not run:/.test(note))) {
  describeRequiring(title, { root: /needs root/i.test(note) }, () => {
    it('ends by itself with exit code 0', { timeout: 60_000 }, async () => {
      const result = await run(process.execPath, [file], { timeout: 55_000, cwd: root }).catch((error) => error);
      expect({ code: result.code ?? 0, stderr: result.stderr }).toEqual({ code: 0, stderr: '' });
    });
  });
}
