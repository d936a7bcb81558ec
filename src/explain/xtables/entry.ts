import type { KernelView } from '../kernel-view.ts';
import type { PacketState } from '../packet-state.ts';

/** A match or target as nf_tables (`nft_compat`) and ip_tables carry it: a name, a revision, and the structure that goes with them. */
export interface XtEntry {
  readonly name: string;
  readonly revision: number;
  readonly info: Buffer;
}

/** What a match says of a packet: yes, no, a reason why that cannot be told, or that the kernel throws dice. */
export type XtAnswer = boolean | { readonly doubt: string } | { readonly by: string; readonly probability: number };

/** A match of xtables that this library can read. */
export interface XtMatch {
  /** As iptables writes it: `-m mark --mark 0x1/0x3`. */
  readonly text: string;
  holds(state: PacketState, view: KernelView): XtAnswer;
}

/** `owner revision 3`, for a message. */
export function xtName({ name, revision }: Pick<XtEntry, 'name' | 'revision'>): string {
  return `${name} (revision ${revision})`;
}

/** No beats a doubt, a doubt beats yes. */
export function both(...answers: readonly XtAnswer[]): XtAnswer {
  if (answers.includes(false)) return false;
  return answers.find((answer) => answer !== true) ?? true;
}
