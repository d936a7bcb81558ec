import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NetworkNamespace } from '../src/netns/index.ts';
import { BenchError } from './bench-error.ts';

const STOP_TIMEOUT_MS = 8_000;
const MAX_OUTPUT_BYTES = 16 << 20;
const LOG_TAIL_LINES = 8;

/** A program to be run, and where. */
export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  /** Default: `/`. */
  readonly directory?: string;
  /** Default: the namespace of the bench. */
  readonly namespace?: NetworkNamespace | undefined;
  /** Added to the bench's own environment. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** A program that goes on until it is stopped: a proxy, a server. */
export interface BackgroundProcess {
  readonly name: string;
  readonly pid: number;
  readonly logPath: string;
  /** Asks it to end, kills it when it does not within 8 s. A second call waits for the same end. */
  stop(): Promise<void>;
}

/**
 * Every program of a run. Each is a session of its own, so that Ctrl-C reaches the bench alone, which then ends them by their
 * process ids.
 */
export class Processes {
  readonly #running = new Set<ChildProcess>();
  readonly #onUnexpectedEnd: (error: Error) => void;
  #isEnding = false;

  /** @param onUnexpectedEnd - told when a background program ends that nobody stopped */
  constructor(onUnexpectedEnd: (error: Error) => void) {
    this.#onUnexpectedEnd = onUnexpectedEnd;
  }

  /** Starts a program in the background, standard output and error to the end of `logPath`. */
  start(name: string, command: Command, logPath: string): BackgroundProcess {
    const log = openSync(logPath, constants.O_CREAT | constants.O_WRONLY | constants.O_APPEND, 0o600);
    let child: ChildProcess;
    try {
      child = this.#spawn(command, ['ignore', log, log]);
    } finally {
      closeSync(log);
    }
    if (child.pid === undefined) throw new BenchError(`${name}: ${command.program} could not be started`);
    let isStopping = false;
    let stopped: Promise<void> | undefined;
    child.once('exit', (code, signal) => {
      if (isStopping || this.#isEnding) return;
      this.#onUnexpectedEnd(new BenchError(`${name} ended (${signal ?? `code ${code}`}): ${tail(logPath)}`));
    });
    const stop = () => {
      isStopping = true;
      stopped ??= end(child);
      return stopped;
    };
    return { name, pid: child.pid, logPath, stop };
  }

  /**
   * Runs a program to its end.
   *
   * @returns its standard output
   * @throws {BenchError} when it fails, writes more than 16 MiB, or takes longer than `timeoutMs`; `signal.reason`
   */
  async run(command: Command, options: { readonly timeoutMs: number; readonly signal: AbortSignal }): Promise<string> {
    const { timeoutMs, signal } = options;
    signal.throwIfAborted();
    const child = this.#spawn(command, ['ignore', 'pipe', 'pipe']);
    let output = '';
    let errors = '';
    let failure: Error | undefined;
    const kill = (error: Error) => {
      failure ??= error;
      child.kill('SIGKILL');
    };
    const onAbort = () => kill(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(
      () => kill(new BenchError(`${command.program} took longer than ${timeoutMs} ms`)),
      timeoutMs,
    );
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.length > MAX_OUTPUT_BYTES) kill(new BenchError(`${command.program} writes without end`));
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-4096);
    });
    try {
      const code = await new Promise<number | null>((resolve, reject) => {
        child.once('error', reject);
        child.once('close', resolve);
      });
      if (failure !== undefined) throw failure;
      if (code !== 0) {
        const said = (errors || output).trim().slice(-2000);
        throw new BenchError(`${command.program} ${command.args.join(' ')} failed (code ${code}): ${said}`);
      }
      return output;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Kills every program, at once: for an exit handler. */
  killAll(): void {
    this.#isEnding = true;
    for (const child of this.#running) child.kill('SIGKILL');
  }

  /** Kills every program and waits until they are gone. */
  async close(): Promise<void> {
    const gone = [...this.#running].map((child) => new Promise<void>((resolve) => child.once('exit', () => resolve())));
    this.killAll();
    await Promise.all(gone);
  }

  #spawn(
    { program, args, directory = '/', namespace, environment }: Command,
    stdio: ('ignore' | 'pipe' | number)[],
  ): ChildProcess {
    const launch = () => {
      const env = { ...process.env, ...environment };
      return spawn(program, [...args], { cwd: directory, detached: true, stdio, env });
    };
    const child = namespace === undefined ? launch() : namespace.run(launch);
    this.#running.add(child);
    child.once('error', () => this.#running.delete(child));
    child.once('exit', () => this.#running.delete(child));
    return child;
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timeout = new AbortController();
  const late = sleep(STOP_TIMEOUT_MS, undefined, { signal: timeout.signal }).catch(() => {});
  await Promise.race([gone, late]);
  timeout.abort();
  child.kill('SIGKILL');
  await gone;
}

function tail(logPath: string): string {
  const text = readFileSync(logPath, 'utf8').trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n  ');
  return text === '' ? 'it said nothing' : `it said\n  ${text}`;
}
