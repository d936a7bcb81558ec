/**
 * "What happens to this packet?", answered from the rules, policy rules, routes, sets and connections that the kernel has now: each
 * rule that it meets with counter and comment, each change of mark, the route, the redirect target, the end. Nothing is sent.
 *
 * ```ts
 * import { explainPacket, formatExplanation, readKernelView } from 'ambient-kit/explain';
 * import { openNamespace } from 'ambient-kit/netns';
 *
 * using node = openNamespace('node-a');
 * const packet = { source: '10.244.1.10', destination: '10.96.0.105', protocol: 'tcp', sourcePort: 40000, destinationPort: 80,
 *   device: 'vethsleep' } as const;
 * const explanation = explainPacket(readKernelView(node, { packet }), packet);
 * console.log(formatExplanation(explanation), explanation.ending);
 * ```
 *
 * Rules are those of nftables (sets, maps and verdict maps, ranges, concatenations, fib, numgen), of iptables over nf_tables, whose
 * matches and targets are read as their C structures, and of iptables-legacy, in tables named `nat (legacy)`. Where the kernel throws
 * dice, as kube-proxy has it do, `otherwise` has the other ways. {@link followPacket} goes on through veth pairs, bridges and tunnels
 * into the next namespace.
 *
 * What cannot be judged (an expression this library does not know, a value that no packet gives) is said to be so, never guessed: the
 * ending is `unknown` then, and names the rule. Not looked at: netdev and bridge tables and IPVS (a caveat says so), an inet table's ingress
 * hook, flowtables, tc, XDP, IPsec, VLAN filters of bridges, and whether a listener that TPROXY finds is transparent (node mode, trap 7).
 *
 * @module explain
 */

export type { Effect } from './evaluate-rule.ts';
export { type ExplainPacketOptions, explainPacket, isComplete } from './explain-packet.ts';
export type { Ending, Explanation, FastPath, RuleStep, Step } from './explanation.ts';
export { type FollowOptions, followPacket } from './follow-packet.ts';
export { formatExplanation } from './format-explanation.ts';
export { formatJourney } from './format-journey.ts';
export { incomingDevice } from './incoming-device.ts';
export { type Hop, isWhole, type Journey, type JourneyEnding, type Passage } from './journey.ts';
export type {
  DeviceSettings,
  IpsetMember,
  KernelView,
  Listener,
  ViewElement,
  ViewIpset,
  ViewSet,
} from './kernel-view.ts';
export type { Packet } from './packet.ts';
export { type ReadKernelViewOptions, readKernelView } from './read-kernel-view.ts';
