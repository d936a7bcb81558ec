import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createNamespace, deleteNamespace, listNamespaces } from '../../src/netns/index.ts';
import { EverybodysCopy } from '../support/everybodys-copy.ts';
import { processesIn } from '../support/pid-namespace.ts';
import { describeRequiring, NOBODY } from '../support/require.ts';
import { freshPrefix, leftOf, NOTHING } from './ambient.ts';

const TIMEOUT_MS = 90_000;

let copy: EverybodysCopy;

interface Run {
  readonly child: ChildProcess;
  stdout: string;
  stderr: string;
  readonly ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

/** Starts `ambient <args…>` as nobody. */
function start(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Run {
  const [program, all] = copy.asNobody(...args);
  const child = spawn(program, all, {
    cwd: '/',
    // A process group of its own, as a shell gives a command.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
    timeout: TIMEOUT_MS,
  });
  let finish: (ended: Awaited<Run['ended']>) => void;
  const ended = new Promise<Awaited<Run['ended']>>((resolve) => {
    finish = resolve;
  });
  const run: Run = { child, stdout: '', stderr: '', ended };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    run.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    run.stderr += text;
  });
  child.on('close', (code) => finish({ code, stdout: run.stdout, stderr: run.stderr }));
  return run;
}

/** Whether this kernel has user namespaces for others than root. */
function mayNobody(): boolean {
  const drop = ['--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups'];
  const enter = ['unshare', '--user', '--map-root-user', '--mount', 'true'];
  return spawnSync('setpriv', [...drop, ...enter], { cwd: '/' }).status === 0;
}

/** The demo's own process id, from its first line. */
async function processOf(run: Run): Promise<number> {
  await expect.poll(() => run.stderr, { timeout: 10_000 }).toMatch(/ends with process \d+\n/);
  return Number(/ends with process (\d+)/.exec(run.stderr)![1]);
}

const pidNamespaceOf = (pid: number) => readlinkSync(`/proc/${pid}/ns/pid`);

describeRequiring(
  'ambient demo as nobody',
  { root: true, users: true, tools: ['setpriv', 'unshare', 'nsenter'] },
  () => {
    beforeAll(() => {
      copy = new EverybodysCopy();
    });
    afterAll(() => copy[Symbol.dispose]());

    if (!mayNobody()) {
      it('is refused in one sentence that says why', async () => {
        const { code, stderr } = await start(['demo']).ended;
        expect(code).toBe(2);
        expect(stderr).toMatch(/^ambient demo needs root, or a user namespace, which cannot be had here: .*\n$/);
      });
      return;
    }

    it.each(['node', 'pod'])(
      'passes every scenario in %s mode, from a folder it may not write, without a home',
      {
        timeout: TIMEOUT_MS,
      },
      async (mode) => {
        const { code, stdout, stderr } = await start(['demo', '--json', '--mode', mode]).ended;
        const { scenarios, pass } = JSON.parse(stdout);
        const failed = scenarios.flatMap(({ name, failure, checks }: Scenario) => [
          ...(failure === undefined ? [] : [`${name}: ${failure}`]),
          ...checks.filter((check) => !check.pass).map((check) => `${name}: ${JSON.stringify(check)}`),
        ]);
        expect(failed).toEqual([]);
        expect({ code, pass }).toEqual({ code: 0, pass: true });
        expect(scenarios.length).toBeGreaterThanOrEqual(6);
        for (const { name, wire } of scenarios)
          expect(wire?.lost ?? 0, `${name}: frames that the capture lost`).toBe(0);
        expect(stderr).toMatch(/^ *\d+\.\d\d s {2}not as root: in a user namespace, which ends with process \d+\n/);
      },
    );

    it('is refused in one sentence that names the switch, where the kernel has no user namespace for it', async () => {
      // In a user namespace, whose root may forbid more of them; what it then starts has no privileges.
      const [program, args] = copy.asNobody();
      const node = args.slice(args.indexOf('env'));
      const outer = ['unshare', '--user', '--map-root-user', 'sh', '-c'];
      const forbid = 'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"';
      const before = args.slice(0, args.indexOf('env'));
      const child = spawn(program, [...before, ...outer, forbid, 'sh', ...node, 'demo'], { cwd: '/' });
      let text = '';
      child.stdout.on('data', (chunk) => {
        text += chunk;
      });
      child.stderr.on('data', (chunk) => {
        text += chunk;
      });
      const code = await new Promise((resolve) => child.on('close', resolve));
      expect({ code, text }).toEqual({
        code: 2,
        text:
          'ambient demo needs root, or a user namespace, which cannot be had here: no namespace of the kind `user` may be made: ' +
          'user.max_user_namespaces is 0. Run it again with sudo, in a container with --privileged\n',
      });
    });

    it.each([
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const)('%s is passed on: it ends in order, exit %i', { timeout: TIMEOUT_MS }, async (signal, exitCode) => {
      const run = start(['demo', '--json']);
      const namespace = pidNamespaceOf(await processOf(run));
      await expect.poll(() => run.stderr, { timeout: 20_000 }).toMatch(/proxies and servers/);
      run.child.kill(signal);
      const { code, stdout, stderr } = await run.ended;
      expect({ code, stdout }).toEqual({ code: exitCode, stdout: '' });
      expect(stderr).toContain(`ended by ${signal}, everything is removed\n`);
      expect(processesIn(namespace)).toEqual([]);
    });

    it('is not seen outside; killed, it leaves nothing to remove', { timeout: TIMEOUT_MS }, async () => {
      const prefix = freshPrefix();
      const run = start(['demo', '--json', '--prefix', prefix]);
      const namespace = pidNamespaceOf(await processOf(run));
      await expect.poll(() => run.stderr, { timeout: 20_000 }).toMatch(/scenarios/);
      expect(processesIn(namespace).length).toBeGreaterThan(5);
      expect(leftOf(prefix)).toEqual(NOTHING);
      run.child.kill('SIGKILL');
      await expect.poll(() => processesIn(namespace)).toEqual([]);
    });

    it('--keep runs until it is ended, and says how to enter it', { timeout: TIMEOUT_MS }, async () => {
      const run = start(['demo', '--keep', '--scenario', 'cross-node']);
      const namespace = pidNamespaceOf(await processOf(run));
      await expect.poll(() => run.stdout, { timeout: 30_000 }).toMatch(/^ {2}tail -f .*decisions/m);
      expect(run.stdout).toMatch(/^The mesh runs until Ctrl-C\. In another terminal, enter it:$/m);
      expect(run.stdout).not.toContain('--down');
      const [enter, ...args] = /^ {2}(nsenter .*) sh$/m.exec(run.stdout)![1]!.split(' ');
      // As the user who started it, and no other.
      const identity = { uid: NOBODY, gid: NOBODY };
      const inside = (...command: string[]) =>
        execFileSync(enter!, [...args, ...command], { ...identity, cwd: '/', encoding: 'utf8', stdio: 'pipe' });
      expect(inside('ls', '/run/netns').split('\n')).toContain('ambient-sleep');
      expect(inside('cat', '/run/ambient-demo/node-b.decisions.jsonl')).toContain('httpbin');
      expect(inside('ip', 'netns', 'exec', 'ambient-sleep', 'curl', '-s', 'http://10.96.0.105/')).toContain(
        '10.244.1.10',
      );
      expect(run.child.exitCode).toBeNull();
      // What Ctrl-C does: to all of them.
      process.kill(-run.child.pid!, 'SIGINT');
      expect((await run.ended).code).toBe(0);
      expect(processesIn(namespace)).toEqual([]);
    });

    it('--down has nothing to do, and does not touch what is root’s', async () => {
      const prefix = freshPrefix();
      const down = () => start(['demo', '--down', '--prefix', prefix]).ended;
      expect(await down()).toEqual({ code: 0, stdout: 'nothing to remove\n', stderr: '' });
      const name = `${prefix}sleep`;
      createNamespace(name).close();
      try {
        const { code, stderr } = await down();
        expect(code).toBe(2);
        expect(stderr).toMatch(/^what is left here is root’s, .*: run it again with sudo\n$/);
        expect(listNamespaces()).toContain(name);
      } finally {
        deleteNamespace(name);
      }
    });

    it('a crash of the demo is its exit code', { timeout: TIMEOUT_MS }, async () => {
      const crash = `
      const { write } = process.stderr;
      process.stderr.write = function (text, ...rest) {
        if (String(text).includes('node-a: cables')) setImmediate(() => { throw new Error('a bug'); });
        return write.call(this, text, ...rest);
      };`;
      const { code, stderr } = await start(['demo'], {
        NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(crash)}`,
      }).ended;
      expect(code).toBe(1);
      expect(stderr).toContain('Error: a bug');
    });
  },
);

interface Scenario {
  readonly name: string;
  readonly failure?: string;
  readonly checks: readonly { readonly pass: boolean }[];
}
