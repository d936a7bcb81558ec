import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');

/** Codes as the sources throw them: whole string literals. What comments say in back quotes is checked against these too. */
const thrown = new Set<string>();
const mentioned = new Map<string, string>();
/** `ERR_RBAC_…` is ours, `ERR_LIB_PEM` is OpenSSL's. */
const rooms = new Set(globSync('src/*/', { cwd: root }).map((folder) => folder.split('/')[1]!.toUpperCase()));
for (const below of ['NFTABLES', 'IPSET', 'DEMO']) rooms.add(below);
for (const file of globSync('src/**/*.ts', { cwd: root })) {
  const source = read(file);
  for (const [, code] of source.matchAll(/['"](ERR_[A-Z0-9_]+)['"]/g)) {
    if (rooms.has(code!.split('_')[1]!)) thrown.add(code!);
  }
  for (const [, code] of source.matchAll(/\b(ERR_[A-Z0-9]+_[A-Z0-9_]*[A-Z0-9])\b(?![_…])/g)) {
    if (rooms.has(code!.split('_')[1]!)) mentioned.set(code!, file);
  }
}
const table = [...read('docs/ERRORS.md').matchAll(/^\| `(ERR_[A-Z0-9_]+)` +\| (.+?) +\|$/gm)];
const documented = table.map(([, code]) => code!);

describe('docs/ERRORS.md', () => {
  it('has every code that the sources throw, and no other, in order', () => {
    expect(thrown.size).toBeGreaterThan(50);
    expect(documented).toEqual([...thrown].sort());
  });

  it('says what happened, in a sentence', () => {
    for (const [, code, text] of table) expect(text, code).toMatch(/^[A-Z].{10,}\.$/);
  });

  it('knows every code that a comment in the sources mentions', () => {
    expect([...mentioned].filter(([code]) => !thrown.has(code))).toEqual([]);
  });
});

describe('docs/LIMITS.md', () => {
  const sections = new Map(
    read('docs/LIMITS.md')
      .split(/^## /m)
      .slice(1)
      .map((section) => [section.split('\n', 1)[0]!, section]),
  );

  // An option is a limit by its name: `max…`, `…Ms`, or `…Bytes`, optional and with a default in its comment.
  const limits = globSync('src/*/**/*.ts', { cwd: root }).flatMap((file) =>
    [...read(file).matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*readonly ((?:max[A-Z]|[a-z])\w*)\?:\s*number/g)]
      .filter(([, comment, name]) => /[Dd]efault/.test(comment!) && /^max[A-Z]|Ms$|Bytes$/.test(name!))
      .map(([, , name]) => ({ module: file.split('/')[1]!, name: name! })),
  );

  it('has every optional limit of the sources in the section of its module', () => {
    expect(limits.length).toBeGreaterThan(20);
    expect(limits.filter(({ module, name }) => !new RegExp(`[\`.]${name}\``).test(sections.get(module) ?? ''))).toEqual(
      [],
    );
  });

  it('names no module that is not there', () => {
    const modules = globSync('src/*/', { cwd: root }).map((folder) => folder.split('/')[1]);
    expect([...sections.keys()].filter((name) => !modules.includes(name))).toEqual([]);
  });
});
