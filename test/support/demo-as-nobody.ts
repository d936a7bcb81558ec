// A gate of .ci/run, started by root: `ambient demo` as nobody. Where this kernel has no user namespaces for others than root, says so, and
// is content.
import { spawnSync } from 'node:child_process';
import { EverybodysCopy } from './everybodys-copy.ts';

using copy = new EverybodysCopy();
const [program, args] = copy.asNobody('demo');
const { status, stderr } = spawnSync(program, args, {
  cwd: '/',
  encoding: 'utf8',
  stdio: ['ignore', 'inherit', 'pipe'],
  timeout: 60_000,
});
process.stderr.write(stderr);
process.exitCode = status === 2 && stderr.includes('cannot be had here') ? 0 : (status ?? 1);
