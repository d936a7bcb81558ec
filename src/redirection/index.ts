/**
 * Traffic redirection as a value: what makes the kernel hand a pod's packets to a proxy, planned as plain data, rendered, put in
 * force in one go, read back with its counters, and taken away.
 *
 * ```ts
 * import { openNamespace } from 'ambient-kit/netns';
 * import { apply, nodeMode, renderText } from 'ambient-kit/redirection';
 *
 * const plan = nodeMode({
 *   hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza',
 *   pods: [{ ip: '10.244.1.10', veth: 'vethsleep', comment: 'default/sleep' }],
 * });
 * console.log(renderText(plan));
 * const redirection = apply(plan, { node: openNamespace('node-a'), ztunnel: openNamespace('ztunnel-a') });
 * redirection.addPod({ ip: '10.244.1.11', veth: 'vethclient2' });
 * for (const { id, packets } of redirection.readBack().rules) console.log(id, packets);
 * redirection.remove();
 * ```
 *
 * Two modes: {@link nodeMode} redirects on the node and knows the pods by their addresses; {@link podMode} redirects inside each pod,
 * and {@link hostProbes} lets the node's probes come past it. Either is a plan, which is a value: change it, or write your own. A
 * plan can also be read ({@link renderText}), and loaded by other tools ({@link renderNftText}, {@link renderIptables}).
 *
 * {@link verify} lists what the kernel has otherwise than a plan, by meaning, and who stands in front; {@link watch} puts back what is
 * taken away; {@link probe} finds out what this kernel can. {@link remove} takes a redirection away at once, {@link drainAndRemove} when
 * the connections that it captured have ended. Everything but `watch` and `drainAndRemove` is synchronous: the kernel answers at once,
 * and nothing else in the process sees a part of a change.
 *
 * @module redirection
 */

export { type ApplyOptions, apply } from './apply.ts';
export { type Drained, type DrainOptions, drainAndRemove } from './drain.ts';
export { RedirectionError, type RedirectionErrorInit } from './error.ts';
export {
  HOST_ROLE,
  type HostProbesOptions,
  hostProbes,
  PROBES_SET,
  PROBES_SET6,
} from './host-probes.ts';
export type { Namespaces } from './kernel.ts';
export {
  CONNSKIP_MARK,
  INPOD_MARK,
  INPOD_TPROXY_MARK,
  ORG_SRC_RET_MARK,
  OUTBOUND_MARK,
  PROXY_MARK,
  PROXYRET_MARK,
  SKIP_MARK,
  TPROXY_MARK,
} from './marks.ts';
export { INBOUND_TABLE, nodeMode, OUTBOUND_TABLE, PROXY_TABLE } from './node-mode.ts';
export { NODE_ROLE, type NodeModeOptions, PODS_SET, PODS_SET6, ZTUNNEL_ROLE } from './node-mode-options.ts';
export { DNS_PORT, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT } from './node-mode-proxy.ts';
export type {
  Action,
  CapturedPlan,
  ChainPlan,
  IpFamily,
  LinkPlan,
  Mark,
  Match,
  Pod,
  PodsPlan,
  RedirectionPlan,
  Role,
  RulePlan,
  SetPlan,
  SidePlan,
  SysctlPlan,
} from './plan.ts';
export { podRoute } from './plan.ts';
export { INPOD_RULE_PRIORITY, INPOD_TABLE, podMode } from './pod-mode.ts';
export { POD_ROLE, type PodModeOptions, PROBE_IP, PROBE_IP6 } from './pod-mode-options.ts';
export { probe } from './probe.ts';
export {
  type Feature,
  type FeatureDescription,
  type FeatureState,
  features,
  type KernelFeatures,
} from './probe-features.ts';
export { featuresOf, requireFeatures, UnsupportedPlanError } from './probe-require.ts';
export { countsBetween, type ReadBack, type RuleCount, readBack } from './read-back.ts';
export { Redirection } from './redirection.ts';
export { remove } from './remove.ts';
export { type IptablesOptions, type IptablesText, renderIptables } from './render-iptables.ts';
export { renderNftText } from './render-nft-text.ts';
export { renderNftables } from './render-nftables.ts';
export { policyRuleText, renderText, routeText, ruleText } from './render-text.ts';
export { type Verification, type VerifyOptions, verify } from './verify.ts';
export { type Difference, type DifferenceSubject, differenceText } from './verify-difference.ts';
export { type Watch, type WatchEnd, type WatchEvent, type WatchOptions, watch } from './watch.ts';
export type { RepairLimitOptions } from './watch-limit.ts';
