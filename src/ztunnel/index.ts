/**
 * The node proxy, assembled from the other modules: it takes what redirection hands it, decides, enforces policies at the destination,
 * and carries connections between nodes in HBONE tunnels. The decisions are pure functions of their own.
 *
 * ```ts
 * import { startZtunnel } from 'ambient-kit/ztunnel';
 *
 * await using ztunnel = await startZtunnel({
 *   namespace: 'ambient-ztunnel-a',              // where redirection delivers to; needs root
 *   nodeName: 'node-a',
 *   trustDomain: 'cluster.local',
 *   discovery: { path: '/etc/ambient/mesh.yaml' },
 *   authority: { chainPem, keyPem, rootsPem },   // an intermediate for this node
 * });
 * console.log(await ztunnel.stats());
 * ```
 *
 * That is node mode. In `shared` mode the proxy serves pods from inside their network namespaces, where redirection is `podMode()`'s:
 *
 * ```ts
 * await using ztunnel = await startZtunnel({ mode: 'shared', namespace: '/proc/self/ns/net', ...rest });
 * await ztunnel.addPod({ uid, name: 'sleep', namespace: 'default', serviceAccount: 'sleep', netns: 'cni-1f2e' });
 * await ztunnel.removePod(uid);                  // open connections may end first
 * ```
 *
 * @module ztunnel
 */

export { type Environment, parseDurationMs, readConfig, type ZtunnelConfig } from './config.ts';
export type { ConnectionRecord, LoggedDecision, LoggedTunnel } from './connection-log.ts';
export {
  type DecideInboundOptions,
  decideInbound,
  decideInboundPlaintext,
  type InboundAcceptance,
  type InboundConnection,
  type InboundDecision,
  type InboundRejection,
  type InboundRequest,
} from './decide-inbound.ts';
export {
  type DecideOutboundOptions,
  decideOutbound,
  type HboneDecision,
  type OutboundDecision,
  type OutboundRejection,
  type TcpDecision,
} from './decide-outbound.ts';
export { ILLEGAL_PORTS, INBOUND_HBONE_PORT, SELF_CALL } from './illegal-ports.ts';
export type { DataPlaneOptions, DataPlaneStats } from './messages.ts';
export { type ListedPod, parsePodsFile } from './parse-pods-file.ts';
export type { PodOptions, RemovePodOptions, ServedPod } from './pod-service.ts';
export type { WorkloadName } from './served-workloads.ts';
export { workloadBaggage } from './workload-baggage.ts';
export { startZtunnel, type Ztunnel } from './ztunnel.ts';
export { ZtunnelError } from './ztunnel-error.ts';
export type { ZtunnelOptions } from './ztunnel-options.ts';
