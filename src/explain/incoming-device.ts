import type { KernelView } from './kernel-view.ts';
import { longestPrefix, RT_TABLE_LOCAL, RT_TABLE_MAIN } from './route-lookup.ts';

/**
 * The device that packets of an address come in by, where nobody says: the one its route in the main table leads to. Nothing for an
 * address of the namespace itself, whose packets are made here, and for one that no route leads to.
 */
export function incomingDevice(view: Pick<KernelView, 'routes'>, source: string): string | undefined {
  if (longestPrefix(view, RT_TABLE_LOCAL, source)?.type === 'local') return undefined;
  return longestPrefix(view, RT_TABLE_MAIN, source)?.device;
}
