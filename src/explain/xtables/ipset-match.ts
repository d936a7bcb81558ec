import type { KernelView, ViewIpset } from '../kernel-view.ts';
import type { PacketState } from '../packet-state.ts';
import type { XtAnswer } from './entry.ts';
import { not } from './ranges.ts';

// <linux/netfilter/ipset/ip_set.h>: flags of struct xt_set_info { u16 index; u8 dim; u8 flags }
const IPSET_INV_MATCH = 1;
const IPSET_DIM_ONE_SRC = 2;

/** What `-m set` asks. */
export interface IpsetMatch {
  readonly text: string;
  holds(state: PacketState, view: KernelView): XtAnswer;
}

/** @param at - of the `struct xt_set_info` in the match's bytes */
export function ipsetMatch(info: Buffer, at: number): IpsetMatch {
  const index = info.readUInt16LE(at);
  const dimensions = info[at + 2]!;
  const flags = info[at + 3]!;
  const inverted = (flags & IPSET_INV_MATCH) !== 0;
  const which = Array.from({ length: dimensions }, (_, i) =>
    (flags & (IPSET_DIM_ONE_SRC << i)) === 0 ? 'dst' : 'src',
  );
  return {
    // Only the view knows the set's name.
    text: `-m set ${not(inverted)}--match-set #${index} ${which.join(',')}`,
    holds: (state, { ipsets }) => {
      const set = ipsets.find((one) => one.index === index);
      const has =
        set === undefined ? undefined : hasMember(set, which[0] === 'src' ? state.source : state.destination, state);
      if (has === undefined) return { doubt: `the ipset ${set?.name ?? `with the number ${index}`}` };
      return has !== inverted;
    },
  };
}

function hasMember(set: ViewIpset, address: string, state: PacketState): boolean | undefined {
  if (set.family !== state.family) return false;
  return set.members?.includes(address);
}
