import { parseIp } from '../ip/index.ts';
import type { ListedRoute } from '../netlink/route/index.ts';
import type { KernelView } from './kernel-view.ts';
import { longestPrefix, RT_TABLE_LOCAL } from './route-lookup.ts';

/** A name of `RTN_…`, or the number of one that this library has no name for. */
export type RouteTypeName = ListedRoute['type'] | 'local' | 'broadcast' | 'multicast' | 'unicast';

/**
 * What an address is to this namespace: a route type of the local table (`inet_addr_type`, `ipv6_chk_addr`), `unicast` where it is
 * somebody else's.
 *
 * @param device - where given: only an address of this device counts as the namespace's own
 */
export function addressType(view: Pick<KernelView, 'routes'>, address: string, device?: string): RouteTypeName {
  const ip = parseIp(address);
  if (ip.family === 4 && (address === '255.255.255.255' || address.startsWith('0.'))) return 'broadcast';
  const first = Number.parseInt(address, ip.family === 4 ? 10 : 16);
  if (ip.family === 4 ? first >= 224 && first < 240 : address.toLowerCase().startsWith('ff')) return 'multicast';
  const route = longestPrefix(view, RT_TABLE_LOCAL, address);
  if (route === undefined || (device !== undefined && route.device !== device)) return 'unicast';
  return route.type;
}
