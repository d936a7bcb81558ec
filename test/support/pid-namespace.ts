import { readdirSync, readlinkSync } from 'node:fs';

/** The processes of a pid namespace, `pid:[4026532281]`, as seen from outside. */
export function processesIn(namespace: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/ns/pid`) === namespace;
    } catch {
      return false;
    }
  });
}
