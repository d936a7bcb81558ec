import { BenchError } from '../bench-error.ts';
import { IPERF_PORT } from '../servers.ts';
import { type LoadContext, type LoadResult, timeLimitMs } from './load.ts';

interface IperfReport {
  readonly error?: string;
  readonly end?: { readonly sum_received?: { readonly bytes: number; readonly bits_per_second: number } };
}

/** One way as fast as it goes, from the client unless `reverse`; what arrived is what counts. Work: gigabytes. */
export async function iperf(
  context: LoadContext,
  target: string,
  options: { readonly streams: number; readonly reverse?: boolean },
): Promise<LoadResult> {
  const { processes, namespace, seconds, signal } = context;
  const args = ['-c', target, '-p', String(IPERF_PORT), '-t', String(seconds), '-P', String(options.streams), '-J'];
  if (options.reverse) args.push('-R');
  const output = await processes.run(
    { program: 'iperf3', args, namespace },
    { timeoutMs: timeLimitMs(seconds), signal },
  );
  const report = JSON.parse(output) as IperfReport;
  const received = report.end?.sum_received;
  if (received === undefined) throw new BenchError(`iperf3 failed: ${report.error ?? 'no result'}`);
  return { figures: { 'Gb/s': received.bits_per_second / 1e9 }, work: received.bytes / 1e9, errors: 0 };
}
