import { join } from 'node:path';
import { HTTP_PORT } from '../servers.ts';
import { type LoadContext, type LoadResult, lastJsonLine, timeLimitMs } from './load.ts';

/** Requests for 1 KiB, one after another on each of `connections`; `close` has a new connection for each. Work: thousands. */
export async function wrk(
  context: LoadContext,
  target: string,
  options: { readonly connections: number; readonly close?: boolean },
): Promise<LoadResult> {
  const { processes, namespace, seconds, signal } = context;
  const script = join(import.meta.dirname, 'wrk-report.lua');
  const args = ['-t', '1', '-c', String(options.connections), '-d', `${seconds}s`, '-s', script, '--timeout', '10s'];
  if (options.close) args.push('-H', 'Connection: close');
  const output = await processes.run(
    { program: 'wrk', args: [...args, `http://${target}:${HTTP_PORT}/`], namespace },
    { timeoutMs: timeLimitMs(seconds), signal },
  );
  const { requests = 0, durationUs = 1, errors = 0, p50Us = 0, p99Us = 0 } = lastJsonLine('wrk', output);
  const perSecond = requests / (durationUs / 1e6);
  const rate = options.close ? { 'conn/s': perSecond } : { 'req/s': perSecond };
  return { figures: { ...rate, 'p50 µs': p50Us, 'p99 µs': p99Us }, work: requests / 1000, errors };
}
