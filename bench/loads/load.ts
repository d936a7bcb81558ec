import type { NetworkNamespace } from '../../src/netns/index.ts';
import { BenchError } from '../bench-error.ts';
import type { Processes } from '../processes.ts';

/** Where a load comes from, and what it may take. */
export interface LoadContext {
  readonly processes: Processes;
  /** The namespace it runs in. */
  readonly namespace: NetworkNamespace;
  readonly seconds: number;
  readonly signal: AbortSignal;
}

/** What one load did. */
export interface LoadResult {
  /** By the names of the row's figures. */
  readonly figures: Readonly<Record<string, number>>;
  /** What CPU time is divided by: gigabytes, or thousands. */
  readonly work: number;
  /** Connections or requests that failed. */
  readonly errors: number;
}

/** How long a load may go on after its time. */
const GRACE_MS = 20_000;

export function timeLimitMs(seconds: number): number {
  return seconds * 1000 + GRACE_MS;
}

/** The last line of a program's output, which is JSON. @throws {BenchError} where it is not */
export function lastJsonLine(program: string, output: string): Readonly<Record<string, number>> {
  try {
    return JSON.parse(output.trimEnd().split('\n').at(-1)!);
  } catch {
    throw new BenchError(`${program} said something else than its result: ${output.slice(-500)}`);
  }
}
