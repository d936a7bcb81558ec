// `npm test`: vitest. Not run by root, it is started in a user namespace, where the tests of the kernel run for anybody; where there can
// be none, it says why, and they are skipped.
import { fileURLToPath } from 'node:url';
import { hasNamespacePrivileges, NetnsError, runInUserNamespace } from '../../src/netns/index.ts';

const vitest = fileURLToPath(new URL('vitest.mjs', import.meta.resolve('vitest/package.json')));
const args = [vitest, 'run', ...process.argv.slice(2)];

async function runHere(): Promise<void> {
  process.argv = [process.execPath, ...args];
  await import(vitest);
}

async function runInside(): Promise<void> {
  try {
    process.exitCode = await runInUserNamespace({ command: process.execPath, args });
  } catch (error) {
    if (!(error instanceof NetnsError)) throw error;
    process.stderr.write(`tests that need root are skipped: ${error.message}\n`);
    await runHere();
  }
}

if (process.getuid?.() === 0 && hasNamespacePrivileges()) await runHere();
else await runInside();
