import { globSync, readFileSync, rmSync } from 'node:fs';
import { defineConfig, type Options } from 'tsup';

/** `rbac` for src/rbac/index.ts, `netlink/route` for src/netlink/route/index.ts: every folder whose index.ts is a module's page. */
const pages = globSync('src/*/**/index.ts')
  .filter((file) => /@module /.test(readFileSync(file, 'utf8')))
  .map((file) => [file.slice('src/'.length, -'/index.ts'.length), file]);

const common: Options = {
  format: 'esm',
  // The oldest Node of package.json's `engines`: it does not know `using` yet.
  target: 'node22.18',
  platform: 'node',
  sourcemap: true,
};

export default defineConfig((options) => {
  rmSync(options.outDir ?? 'dist', { recursive: true, force: true });
  return [
    {
      ...common,
      entry: { index: 'src/index.ts', ...Object.fromEntries(pages), cli: 'src/cli/main.ts' },
      // tsup sets `baseUrl` for this step, which TypeScript 6 warns about.
      dts: { compilerOptions: { ignoreDeprecations: '6.0' } },
      splitting: true,
    },
    {
      ...common,
      // By itself, since a chunk shared with other programs brings what only they need, the YAML parser for one: megabytes a thread.
      entry: { 'data-plane-worker': 'src/ztunnel/data-plane-worker.ts' },
      splitting: false,
    },
  ];
});
