import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

const VIRTUAL_MACHINE_MS = 0.1;

/** What {@link defaultBusyPollMs} looks at, for tests. */
export interface Machine {
  readonly processors: number;
  /** The text of /proc/cpuinfo; empty where it cannot be read. */
  readonly cpuinfo: string;
}

/**
 * How long a waiting thread polls unless told otherwise. 0.1 ms on a virtual machine, where waking a processor takes its host tens of
 * microseconds, as long as one is left that no data-plane thread polls on. Linux decides likewise for its own idle loop (drivers/cpuidle/cpuidle-haltpoll.c):
 * polling before HLT is for guests.
 */
export function defaultBusyPollMs(threads: number, machine: Machine = thisMachine()): number {
  // On x86 the processor says so; elsewhere nothing does that could be relied on.
  const isVirtual = /^flags\s*:.*\bhypervisor\b/m.test(machine.cpuinfo);
  return isVirtual && machine.processors > threads ? VIRTUAL_MACHINE_MS : 0;
}

function thisMachine(): Machine {
  let cpuinfo = '';
  try {
    cpuinfo = readFileSync('/proc/cpuinfo', 'latin1');
  } catch {
    // A sandbox without it: nothing is known then.
  }
  return { processors: availableParallelism(), cpuinfo };
}
