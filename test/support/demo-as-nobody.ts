// A gate of .ci/run, started by root: `ambient demo` as nobody, in both modes. Where this kernel has no user namespaces for others than
// root, it says so, and is content.
import { spawnSync } from 'node:child_process';
import { EverybodysCopy } from './everybodys-copy.ts';

using copy = new EverybodysCopy();
for (const mode of ['node', 'pod']) {
  const [program, args] = copy.asNobody('demo', '--mode', mode);
  const { status, stderr } = spawnSync(program, args, {
    cwd: '/',
    encoding: 'utf8',
    stdio: ['ignore', 'inherit', 'pipe'],
    timeout: 60_000,
  });
  process.stderr.write(stderr);
  if (status === 2 && stderr.includes('cannot be had here')) break;
  process.exitCode ||= status ?? 1;
}
