import type { MeshState } from './mesh-state.ts';
import type { Endpoint, IpFamilies, RoutingPreference, Service, Workload } from './model.ts';

/** A number in [0, 1), as `Math.random` gives it. */
export type Random = () => number;

/** Where a connection can go: a workload, and which of its addresses and ports. */
export interface Upstream {
  readonly workload: Workload;
  /** Absent where the workload is known by host name only, or lives behind a network gateway. */
  readonly ip?: string;
  readonly port: number;
  /** The service whose endpoint this is; absent when the workload itself was addressed. */
  readonly service?: Service;
}

export interface EndpointQuery {
  readonly service: Service;
  /** Who asks: its locality, node, cluster and network are what routing preferences compare with. */
  readonly source: Workload;
  /** The service port that was dialled. */
  readonly port: number;
  /** The address that was dialled, when one was. */
  readonly destinationIp?: string;
  /** `waypoint`: a workload with an application tunnel need not have the port in its service. Default `standard`. */
  readonly purpose?: 'standard' | 'waypoint';
  readonly random: Random;
}

/**
 * Picks one endpoint of a service (facts section 2.4): the eligible ones, of those the ones that match the routing
 * preferences best, of those one by weight of capacity. Undefined when none is left. Pure but for `random`, which is asked
 * once, or not at all when there is nothing to choose.
 */
export function selectEndpoint(state: MeshState, query: EndpointQuery): Upstream | undefined {
  const { service, source } = query;
  const preferences = service.loadBalancer?.routingPreferences ?? [];
  const mode = service.loadBalancer?.mode ?? 'Standard';
  let bestRank = 0;
  let candidates: Workload[] = [];
  const endpoints = state.endpointsOf(service);
  for (const endpoint of endpoints.values()) {
    const workload = state.workload(endpoint.workloadUid);
    if (workload === undefined || !isReachable(workload, source)) continue;
    if (endpointPort(service, endpoint, workload, query) === undefined) continue;
    const rank = mode === 'Strict' || mode === 'Failover' ? preferenceRank(preferences, mode, source, workload) : 0;
    if (rank < bestRank) continue;
    if (rank > bestRank) {
      bestRank = rank;
      candidates = [];
    }
    candidates.push(workload);
  }
  const workload = pickByWeight(candidates, capacityOf, query.random);
  if (workload === undefined) return undefined;
  const port = endpointPort(service, endpoints.get(workload.uid)!, workload, query)!;
  const ip = chooseIp(workload, service.ipFamilies, query.destinationIp);
  return ip === undefined ? { workload, port, service } : { workload, ip, port, service };
}

/**
 * How well a workload matches a list of preferences, as far as they match without a gap (facts sections 2.4 and 11.3).
 * `Strict` gives -1 to whatever does not match them all.
 */
export function preferenceRank(
  preferences: readonly RoutingPreference[],
  mode: 'Strict' | 'Failover',
  source: Workload,
  workload: Workload,
): number {
  let rank = 0;
  let bonus = 0;
  for (let at = 0; at < preferences.length; at++) {
    const matches = inSameScope(preferences[at]!, source, workload);
    if (at === 0 && preferences[0] === 'Network') {
      // The same network outweighs everything after it, but another one does not end the walk.
      if (matches) bonus = preferences.length - 1;
      else continue;
    }
    if (!matches) break;
    rank++;
  }
  if (mode === 'Strict' && rank !== preferences.length) return -1;
  return rank + bonus;
}

/** The address to dial: the dialled one if it is the workload's own, else the first the service allows, best of the dialled family. */
export function chooseIp(
  workload: Workload,
  families: IpFamilies | undefined,
  destinationIp?: string,
): string | undefined {
  if (destinationIp !== undefined && workload.workloadIps.includes(destinationIp)) return destinationIp;
  const wantsV6 = destinationIp?.includes(':');
  let fallback: string | undefined;
  for (const ip of workload.workloadIps) {
    const isV6 = ip.includes(':');
    if (families === 'IPv4' && isV6) continue;
    if (families === 'IPv6' && !isV6) continue;
    if (wantsV6 === undefined || isV6 === wantsV6) return ip;
    fallback ??= ip;
  }
  return fallback;
}

/** One of the items by weight; undefined when there is none with a weight above 0. */
export function pickByWeight<T>(items: readonly T[], weightOf: (item: T) => number, random: Random): T | undefined {
  let total = 0;
  let last: T | undefined;
  let choices = 0;
  for (const item of items) {
    const weight = weightOf(item);
    if (weight <= 0) continue;
    total += weight;
    last = item;
    choices++;
  }
  if (choices <= 1) return last;
  let left = random() * total;
  for (const item of items) {
    left -= weightOf(item);
    if (left < 0) return item;
  }
  // Rounding can leave a crumb: it belongs to the last item that has a weight.
  return last;
}

function capacityOf(workload: Workload): number {
  return workload.capacity;
}

function isReachable(workload: Workload, source: Workload): boolean {
  if (workload.workloadIps.length > 0 || workload.hostname !== '') return true;
  return workload.network !== source.network && workload.networkGateway !== undefined;
}

/** The endpoint's port for the dialled one: the endpoint's own word, else the service's, else the application tunnel's leave to keep it. */
function endpointPort(
  service: Service,
  endpoint: Endpoint,
  workload: Workload,
  { port, purpose }: EndpointQuery,
): number | undefined {
  const servicePort = service.ports[port];
  if (servicePort === undefined && !(purpose === 'waypoint' && workload.applicationTunnel !== undefined))
    return undefined;
  const own = endpoint.port[port];
  if (own !== undefined && own > 0) return own;
  if (servicePort !== undefined && servicePort > 0) return servicePort;
  return purpose === 'waypoint' && workload.applicationTunnel?.port !== undefined ? port : undefined;
}

function inSameScope(scope: RoutingPreference, source: Workload, workload: Workload): boolean {
  switch (scope) {
    case 'Region':
      return source.locality.region === workload.locality.region;
    case 'Zone':
      return source.locality.zone === workload.locality.zone;
    case 'Subzone':
      return source.locality.subzone === workload.locality.subzone;
    case 'Node':
      return source.node === workload.node;
    case 'Cluster':
      return source.clusterId === workload.clusterId;
    case 'Network':
      return source.network === workload.network;
  }
}
