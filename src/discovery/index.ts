/**
 * What is known of the mesh: workloads, services and policies, where they come from, and how a destination is picked.
 * {@link MeshState} holds and indexes it; {@link createFileSource} reads it from a YAML file and follows the file.
 *
 * ```ts
 * import { createFileSource, MeshState, selectEndpoint } from 'ambient-kit/discovery';
 *
 * const state = new MeshState();
 * await using source = await createFileSource({
 *   path: '/etc/ambient/mesh.yaml',
 *   onSnapshot: (snapshot) => state.replace(snapshot),
 *   onError: (error) => console.error(error.message), // and what was in force stays in force
 * });
 * const service = state.serviceAt('', '10.96.0.105')!;
 * const sleep = state.workload('Kubernetes//Pod/default/sleep')!;
 * const upstream = selectEndpoint(state, { service, source: sleep, port: 80, random: Math.random });
 * ```
 *
 * The model is facts section 4.10's: plain objects, texts empty where nothing is known, addresses in canonical text.
 *
 * @module discovery
 */

export { defineService, defineWorkload } from './define.ts';
export { DiscoveryInputError, MeshFileError } from './errors.ts';
export { createFileSource, type FileSource, type FileSourceOptions } from './file-source.ts';
export type { FollowOptions } from './followed-file.ts';
export { resolveGateway, someGatewayWorkload, waypointOf } from './gateway.ts';
export { MeshState, type MeshStateOptions } from './mesh-state.ts';
export type {
  ApplicationTunnel,
  CidrVip,
  Endpoint,
  GatewayAddress,
  HealthStatus,
  IpFamilies,
  LoadBalancer,
  Locality,
  MeshDelta,
  MeshSnapshot,
  NamespacedHostname,
  NetworkAddress,
  NetworkMode,
  PortMap,
  Protocol,
  RoutingPreference,
  Service,
  WeightedGateway,
  Workload,
} from './model.ts';
export {
  type AddressParts,
  formatNamespacedHostname,
  formatNetworkAddress,
  parseDestination,
} from './network-address.ts';
export { type MeshFileLimits, parseMeshFile } from './parse-mesh-file.ts';
export {
  chooseIp,
  type EndpointQuery,
  pickByWeight,
  preferenceRank,
  type Random,
  selectEndpoint,
  type Upstream,
} from './select-endpoint.ts';
export { workloadIdentity } from './workload-identity.ts';
