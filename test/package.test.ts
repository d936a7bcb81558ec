import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { modules } from '../src/index.ts';

const root = join(import.meta.dirname, '..');

it('every page (an index.ts with @module) is named by the root module, exported by package.json, and says its own name', () => {
  const pages = globSync('src/*/**/index.ts', { cwd: root })
    .filter((file) => /@module /.test(readFileSync(join(root, file), 'utf8')))
    .map((file) => file.slice('src/'.length, -'/index.ts'.length))
    .sort();
  expect([...modules]).toEqual(pages);
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const expected = pages.map((page) => [`./${page}`, { types: `./dist/${page}.d.ts`, default: `./dist/${page}.js` }]);
  expect(exports).toEqual({
    '.': { types: './dist/index.d.ts', default: './dist/index.js' },
    ...Object.fromEntries(expected),
    './package.json': './package.json',
  });
  for (const page of pages) {
    expect(readFileSync(join(root, 'src', page, 'index.ts'), 'utf8')).toMatch(new RegExp(`@module ${page}\\n`));
  }
});
