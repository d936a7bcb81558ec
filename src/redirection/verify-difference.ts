import type { Role } from './plan.ts';

/** What a {@link Difference} is about. */
export type DifferenceSubject =
  | 'link'
  | 'address'
  | 'sysctl'
  | 'route'
  | 'policy-rule'
  | 'table'
  | 'set'
  | 'member'
  | 'chain'
  | 'rule';

/** One thing in which the kernel differs from a plan. */
export interface Difference {
  /**
   * `missing`: the plan has it, the kernel has not. `changed`: both have it, not the same. `stray`: the kernel has it in what is the
   * plan's own. `in-front`: somebody else's, and it decides before the plan's rules do, or may.
   */
  readonly kind: 'missing' | 'changed' | 'stray' | 'in-front';
  readonly role: Role;
  readonly what: DifferenceSubject;
  /** Which one: `prerouting-8`, `table 100 10.244.1.10 via …`, `ip kube-proxy services`. */
  readonly name: string;
  /** How they differ, for a person. */
  readonly detail: string;
}

/** In one line: `node: rule prerouting-8 is missing`. */
export function differenceText({ kind, role, what, name, detail }: Difference): string {
  const says = kind === 'in-front' ? 'stands in front' : `is ${kind === 'stray' ? 'not of the plan' : kind}`;
  return `${role}: ${what.replace('-', ' ')} ${name} ${says}${detail === '' ? '' : `: ${detail}`}`;
}
