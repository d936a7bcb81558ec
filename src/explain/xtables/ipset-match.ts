import { cidrContains, parseCidr, parseIp } from '../../ip/index.ts';
import type { IpsetMember, KernelView, ViewIpset } from '../kernel-view.ts';
import type { PacketState } from '../packet-state.ts';
import type { XtAnswer, XtMatch } from './entry.ts';
import { not } from './ranges.ts';

// <linux/netfilter/ipset/ip_set.h>: flags of struct xt_set_info { u16 index; u8 dim; u8 flags }
const IPSET_INV_MATCH = 1;
const IPSET_DIM_ONE_SRC = 2;
/** Where struct xt_set_info_match_v3 and _v4 have the comparisons with a member's own counters; 0 is none. */
const COUNTER_COMPARISONS: Readonly<Record<number, readonly number[]>> = { 3: [8, 24], 4: [16, 32] };

/** `-m set`: whether a set of ipset has what the packet has. */
export function ipsetMatch(info: Buffer, revision: number): XtMatch {
  const index = info.readUInt16LE(0);
  const [dimensions, flags] = [info[2]!, info[3]!];
  const inverted = (flags & IPSET_INV_MATCH) !== 0;
  const which = Array.from({ length: dimensions }, (_, i) =>
    (flags & (IPSET_DIM_ONE_SRC << i)) === 0 ? ('dst' as const) : ('src' as const),
  );
  const asksCounters = (COUNTER_COMPARISONS[revision] ?? []).some((at) => (info[at] ?? 0) !== 0);
  return {
    // Only the view knows the set's name.
    text: `-m set ${not(inverted)}--match-set #${index} ${which.join(',')}`,
    holds: (state, { ipsets }: KernelView): XtAnswer => {
      const set = ipsets.find((one) => one.index === index);
      const doubt = { doubt: `the ipset ${set?.name ?? `with the number ${index}`}` };
      if (set === undefined || asksCounters) return doubt;
      const has = hasMember(set, which, state);
      return has === 'unknown' ? doubt : has !== inverted;
    },
  };
}

/** Of several members that have it, the one with the narrowest ranges decides, since it may be a `nomatch`. */
function hasMember(set: ViewIpset, which: readonly ('src' | 'dst')[], state: PacketState): boolean | 'unknown' {
  const { type, members } = set;
  if (members === undefined) return 'unknown';
  const parts = type.slice(type.indexOf(':') + 1).split(',');
  if (parts.some((part) => part !== 'port') && set.family !== state.family) return false;
  let narrowest = -1;
  let has = false;
  let isSure = true;
  for (const member of members) {
    const answer = isMember(member, parts, which, state);
    if (answer === false) continue;
    if (answer === 'unknown') {
      isSure = false;
      continue;
    }
    if (answer <= narrowest) continue;
    narrowest = answer;
    has = member.isExcluded !== true;
  }
  return isSure ? has : 'unknown';
}

/** @returns how many bits the ranges of a member that has it fix */
function isMember(
  member: IpsetMember,
  parts: readonly string[],
  which: readonly ('src' | 'dst')[],
  state: PacketState,
): number | false | 'unknown' {
  const { ranges, port, protocol } = member;
  if (protocol !== undefined && protocol !== state.protocolNumber) return false;
  let bits = 0;
  let address = 0;
  let isSure = true;
  for (const [i, part] of parts.entries()) {
    const isSource = which[i] === 'src';
    if (part === 'port') {
      const own = isSource ? state.sourcePort : state.destinationPort;
      if (own === undefined) isSure = false;
      else if (own !== port) return false;
      continue;
    }
    const range = parseCidr(ranges[address++] ?? '0.0.0.0/0');
    if (!cidrContains(range, parseIp(isSource ? state.source : state.destination))) return false;
    bits += range.prefixLength;
  }
  return isSure ? bits : 'unknown';
}
