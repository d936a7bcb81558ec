import { readSysctl, writeSysctl } from '../netns/index.ts';
import type { Place } from './kernel.ts';
import type { Role, SysctlPlan } from './plan.ts';
import type { Transaction } from './transaction.ts';

/** A kernel parameter as it was before a plan changed it. */
export interface ChangedSysctl extends SysctlPlan {
  readonly role: Role;
}

/**
 * Writes a kernel parameter that is not yet what the plan wants.
 *
 * @returns what it was, if it was written
 */
export function applySysctl(transaction: Transaction, place: Place, sysctl: SysctlPlan): ChangedSysctl | undefined {
  const { role, namespace } = place;
  const { name, value } = sysctl;
  const step = `${role}: sysctl ${name} = ${value}`;
  const before = transaction.look(step, () => readSysctl(namespace, name));
  if (words(before) === words(value)) return undefined;
  transaction.step(
    step,
    () => writeSysctl(namespace, name, value),
    () => writeSysctl(namespace, name, before),
  );
  return { role, name, value: before };
}

/** The kernel puts a tab where people put a space. */
function words(value: string): string {
  return value.trim().split(/\s+/).join(' ');
}
