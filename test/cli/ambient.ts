import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readRunState, stateDirectoryPath } from '../../src/cli/demo/state-directory.ts';
import { type LabMode, remainingNamespaces, twoNodes } from '../../src/lab/index.ts';

export const entry = join(import.meta.dirname, '../../src/cli/main.ts');

/** How a run of `ambient` ended. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly environment?: Readonly<Record<string, string>>;
  /** Called with each piece of standard error, for a test that acts half-way. */
  readonly onProgress?: (text: string, child: ChildProcess) => void;
}

/** Runs `ambient <args…>` as a program of its own, to its end. */
export function ambient(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { environment, onProgress } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [entry, ...args], {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
      timeout: 120_000,
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      onProgress?.(text, child);
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

let meshes = 0;

/** A prefix that no other test and nobody at the machine has. */
export function freshPrefix(): string {
  return `akt-${process.pid}-${meshes++}-`;
}

/** What there still is of a run: nothing, where it cleaned up. */
export function leftOf(prefix: string): { namespaces: string[]; directory: boolean } {
  return {
    namespaces: remainingNamespaces(twoNodes(prefix)),
    directory: existsSync(stateDirectoryPath(prefix)),
  };
}

export const NOTHING = { namespaces: [], directory: false };

/** The process ids of a run, by name. */
export function processesOf(prefix: string): Map<string, number> {
  const { processes = [] } = readRunState(stateDirectoryPath(prefix)) ?? {};
  return new Map(processes.map(({ name, pid }) => [name, pid]));
}

/** Whether a process still does anything: a zombie that nobody has reaped does not. */
export function exists(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

/** Runs `body` beside a kept mesh, and takes it down whatever happens. */
export async function withKeptMesh(body: (prefix: string) => Promise<void>, mode: LabMode = 'node'): Promise<void> {
  const prefix = freshPrefix();
  const { code, stderr } = await ambient([
    ...['demo', '--mode', mode, '--keep', '--prefix', prefix, '--scenario', 'fast-path'],
  ]);
  try {
    if (code !== 0) throw new Error(`the mesh did not come up: ${stderr}`);
    await body(prefix);
  } finally {
    await ambient(['demo', '--down', '--prefix', prefix]);
  }
}
