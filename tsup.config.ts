import { existsSync, globSync, readFileSync } from 'node:fs';
import { defineConfig } from 'tsup';

/** `rbac` for src/rbac/index.ts, `netlink/route` for src/netlink/route/index.ts: every folder whose index.ts is a module's page. */
const pages = globSync('src/*/**/index.ts')
  .filter((file) => /@module /.test(readFileSync(file, 'utf8')))
  .map((file) => [file.slice('src/'.length, -'/index.ts'.length), file]);

/** What is started by path rather than imported. */
const programs = [
  ['cli', 'src/cli/main.ts'],
  ['data-plane-worker', 'src/ztunnel/data-plane-worker.ts'],
].filter(([, file]) => existsSync(file!));

export default defineConfig({
  entry: Object.fromEntries([['index', 'src/index.ts'], ...pages, ...programs]),
  format: 'esm',
  // The oldest Node of package.json's `engines`: it does not know `using` yet.
  target: 'node22.18',
  platform: 'node',
  // tsup sets `baseUrl` for this step, which TypeScript 6 warns about.
  dts: { compilerOptions: { ignoreDeprecations: '6.0' } },
  sourcemap: true,
  splitting: true,
  clean: true,
});
