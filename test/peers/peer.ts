import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Program, programPath } from './programs.ts';

const live = new Set<Peer>();
process.on('exit', () => {
  for (const peer of live) peer.abandon();
});

/** One running peer. It is ended by {@link stop}, and at the latest together with this process. */
export class Peer implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  readonly #folder: string | undefined;
  #over = false;

  constructor(program: Program, args: readonly string[], folder?: string) {
    this.#folder = folder;
    this.#child = spawn(programPath(program) ?? program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      createInterface(stream).on('line', (line) => this.lines.push(line));
    }
    live.add(this);
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => this.lines.push(`${error}`)).once('close', () => resolve());
    });
    this.ended.then(() => {
      this.#over = true;
      live.delete(this);
      this.#removeFolder();
    });
  }

  /** What it wrote as JSON objects, one a line: Envoy's access log, hbonepeer's events. */
  // biome-ignore lint/suspicious/noExplicitAny: each peer has its own fields.
  events(): any[] {
    return this.lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  }

  /** Asks until the answer is one. */
  async until<T>(probe: () => T | Promise<T>, what: string, timeoutMs = 15_000): Promise<NonNullable<T>> {
    for (const end = Date.now() + timeoutMs; Date.now() < end && !this.#over; await sleep(20)) {
      const found = await probe();
      if (found) return found as NonNullable<T>;
    }
    await this.stop();
    throw new Error(`no ${what}\n${this.lines.slice(-20).join('\n')}`);
  }

  async stop(): Promise<void> {
    if (this.#over) return;
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await this.ended;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** For the end of the process, where nothing can be waited for. */
  abandon(): void {
    this.#child.kill('SIGKILL');
    this.#removeFolder();
  }

  #removeFolder(): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** An Envoy on one of the templates beside this file. */
export class Envoy extends Peer {
  /** Listener name → port that the kernel chose. */
  ports: Readonly<Record<string, number>> = {};
  #admin = '';

  /** Resolves when it is ready to serve. */
  static async start(template: string, variables: Readonly<Record<string, string | number>>): Promise<Envoy> {
    const folder = mkdtempSync(join(tmpdir(), 'ambient-envoy-'));
    const config = join(folder, 'envoy.yaml');
    const addressFile = join(folder, 'admin');
    writeFileSync(config, fill(readFileSync(join(import.meta.dirname, template), 'utf8'), variables));
    const flags = '--disable-hot-restart --concurrency 1 --file-flush-interval-msec 50 --log-level error'.split(' ');
    const envoy = new Envoy('envoy', ['-c', config, '--admin-address-path', addressFile, ...flags], folder);
    const address = await envoy.until(() => readIfThere(addressFile).trim(), 'admin address');
    envoy.#admin = `http://${address}`;
    await envoy.until(async () => (await envoy.admin('/ready').catch(() => '')).startsWith('LIVE'), 'LIVE on /ready');
    const { listener_statuses: listeners } = JSON.parse(await envoy.admin('/listeners?format=json'));
    for (const { name, local_address: local } of listeners) {
      if (local.socket_address) envoy.ports = { ...envoy.ports, [name]: local.socket_address.port_value };
    }
    return envoy;
  }

  async admin(path: string, method = 'GET'): Promise<string> {
    return (await fetch(this.#admin + path, { method })).text();
  }

  /** The sum of the counters and gauges whose names match. */
  async count(filter: string): Promise<number> {
    const lines = (await this.admin(`/stats?filter=${encodeURIComponent(filter)}`)).trim().split('\n');
    return lines.reduce((sum, line) => sum + Number(line.split(': ')[1] ?? 0), 0);
  }
}

/** Istio's Go package `pkg/hbone`, as the program beside this file. */
export class Hbonepeer extends Peer {
  port = 0;

  static async start(mode: 'client' | 'server' | 'relay', ...args: readonly string[]): Promise<Hbonepeer> {
    const peer = new Hbonepeer('hbonepeer', [mode, ...args]);
    const ready = await peer.until(() => peer.events().find(({ event }) => event === 'ready'), 'ready line');
    peer.port = ready.port;
    return peer;
  }
}

/** Fills `${NAME}`, which must be given, and `${NAME:-value}`, which may. */
function fill(text: string, variables: Readonly<Record<string, string | number>>): string {
  return text.replace(/^#.*\n/gm, '').replace(/\$\{(\w+)(?::-([^}]*))?\}/g, (_whole, name, fallback) => {
    const value = variables[name] ?? fallback;
    if (value === undefined) throw new Error(`the template needs ${name}`);
    return String(value);
  });
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
