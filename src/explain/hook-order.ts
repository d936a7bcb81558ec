import type { BaseChain, Chain, Hook } from '../netlink/nftables/index.ts';
import { NF_IP_PRI_CONNTRACK, NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC } from './kernel-numbers.ts';
import type { KernelView } from './kernel-view.ts';

/** A chain that the kernel itself calls. */
export type CalledChain = Chain & { readonly base: BaseChain };

/** What a packet meets in one hook, in order. */
export type Place =
  | { readonly kind: 'chain'; readonly priority: number; readonly chain: CalledChain }
  | { readonly kind: 'connection'; readonly priority: number }
  /** Address translation: one place, wherever its chains say they stand; among themselves they go by priority. */
  | { readonly kind: 'nat'; readonly priority: number; readonly chains: readonly CalledChain[] };

/**
 * The order of one hook. All nat chains run where the kernel registered NAT, at -100 (destination) or 100 (source), whatever their own
 * priority (`nf_nat_register_fn`). Of chains with equal priority the kernel calls the one registered last first
 * (`nf_hook_entries_grow`).
 */
export function hookOrder({ chains }: Pick<KernelView, 'chains'>, hook: Hook, family: 4 | 6): Place[] {
  const called = chains
    .filter((chain): chain is CalledChain => chain.base?.hook === hook && hasFamily(chain, family))
    .reverse()
    .sort((a, b) => a.base.priority - b.base.priority);
  const places: Place[] = called
    .filter(({ base }) => base.type !== 'nat')
    .map((chain) => ({ kind: 'chain', priority: chain.base.priority, chain }));
  const isFirst = hook === 'prerouting' || hook === 'output';
  if (isFirst) places.push({ kind: 'connection', priority: NF_IP_PRI_CONNTRACK });
  if (hook !== 'forward') {
    const priority = isFirst ? NF_IP_PRI_NAT_DST : NF_IP_PRI_NAT_SRC;
    places.push({ kind: 'nat', priority, chains: called.filter(({ base }) => base.type === 'nat') });
  }
  return places.sort((a, b) => a.priority - b.priority);
}

function hasFamily({ table }: Chain, family: 4 | 6): boolean {
  return table.family === 'inet' || table.family === (family === 4 ? 'ip' : 'ip6');
}
