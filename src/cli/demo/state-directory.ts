import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A process that cannot be taken for a later one with the same number. */
export interface RecordedProcess {
  readonly name: string;
  readonly pid: number;
  /** Clock ticks from boot to its start, field 22 of proc_pid_stat(5). */
  readonly startTime: string;
}

/** What a run writes down, for `--down` and for the next run. */
export interface RunState {
  /** The demo itself. */
  readonly demo: RecordedProcess;
  /** Whether it left the mesh running on purpose. */
  readonly isKept: boolean;
  readonly processes: readonly RecordedProcess[];
}

const STATE_FILE = 'state.json';

/** Where a run keeps what it has to: `/run/ambient-demo`. On a tmpfs, so that a reboot takes it away with the processes. */
export function stateDirectoryPath(prefix: string): string {
  return `/run/${prefix}demo`;
}

/** The directory of a run that is under way: 0700, its files 0600, since there are keys in it. */
export class StateDirectory {
  readonly path: string;
  #state: RunState;

  /**
   * Makes the directory, which is also the lock that keeps a second run out.
   *
   * @throws `EEXIST` where there is one
   */
  constructor(path: string) {
    mkdirSync(path, { mode: 0o700 });
    this.path = path;
    this.#state = { demo: describe('demo', process.pid), isKept: false, processes: [] };
    this.#save();
  }

  /** The path of a file or folder in it. */
  file(...names: string[]): string {
    return join(this.path, ...names);
  }

  /** Writes a file that only root can read, with the folders it is in. */
  write(name: string, content: string): string {
    const path = this.file(name);
    mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 });
    writeFileSync(path, content, { mode: 0o600 });
    return path;
  }

  /** Notes a child, at once. */
  record(name: string, pid: number): void {
    this.#state = { ...this.#state, processes: [...this.#state.processes, describe(name, pid)] };
    this.#save();
  }

  /** Notes that this run leaves everything where it is. */
  keep(): void {
    this.#state = { ...this.#state, isKept: true };
    this.#save();
  }

  remove(): void {
    removeStateDirectory(this.path);
  }

  #save(): void {
    const temporary = this.write(`${STATE_FILE}.new`, `${JSON.stringify(this.#state, null, 2)}\n`);
    renameSync(temporary, this.file(STATE_FILE));
  }
}

/** What a run left in `path`; undefined where there is none, or none that can be read. */
export function readRunState(path: string): RunState | undefined {
  try {
    return JSON.parse(readFileSync(join(path, STATE_FILE), 'utf8')) as RunState;
  } catch {
    return undefined;
  }
}

export function removeStateDirectory(path: string): void {
  rmSync(path, { recursive: true, force: true });
}

/** Whether a recorded process is still there, and still the same. A zombie does nothing any more. */
export function isRunning({ pid, startTime }: RecordedProcess): boolean {
  const found = processStat(pid);
  return found !== undefined && found.startTime === startTime && found.state !== 'Z';
}

function describe(name: string, pid: number): RecordedProcess {
  return { name, pid, startTime: processStat(pid)?.startTime ?? '' };
}

function processStat(pid: number): { state: string; startTime: string } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The name, in parentheses, may have spaces and parentheses of its own.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' };
}
