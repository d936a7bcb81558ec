import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { AmbientError } from '../../errors/index.ts';
import { DEFAULT_PREFIX, type LabDescription, type LabMode, twoNodes } from '../../lab/index.ts';
import { hasNamespacePrivileges } from '../../netns/index.ts';
import { ownNamespacesPid, runInOwnNamespaces } from '../own-namespaces.ts';
import { UsageError } from '../usage-error.ts';
import { DemoMesh } from './demo-mesh.ts';
import { bringDown, findRemains, type Remains } from './down.ts';
import { downCommand, lookAroundText } from './look-around.ts';
import { type DemoReport, scenarioText, summaryText } from './report.ts';
import type { Scenario } from './scenario.ts';
import { SCENARIO_NAMES, scenarios as scenariosOf } from './scenarios/index.ts';
import { stateDirectoryPath } from './state-directory.ts';

const HELP = `Usage: ambient demo [options]

Builds a mesh of two nodes in network namespaces, sends requests along every path, and shows hop by hop what the
kernel and the wire say of them. Needs Linux and nothing else; removes everything at the end. Not run by root, it makes
itself a user namespace, where the kernel allows that.

Options:
  --scenario NAME  only this one; may be given several times:
                   ${SCENARIO_NAMES.join(', ')}
  --mode MODE      node: redirected on the nodes, to a proxy in a namespace of its own (default);
                   pod: redirected in each pod, to a proxy that serves it from inside, as Istio does since 1.24
  --json           one JSON document on standard output
  --keep           leave the mesh running, and say how to look around; without root until Ctrl-C
  --down           remove what a kept or killed run left
  --prefix NAME    what the names of the namespaces begin with (default: ${DEFAULT_PREFIX}), for a second mesh beside the first
  --help           this text
`;

const SIGNAL_EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** Somebody asked the demo to end. */
class Interrupted extends Error {
  override readonly name = 'Interrupted';
  readonly exitCode: number;

  constructor(signal: keyof typeof SIGNAL_EXIT_CODES) {
    super(`ended by ${signal}`);
    this.exitCode = SIGNAL_EXIT_CODES[signal];
  }
}

/**
 * `ambient demo`. Results on standard output, progress on standard error.
 *
 * @returns the exit code: 0 where every scenario passed, 1 where one did not, 130 and the like after a signal
 * @throws {UsageError} exit code 2
 */
export async function demoCommand(args: string[]): Promise<number> {
  const options = parseOptions(args);
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const description = twoNodes(options.prefix);
  const isPrivileged = process.getuid?.() === 0 && hasNamespacePrivileges();
  if (!isPrivileged && !options.down) return runInOwnNamespaces('ambient demo');
  const remains = findRemains(options.prefix, description);
  if (!isPrivileged && remains !== undefined) {
    throw new UsageError(
      'what is left here is root’s, as a mesh of anybody else ends with its demo: run it again with sudo',
    );
  }
  if (options.down) return down(remains, description);
  if (remains !== undefined) throw new UsageError(remainsText(remains, options.prefix));
  return runDemo(options, description);
}

interface DemoOptions {
  readonly help: boolean;
  readonly json: boolean;
  readonly keep: boolean;
  readonly down: boolean;
  readonly prefix: string;
  readonly mode: LabMode;
  readonly scenarios: readonly Scenario[];
}

function parseOptions(args: string[]): DemoOptions {
  const { values } = parseArgs({
    args,
    options: {
      help: { type: 'boolean', short: 'h', default: false },
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      down: { type: 'boolean', default: false },
      prefix: { type: 'string', default: DEFAULT_PREFIX },
      mode: { type: 'string' },
      scenario: { type: 'string', multiple: true, default: [] },
    },
  });
  const { help, json, keep, down, prefix, scenario, mode = 'node' } = values;
  if (!/^[a-z][a-z0-9-]{0,30}-$/.test(prefix)) {
    throw new UsageError(`--prefix ${JSON.stringify(prefix)} is not a letter, then a-z, 0-9 and -, with - at the end`);
  }
  if (down && (keep || json || scenario.length > 0 || values.mode !== undefined))
    throw new UsageError('--down goes with no option but --prefix');
  if (mode !== 'node' && mode !== 'pod') throw new UsageError(`--mode ${JSON.stringify(mode)} is neither node nor pod`);
  const known: readonly string[] = SCENARIO_NAMES;
  const unknown = scenario.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`there is no scenario ${JSON.stringify(unknown)}: it is one of ${known.join(', ')}`);
  }
  const scenarios = scenariosOf[mode].filter(({ name }) => scenario.length === 0 || scenario.includes(name));
  return { help, json, keep, down, prefix, mode, scenarios };
}

function remainsText({ kind }: Remains, prefix: string): string {
  const what = {
    running: 'a demo is running already: wait for it, or end it',
    kept: 'a kept mesh is running already: remove it',
    killed: 'a killed run has left something behind: remove it',
  }[kind];
  return `${what} with \`${downCommand(prefix)}\``;
}

async function down(remains: Remains | undefined, description: LabDescription): Promise<number> {
  if (remains === undefined) {
    process.stdout.write('nothing to remove\n');
    return 0;
  }
  const { processes, namespaces } = await bringDown(remains, description);
  const count = (number: number, what: string) => `${number} ${what}${number === 1 ? '' : 's'}`;
  const directory = remains.hasDirectory ? `, ${remains.directory}` : '';
  const removed = `${count(processes.length, 'process').replace('processs', 'processes')}, ${count(namespaces.length, 'namespace')}${directory}`;
  process.stdout.write(`removed ${removed}\n`);
  return 0;
}

async function runDemo(options: DemoOptions, description: LabDescription): Promise<number> {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(2).padStart(5)} s`;
  const abort = new AbortController();
  const { signal } = abort;
  const onSignal = (name: NodeJS.Signals) => abort.abort(new Interrupted(name as keyof typeof SIGNAL_EXIT_CODES));
  for (const name of Object.keys(SIGNAL_EXIT_CODES)) process.on(name, onSignal);
  // A reader that is gone (`| head`) ends the run like Ctrl-C.
  process.stdout.on('error', () => abort.abort(new Interrupted('SIGHUP')));
  process.stderr.on('error', () => {});
  const onProgress = (step: string) => void process.stderr.write(`${seconds()}  ${step}\n`);
  const ownPid = ownNamespacesPid();
  if (ownPid !== undefined) onProgress(`not as root: in a user namespace, which ends with process ${ownPid}`);
  let mesh: DemoMesh | undefined;
  try {
    mesh = await DemoMesh.build(description, stateDirectoryPath(options.prefix), {
      mode: options.mode,
      signal,
      onProgress,
      onUnexpectedEnd: (error) => abort.abort(error),
    });
    onProgress('scenarios');
    if (!options.json) process.stderr.write('\n');
    const results = await mesh.run(options.scenarios, signal, (result) => {
      if (options.json) onProgress(`${result.name}: ${result.pass ? 'pass' : 'FAIL'}`);
      else process.stdout.write(scenarioText(result));
    });
    signal.throwIfAborted();
    if (options.keep) mesh.leave();
    else await mesh.close();
    const pass = results.every((result) => result.pass);
    const elapsedMs = performance.now() - started;
    const report: DemoReport = { mode: options.mode, pass, scenarios: results, elapsedMs, kept: options.keep };
    if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else process.stdout.write(summaryText(report));
    if (options.keep) {
      (options.json ? process.stderr : process.stdout).write(
        `\n${lookAroundText(description, options.prefix, options.mode, ownPid)}`,
      );
      if (ownPid !== undefined) await interruption(signal);
    }
    return pass ? 0 : 1;
  } catch (thrown) {
    await mesh?.close();
    // Node's own timers and streams throw an AbortError that hides why.
    const error: unknown = signal.aborted ? signal.reason : thrown;
    if (error instanceof Interrupted) {
      process.stderr.write(`ambient demo: ${error.message}, everything is removed\n`);
      return error.exitCode;
    }
    if (hasCode(error, 'EPERM')) {
      throw new UsageError(
        'ambient demo needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW, not all of which this root has: in a container, run it with --privileged',
      );
    }
    throw error;
  } finally {
    for (const name of Object.keys(SIGNAL_EXIT_CODES)) process.off(name, onSignal);
  }
}

/** Waits until somebody ends the demo. */
async function interruption(signal: AbortSignal): Promise<void> {
  const MAX_TIMER_MS = 2 ** 31 - 1;
  while (!signal.aborted) await sleep(MAX_TIMER_MS, undefined, { signal }).catch(() => {});
}

function hasCode(error: unknown, code: string): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if (AmbientError.is(at) && at.code === code) return true;
  }
  return false;
}
