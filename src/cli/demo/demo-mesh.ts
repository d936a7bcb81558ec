import { messageOf } from '../../errors/index.ts';
import { createLab, type Lab, type LabDescription, type LabMode, namespaceName, removeLab } from '../../lab/index.ts';
import { DecisionLog } from './decision-log.ts';
import { LinkWatch } from './link-watch.ts';
import { decisionLogPath, writeMesh } from './mesh.ts';
import { Observer } from './observer.ts';
import { DemoProcesses } from './processes.ts';
import type { Scenario, ScenarioContext, ScenarioResult } from './scenario.ts';
import { StateDirectory } from './state-directory.ts';

/** The pods' servers and their ports. */
const APPS = [
  { name: 'httpbin', port: 80 },
  { name: 'client2', port: 80 },
  { name: 'outside', port: 8080 },
] as const;

/** Options of {@link DemoMesh.build}. */
export interface BuildOptions {
  readonly mode: LabMode;
  readonly signal: AbortSignal;
  /** Told of each step before it begins. */
  readonly onProgress: (step: string) => void;
  /** Told when a proxy or server ends that nobody stopped. */
  readonly onUnexpectedEnd: (error: Error) => void;
}

/** The mesh of the demo while it stands: namespaces, files, processes. Owned by whoever made it, who closes or leaves it. */
export class DemoMesh {
  readonly lab: Lab;
  readonly #state: StateDirectory;
  readonly #processes: DemoProcesses;
  /** The exit handler, which takes everything away at once. */
  readonly #onExit: () => void;
  #isStanding = true;

  private constructor(lab: Lab, state: StateDirectory, processes: DemoProcesses, onExit: () => void) {
    this.lab = lab;
    this.#state = state;
    this.#processes = processes;
    this.#onExit = onExit;
  }

  /**
   * Builds everything and waits until the proxies and servers are ready.
   *
   * @param directory - where its files go; made by this, and removed with the rest
   * @throws `EEXIST` where there is such a directory; `signal.reason`; what went wrong. What was made is gone again
   */
  static async build(description: LabDescription, directory: string, options: BuildOptions): Promise<DemoMesh> {
    const { mode, signal, onProgress, onUnexpectedEnd } = options;
    const state = new StateDirectory(directory);
    const processes = new DemoProcesses(state, onUnexpectedEnd);
    // A crash comes by here and by no `finally`. By name, since it may come while the lab is half-way: with the directory being ours,
    // so are these names.
    const onExit = () => {
      processes.stopSync();
      removeLab(description);
      state.remove();
    };
    process.on('exit', onExit);
    let lab: Lab | undefined;
    try {
      lab = await createLab(description, { mode, signal, onProgress });
      onProgress('certificate authority and registry');
      const environments = await writeMesh(description, state, mode, signal);
      onProgress('proxies and servers');
      const started = description.nodes.map(({ name, ztunnel }) =>
        processes.start(ztunnel.name, ['ztunnel'], environments.get(name)),
      );
      for (const { name, port } of APPS) {
        const where = ['--namespace', namespaceName(description, name), '--port', String(port), '--name', name];
        started.push(processes.start(`${name}-app`, ['demo-app', ...where]));
      }
      await Promise.all(started.map((program) => program.ready(signal)));
      return new DemoMesh(lab, state, processes, onExit);
    } catch (error) {
      await processes.stop();
      lab?.closeSync();
      state.remove();
      process.off('exit', onExit);
      throw error;
    }
  }

  /** Runs scenarios one after another; a failed one does not stop the others, an abort does. */
  async run(
    scenarios: readonly Scenario[],
    signal: AbortSignal,
    onResult: (result: ScenarioResult) => void,
  ): Promise<ScenarioResult[]> {
    using observer = new Observer(this.lab);
    using link = new LinkWatch(this.lab, 'node-a');
    const log = (node: string) => new DecisionLog(decisionLogPath(this.#state, node));
    const decisions = { 'node-a': log('node-a'), 'node-b': log('node-b') };
    const context: ScenarioContext = { lab: this.lab, observer, link, decisions, signal };
    const results: ScenarioResult[] = [];
    for (const scenario of scenarios) {
      const result = await runScenario(scenario, context);
      results.push(result);
      onResult(result);
    }
    return results;
  }

  /** Ends the processes and removes everything. A second call does nothing. */
  async close(): Promise<void> {
    if (!this.#isStanding) return;
    this.#isStanding = false;
    await this.#processes.stop();
    this.lab.closeSync();
    this.#state.remove();
    process.off('exit', this.#onExit);
  }

  /** Leaves everything as it is, for `--down`. */
  leave(): void {
    if (!this.#isStanding) return;
    this.#isStanding = false;
    this.#state.keep();
    this.#processes.leave();
    this.lab.leave();
    process.off('exit', this.#onExit);
  }
}

async function runScenario({ name, title, run }: Scenario, context: ScenarioContext): Promise<ScenarioResult> {
  try {
    context.signal.throwIfAborted();
    const evidence = await run(context);
    const pass = evidence.checks.length > 0 && evidence.checks.every((check) => check.pass);
    return { name, title, pass, ...evidence };
  } catch (error) {
    context.signal.throwIfAborted();
    return { name, title, pass: false, checks: [], failure: messageOf(error) };
  }
}
