import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BenchError } from '../bench-error.ts';
import type { BackgroundProcess, Command } from '../processes.ts';
import { type LoadContext, type LoadResult, lastJsonLine, timeLimitMs } from './load.ts';

const PARALLEL = 32;
const POLL_MS = 50;

/** Connections to as many different addresses of p3, from number `first` on: none has a tunnel yet, so each needs one. Work: thousands. */
export async function newSessions(
  context: LoadContext,
  options: { readonly count: number; readonly first: number },
): Promise<LoadResult> {
  const { count, first } = options;
  const command = connectionsCommand(context, [String(count), String(PARALLEL), 'close', String(first)]);
  const output = await context.processes.run(command, { timeoutMs: timeLimitMs(60), signal: context.signal });
  const { elapsedUs = 1, failed = 0 } = lastJsonLine('connections.ts', output);
  return { figures: { 'sessions/s': count / (elapsedUs / 1e6) }, work: count / 1000, errors: failed };
}

/**
 * Opens connections that stay open and have carried one request each.
 *
 * @returns once all of them are open; stop it to close them
 */
export async function holdConnections(
  context: LoadContext,
  options: { readonly count: number; readonly ip: string; readonly logPath: string },
): Promise<BackgroundProcess> {
  const { count, ip, logPath } = options;
  const command = connectionsCommand(context, [String(count), String(PARALLEL), 'keep', '0', ip]);
  const holder = context.processes.start('open connections', command, logPath);
  const deadline = performance.now() + timeLimitMs(60);
  let output = '';
  while (!output.endsWith('\n')) {
    if (performance.now() > deadline) throw new BenchError(`${count} connections were not open in time`);
    await sleep(POLL_MS, undefined, { signal: context.signal });
    output = readFileSync(logPath, 'utf8');
  }
  const { failed = count } = lastJsonLine('connections.ts', output);
  if (failed > 0) throw new BenchError(`${failed} of ${count} connections were not opened`);
  return holder;
}

function connectionsCommand({ namespace }: LoadContext, args: string[]): Command {
  return { program: process.execPath, args: [join(import.meta.dirname, 'connections.ts'), ...args], namespace };
}
