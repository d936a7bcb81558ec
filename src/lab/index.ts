/**
 * A mesh in network namespaces, for tests and demos: nodes, pods, services and a host outside as a value; built with netlink alone,
 * looked at with a packet socket and the kernel's own routing decision, and taken away whole.
 *
 * ```ts
 * import { createLab, PacketCapture, twoNodes } from 'ambient-kit/lab';
 *
 * await using lab = await createLab(twoNodes('my-lab-'), { onProgress: (step) => console.log(step) });
 * // `ip netns exec my-lab-sleep …` works from here on; proxies and servers are yours to start
 * let segments = 0;
 * using capture = PacketCapture.open(lab.namespace('node-a'), 'eth0', ({ destinationPort }) => {
 *   if (destinationPort === 15008) segments++;
 * });
 * capture.drain();
 * console.log(lab.redirection('node-a')?.readBack().pods, segments);
 * ```
 *
 * Needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW) and no program but Node.
 *
 * @module lab
 */

export { CLUSTER_TABLE } from './cluster-network.ts';
export {
  DEFAULT_PREFIX,
  type LabDescription,
  type LabNode,
  type LabOutside,
  type LabPod,
  type LabService,
  type LabZtunnel,
  labNames,
  namespaceName,
  twoNodes,
  vethName,
} from './description.ts';
export { LabError } from './errors.ts';
export { type CreateLabOptions, createLab, type Lab, type LabMode, labPlan } from './lab.ts';
export { type ImaginedPacket, lookupRoute, type RouteDecision } from './lookup-route.ts';
export { PacketCapture, type PacketCaptureOptions, type TcpSegment } from './packet-capture.ts';
export { remainingNamespaces, removeLab } from './remove-lab.ts';
