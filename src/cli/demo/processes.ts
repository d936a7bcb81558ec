import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { processFailure } from './demo-error.ts';
import type { StateDirectory } from './state-directory.ts';

/** How long a child may take to say that it is ready, and to end when it is asked to. */
const READY_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 1_500;
const POLL_MS = 10;
const INHERITED = ['PATH', 'HOME', 'LANG', 'TMPDIR', 'NODE_OPTIONS', 'AMBIENT_NETLINK_DEBUG'] as const;
/** How much of a log goes into the error about a child that ended. */
const LOG_TAIL_LINES = 8;

/** A program that the demo started: a proxy, or a pod's server. */
export interface DemoProcess {
  readonly name: string;
  readonly pid: number;
  readonly logPath: string;
  /** Resolves once a line of its log has `ready` as a word. */
  ready(signal: AbortSignal): Promise<void>;
}

/**
 * The programs of one run. Each is a session of its own, so that Ctrl-C at the terminal reaches the demo alone, which then ends them
 * in order; each is recorded in the state directory before anything else happens, for `--down`.
 */
export class DemoProcesses {
  readonly #state: StateDirectory;
  readonly #onUnexpectedEnd: (error: Error) => void;
  readonly #running = new Map<string, ChildProcess>();
  #isStopping = false;

  /** @param onUnexpectedEnd - told when a child ends that nobody stopped */
  constructor(state: StateDirectory, onUnexpectedEnd: (error: Error) => void) {
    this.#state = state;
    this.#onUnexpectedEnd = onUnexpectedEnd;
  }

  /** Starts `ambient <args…>` in the background, its output in `<name>.log` of the state directory. */
  start(name: string, args: readonly string[], environment: Readonly<Record<string, string>> = {}): DemoProcess {
    const logPath = this.#state.file(`${name}.log`);
    const log = openSync(logPath, constants.O_CREAT | constants.O_WRONLY | constants.O_APPEND, 0o600);
    let child: ChildProcess;
    try {
      child = spawn(process.execPath, [...process.execArgv, entryFile(), ...args], {
        cwd: '/',
        detached: true,
        stdio: ['ignore', log, log],
        env: { ...inherited(), ...environment },
      });
    } finally {
      closeSync(log);
    }
    const { pid } = child;
    if (pid === undefined) throw processFailure(`${name} could not be started from ${process.execPath}`);
    this.#state.record(name, pid);
    this.#running.set(name, child);
    child.once('exit', (code, signal) => {
      this.#running.delete(name);
      if (this.#isStopping) return;
      const how = signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
      this.#onUnexpectedEnd(processFailure(`${name} ${how}: ${tail(logPath)}`));
    });
    return { name, pid, logPath, ready: (signal) => waitReady(name, logPath, signal) };
  }

  /** Ends every child, asking first. Resolves when they are gone. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const children = [...this.#running.values()];
    const gone = Promise.all(children.map(ended));
    for (const child of children) child.kill('SIGTERM');
    const timeout = new AbortController();
    const late = sleep(STOP_TIMEOUT_MS, undefined, { signal: timeout.signal }).catch(() => {});
    await Promise.race([gone, late]);
    timeout.abort();
    this.stopSync();
    await gone;
  }

  /** Kills every child, at once: for an exit handler. */
  stopSync(): void {
    this.#isStopping = true;
    for (const child of this.#running.values()) child.kill('SIGKILL');
  }

  /** Lets the children go on without this process. */
  leave(): void {
    this.#isStopping = true;
    for (const child of this.#running.values()) child.unref();
    this.#running.clear();
  }
}

/** The file this program was started from, for children: `src/cli/main.ts` or `dist/cli.js`. */
export function entryFile(): string {
  return process.argv[1]!;
}

/** Nothing that would configure a proxy differently from one machine to the next. */
function inherited(): NodeJS.ProcessEnv {
  return Object.fromEntries(INHERITED.map((name) => [name, process.env[name]]));
}

async function waitReady(name: string, logPath: string, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (!/\bready\s*$/m.test(readFileSync(logPath, 'utf8'))) {
    if (performance.now() > deadline) {
      throw processFailure(`${name} was not ready after ${READY_TIMEOUT_MS / 1000} s: ${tail(logPath)}`);
    }
    await sleep(POLL_MS, undefined, { signal });
  }
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once('exit', () => resolve()));
}

function tail(logPath: string): string {
  const lines = readFileSync(logPath, 'utf8').trimEnd().split('\n').slice(-LOG_TAIL_LINES);
  const text = lines.join('\n  ');
  return text === '' ? 'it said nothing' : `it said\n  ${text}`;
}
