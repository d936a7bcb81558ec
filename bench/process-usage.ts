import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ: what the kernel counts in for programs, whatever its own tick is. */
const TICKS_PER_SECOND = 100;

/** User and system seconds that processes have used so far, all threads, with the children they have now (proc_pid_stat(5)). */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of withChildren(pids)) {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name, in parentheses, may have spaces and parentheses of its own; what follows it starts with field 3.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Resident memory of a process with its children, bytes (VmRSS). */
export function residentBytes(pid: number): number {
  let kilobytes = 0;
  for (const each of withChildren([pid])) {
    const match = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${each}/status`, 'latin1'));
    kilobytes += Number(match?.[1] ?? 0);
  }
  return kilobytes * 1024;
}

function withChildren(pids: readonly number[]): number[] {
  const all = [...pids];
  for (const pid of all) {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1').trim();
      if (children !== '') all.push(...children.split(' ').map(Number));
    }
  }
  return all;
}
