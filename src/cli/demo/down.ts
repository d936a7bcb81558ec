import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type LabDescription, remainingNamespaces, removeLab } from '../../lab/index.ts';
import {
  isRunning,
  type RecordedProcess,
  type RunState,
  readRunState,
  removeStateDirectory,
  stateDirectoryPath,
} from './state-directory.ts';

/** How long processes may take to end when they are asked to; the demo itself takes everything down meanwhile. */
const DEMO_END_TIMEOUT_MS = 5_000;
const CHILD_END_TIMEOUT_MS = 1_500;
const POLL_MS = 20;

/** What there is of a run in this place. */
export interface Remains {
  readonly kind: 'running' | 'kept' | 'killed';
  readonly directory: string;
  readonly hasDirectory: boolean;
  readonly state: RunState | undefined;
  readonly namespaces: readonly string[];
}

/** Looks for a run under way, a kept one, or what a killed one left. */
export function findRemains(prefix: string, description: LabDescription): Remains | undefined {
  const directory = stateDirectoryPath(prefix);
  const hasDirectory = existsSync(directory);
  const state = readRunState(directory);
  const namespaces = remainingNamespaces(description);
  if (!hasDirectory && namespaces.length === 0) return undefined;
  const kind = state === undefined ? 'killed' : state.isKept ? 'kept' : isRunning(state.demo) ? 'running' : 'killed';
  return { kind, directory, hasDirectory, state, namespaces };
}

/** What was taken away. */
export interface Removed {
  readonly processes: readonly string[];
  readonly namespaces: readonly string[];
}

/** Removes what a kept or killed run left, or ends one that is under way. */
export async function bringDown(remains: Remains, description: LabDescription): Promise<Removed> {
  const { state, directory } = remains;
  const processes: string[] = [];
  if (state !== undefined) {
    if (!state.isKept) processes.push(...(await end([state.demo], DEMO_END_TIMEOUT_MS)));
    // A run under way may have started more since.
    processes.push(...(await end((readRunState(directory) ?? state).processes, CHILD_END_TIMEOUT_MS)));
  }
  removeLab(description);
  removeStateDirectory(directory);
  return { processes, namespaces: remains.namespaces };
}

/** Ends those that still run, asking first. Each is looked at again right before it is sent anything: its number may be another's. */
async function end(processes: readonly RecordedProcess[], timeoutMs: number): Promise<string[]> {
  const found = processes.filter(isRunning);
  for (const process of found) send(process, 'SIGTERM');
  const deadline = performance.now() + timeoutMs;
  while (found.some(isRunning) && performance.now() < deadline) await sleep(POLL_MS);
  for (const process of found) send(process, 'SIGKILL');
  while (found.some(isRunning) && performance.now() < deadline + timeoutMs) await sleep(POLL_MS);
  return found.map(({ name }) => name);
}

function send(target: RecordedProcess, signal: NodeJS.Signals): void {
  if (!isRunning(target)) return;
  try {
    process.kill(target.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
