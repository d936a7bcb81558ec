import type { MeshState } from './mesh-state.ts';
import type { GatewayAddress, Service, WeightedGateway, Workload } from './model.ts';
import { parseDestination } from './network-address.ts';
import { pickByWeight, type Random, selectEndpoint, type Upstream } from './select-endpoint.ts';

/**
 * The waypoint to use for a service: one of its weighted ones by chance, else its only one (facts section 2.3 step 2). Weighted
 * waypoints whose weights are all zero count as none.
 */
export function waypointOf(service: Service, random: Random): GatewayAddress | undefined {
  return pickByWeight(service.weightedWaypoints, weightOf, random)?.destination ?? service.waypoint;
}

function weightOf(waypoint: WeightedGateway): number {
  return waypoint.weight;
}

/**
 * The workload and port behind a gateway's address: an endpoint of the service at it, else the workload at it. Undefined when
 * neither is known, or the service has no endpoint to offer.
 */
export function resolveGateway(
  state: MeshState,
  gateway: GatewayAddress,
  source: Workload,
  random: Random,
): Upstream | undefined {
  const { service, workload } = lookUpGateway(state, gateway, source.namespace);
  if (service !== undefined) {
    const query = { service, source, port: gateway.hboneMtlsPort, purpose: 'waypoint', random } as const;
    const parts = parseDestination(gateway.destination);
    return selectEndpoint(state, parts?.kind === 'address' ? { ...query, destinationIp: parts.ip } : query);
  }
  if (workload === undefined) return undefined;
  const ip = addressOf(gateway) ?? workload.workloadIps[0];
  return ip === undefined ? { workload, port: gateway.hboneMtlsPort } : { workload, ip, port: gateway.hboneMtlsPort };
}

/** Whether some workload behind the gateway's address satisfies the test. */
export function someGatewayWorkload(
  state: MeshState,
  gateway: GatewayAddress,
  clientNamespace: string | undefined,
  test: (workload: Workload) => boolean,
): boolean {
  const { service, workload } = lookUpGateway(state, gateway, clientNamespace);
  if (service === undefined) return workload !== undefined && test(workload);
  for (const uid of state.endpointsOf(service).keys()) {
    const member = state.workload(uid);
    if (member !== undefined && test(member)) return true;
  }
  return false;
}

function lookUpGateway(
  state: MeshState,
  gateway: GatewayAddress,
  clientNamespace: string | undefined,
): { readonly service?: Service | undefined; readonly workload?: Workload | undefined } {
  const parts = parseDestination(gateway.destination);
  if (parts === undefined) return {};
  if (parts.kind === 'hostname') {
    const service = state.service(parts.namespace, parts.hostname);
    return service ? { service } : { workload: state.workloadByHostname(parts.namespace, parts.hostname) };
  }
  const service = state.serviceAt(parts.network, parts.ip, clientNamespace);
  return service ? { service } : { workload: state.workloadAt(parts.network, parts.ip) };
}

function addressOf(gateway: GatewayAddress): string | undefined {
  const parts = parseDestination(gateway.destination);
  return parts?.kind === 'address' ? parts.ip : undefined;
}
