import { checkDevice, checkIp, checkPlanName } from './check-options.ts';
import { INPOD_TPROXY_MARK } from './marks.ts';
import type { IpFamily, RedirectionPlan } from './plan.ts';
import { podChains } from './pod-mode-chains.ts';
import { POD_ROLE, type PodModeOptions } from './pod-mode-options.ts';

/** The routing table and the priority of the policy rule that leads to it (facts section 7.1). */
export const INPOD_TABLE = 100;
export const INPOD_RULE_PRIORITY = 32764;

/**
 * The redirection inside a pod's network namespace, as Istio does it since 1.24 (facts sections 7.2 and 7.3): the proxy's sockets
 * are in the pod's namespace, and a few rules lead to them. IPv4 and IPv6. A pod is a plan of its own, with the one role `pod`;
 * probes of the node come past it by {@link hostProbes}.
 *
 * In nftables the chains are in tables of `ip` and `ip6`, not of `inet`, and are called by the hooks themselves: rule for rule what
 * iptables would have.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the option
 */
export function podMode(options: PodModeOptions = {}): RedirectionPlan {
  checkOptions(options);
  const families: readonly IpFamily[] = options.ipv6 === false ? [4] : [4, 6];
  return {
    name: options.name ?? 'istio-ambient',
    families,
    links: [{ kind: 'existing', role: POD_ROLE, name: 'lo' }],
    sides: [
      {
        role: POD_ROLE,
        addresses: [],
        sysctls: [],
        // An answer of the pod that has the mark is local, whomever it is for: so it finds the proxy's transparent socket.
        routes: families.map((family) => ({
          destination: family === 4 ? '0.0.0.0/0' : '::/0',
          type: 'local',
          device: 'lo',
          table: INPOD_TABLE,
        })),
        policyRules: families.map((family) => ({
          family,
          priority: INPOD_RULE_PRIORITY,
          fwmark: INPOD_TPROXY_MARK.value,
          fwmask: INPOD_TPROXY_MARK.mask,
          table: INPOD_TABLE,
        })),
        sets: [],
        chains: podChains(options),
        keepsOpenConnections: true,
      },
    ],
    pods: { role: POD_ROLE, sysctls: [], list: [] },
    captured: { connmark: INPOD_TPROXY_MARK },
  };
}

function checkOptions(options: PodModeOptions): void {
  const op = 'podMode';
  if (options.name !== undefined) checkPlanName(op, options.name);
  if (options.probeIp !== undefined) checkIp(op, [4], options.probeIp, 'probeIp');
  if (options.probeIp6 !== undefined) checkIp(op, [6], options.probeIp6, 'probeIp6');
  for (const [i, name] of (options.virtualInterfaces ?? []).entries()) checkDevice(op, name, `virtualInterfaces[${i}]`);
}
