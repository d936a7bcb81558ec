import { createLab, type Lab, type LabDescription, namespaceName } from '../../lab/index.ts';
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

/** Told of each step before it begins. */
export type Progress = (step: string) => void;

/** The mesh of the demo while it stands: namespaces, files, processes. Owned by whoever made it, who closes or leaves it. */
export class DemoMesh {
  readonly lab: Lab;
  readonly #state: StateDirectory;
  readonly #processes: DemoProcesses;
  #isStanding = true;

  private constructor(lab: Lab, state: StateDirectory, processes: DemoProcesses) {
    this.lab = lab;
    this.#state = state;
    this.#processes = processes;
  }

  /**
   * Builds everything and waits until the proxies and servers are ready.
   *
   * @param onUnexpectedEnd - told when a proxy or server ends that nobody stopped
   * @throws `signal.reason`, or what went wrong; what was made is gone again
   */
  static async build(
    description: LabDescription,
    directory: string,
    options: { signal: AbortSignal; onProgress: Progress; onUnexpectedEnd: (error: Error) => void },
  ): Promise<DemoMesh> {
    const { signal, onProgress, onUnexpectedEnd } = options;
    const state = new StateDirectory(directory);
    let lab: Lab | undefined;
    let processes: DemoProcesses | undefined;
    // A crash comes by here and by no `finally`.
    const onExit = () => {
      processes?.stopSync();
      lab?.closeSync();
      state.remove();
    };
    process.on('exit', onExit);
    try {
      lab = await createLab(description, { signal, onProgress });
      const mesh = new DemoMesh(lab, state, new DemoProcesses(state, onUnexpectedEnd));
      processes = mesh.#processes;
      mesh.#forgetExit = () => process.off('exit', onExit);
      onProgress('certificate authority and registry');
      const environments = await writeMesh(description, state, signal);
      onProgress('proxies and servers');
      const { nodes } = description;
      const started = nodes.map(({ name, ztunnel }) =>
        mesh.#processes.start(ztunnel.name, ['ztunnel'], environments.get(name)),
      );
      for (const { name, port } of APPS) {
        const where = ['--namespace', namespaceName(description, name), '--port', String(port), '--name', name];
        started.push(mesh.#processes.start(`${name}-app`, ['demo-app', ...where]));
      }
      await Promise.all(started.map((program) => program.ready(signal)));
      return mesh;
    } catch (error) {
      await processes?.stop();
      lab?.closeSync();
      state.remove();
      process.off('exit', onExit);
      throw error;
    }
  }

  #forgetExit: () => void = () => {};

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
    this.#forgetExit();
  }

  /** Leaves everything as it is, for `--down`. */
  leave(): void {
    if (!this.#isStanding) return;
    this.#isStanding = false;
    this.#state.keep();
    this.#processes.leave();
    this.lab.leave();
    this.#forgetExit();
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
    return { name, title, pass: false, checks: [], failure: error instanceof Error ? error.message : String(error) };
  }
}
