import { execFileSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import { UsageError } from '../src/cli/usage-error.ts';
import { currentNamespace, readSysctl } from '../src/netns/index.ts';
import { BenchError } from './bench-error.ts';
import { buildFolder, buildOurs } from './build-ours.ts';
import { drawChart } from './chart.ts';
import { measure, Samples } from './measure.ts';
import { meshYaml } from './mesh-file.ts';
import { type BenchOptions, readOptions, USAGE } from './options.ts';
import { Processes } from './processes.ts';
import { formatReport, type Machine, makeReport, type Report } from './report.ts';
import { MEMORY_ROW, ROWS } from './rows.ts';
import { measureRules, RULES_ROW } from './rules.ts';
import { Site } from './site.ts';
import { CONGESTION_CONTROL } from './topology.ts';

/** Debian's packages have the same names. */
const TOOLS = ['iperf3', 'wrk', 'nginx'];

async function main(): Promise<number> {
  let options: BenchOptions | undefined;
  try {
    options = readOptions(process.argv.slice(2), process.env);
    if (options === undefined) {
      process.stdout.write(USAGE);
      return 0;
    }
    checkMachine(options);
  } catch (error) {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : error}\n`);
    return 2;
  }
  const interrupted = new AbortController();
  const onSignal = (name: NodeJS.Signals) => {
    // The second one does not wait for anything: the exit handler takes down what there is.
    if (interrupted.signal.aborted) process.exit(130);
    interrupted.abort(new BenchError(`${name}: stopped`));
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    const report = await run(options, interrupted);
    if (options.svgPath !== undefined) writeFileSync(options.svgPath, drawChart(report));
    process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report));
    return 0;
  } catch (error) {
    const cause = interrupted.signal.aborted ? interrupted.signal.reason : error;
    process.stderr.write(`bench: ${cause instanceof BenchError ? cause.message : (cause as Error).stack}\n`);
    return 1;
  }
}

async function run(options: BenchOptions, interrupted: AbortController): Promise<Report> {
  const { rounds, seconds, isShort } = options;
  try {
    const samples = isOfRulesOnly(options.rows) ? new Samples() : await runRows(options, interrupted);
    const prefix = `akb-${process.pid}-`;
    const rules = options.rows.includes(RULES_ROW)
      ? await measureRules({ rounds, isShort, prefix, signal: interrupted.signal, onProgress: progress })
      : [];
    return makeReport(samples, { machine: describeMachine(options), rounds, seconds }, rules);
  } finally {
    progress('');
  }
}

async function runRows(options: BenchOptions, interrupted: AbortController): Promise<Samples> {
  const directory = mkdtempSync(join(tmpdir(), 'ambient-bench-'));
  const processes = new Processes((error) => interrupted.abort(error));
  const sites: Site[] = [];
  const built = buildFolder();
  const cleanUp = () => {
    processes.killAll();
    for (const site of sites) site.lab.closeSync();
    for (const folder of [directory, built]) rmSync(folder, { recursive: true, force: true });
  };
  process.on('exit', cleanUp);
  try {
    if (options.cpuProfDirectory !== undefined) mkdirSync(options.cpuProfDirectory, { recursive: true });
    const meshPath = join(directory, 'mesh.yaml');
    const rows = ROWS.filter(({ id }) => options.rows.includes(id));
    const sessionsMeshPath = join(directory, 'mesh-sessions.yaml');
    writeFileSync(meshPath, meshYaml(0));
    writeFileSync(sessionsMeshPath, meshYaml(options.rounds * options.sessions));
    progress('building the package');
    const ambientBin = await buildOurs(processes, built, interrupted.signal);
    for (const peer of options.peers) {
      progress(`building two nodes for ${peer}`);
      const place = { processes, directory, ambientBin, signal: interrupted.signal };
      sites.push(await Site.open(peer, { ...options, ...place }));
    }
    const samples = await measure(sites, {
      ...options,
      rows,
      meshPath,
      sessionsMeshPath,
      withMemory: options.rows.includes(MEMORY_ROW),
      onProgress: progress,
    });
    for (const site of sites) await site.stopProxies();
    return samples;
  } finally {
    await processes.close();
    process.off('exit', cleanUp);
    cleanUp();
  }
}

function checkMachine({ rows }: BenchOptions): void {
  if (process.getuid?.() !== 0) throw new UsageError('network namespaces need root: run it as root');
  const missing = isOfRulesOnly(rows) ? [] : TOOLS.filter((tool) => !isOnPath(tool));
  if (missing.length > 0) {
    throw new UsageError(`${missing.join(', ')} not found; on Debian: apt-get install ${missing.join(' ')}`);
  }
}

/** Neither a proxy is measured, nor anything that has one beside it. */
function isOfRulesOnly(rows: readonly string[]): boolean {
  return rows.every((id) => id === RULES_ROW);
}

function isOnPath(tool: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function describeMachine({ ztunnelBin, peers, congestionControl }: BenchOptions): Machine {
  using own = currentNamespace();
  const processors = cpus();
  return {
    date: new Date().toISOString(),
    processor: processors[0]?.model ?? 'unknown',
    processors: processors.length,
    memoryBytes: totalmem(),
    kernel: release(),
    congestionControl: congestionControl ?? readSysctl(own, CONGESTION_CONTROL),
    node: process.versions.node,
    ztunnel: ztunnelBin === undefined || !peers.includes('ztunnel') ? undefined : ztunnelVersion(ztunnelBin),
  };
}

function ztunnelVersion(binary: string): string {
  const text = execFileSync(binary, ['version'], { encoding: 'utf8', timeout: 5_000 });
  return /GitRevision:"([^"]+)"/.exec(text)?.[1] ?? text.trim().slice(0, 200);
}

/** On a terminal one line that changes, elsewhere a line each. */
function progress(step: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${step}`);
  else if (step !== '') process.stderr.write(`${step}\n`);
}

// Debian has nginx where only root's own PATH looks.
process.env.PATH = `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`;
process.exitCode = await main();
