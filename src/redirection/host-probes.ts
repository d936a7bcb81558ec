import { checkIp, checkPlanName, checkPods } from './check-options.ts';
import type { IpFamily, Pod, RedirectionPlan } from './plan.ts';
import { PROBE_IP, PROBE_IP6 } from './pod-mode-options.ts';

/** What {@link hostProbes} is told. */
export interface HostProbesOptions {
  /** The pods of the node that are in the mesh, one entry an address; `comment` is the pod's UID. More come and go by `addPod`. */
  readonly pods?: readonly Pod[];
  /** Default true. */
  readonly ipv6?: boolean;
  /** Default {@link PROBE_IP} and {@link PROBE_IP6}; the pods' plans need the same. */
  readonly probeIp?: string;
  readonly probeIp6?: string;
  /** Prefix of tables. Default `istio-ambient`. */
  readonly name?: string;
}

/** Role of the plan: the node's own namespace. */
export const HOST_ROLE = 'host';
/** The sets of the pods whose probes pass the proxy by (facts section 7.4). */
export const PROBES_SET = 'istio-inpod-probes-v4';
export const PROBES_SET6 = 'istio-inpod-probes-v6';

/**
 * The node's side of pod mode (facts section 7.4): what the node's own sockets send to a pod of the mesh, probes above all, comes
 * from an address that no client has, and which the pod's rules let pass. One plan a node, role `host`.
 *
 * It asks for any socket of the node, as iptables' `--socket-exists` does, where Istio's nftables form asks for the kubelet's user
 * id: nothing has to be found out first. NAT is decided by a connection's first packet, so trap 2 does not arise.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` or `ERR_IP_ADDRESS`, naming the option
 */
export function hostProbes(options: HostProbesOptions = {}): RedirectionPlan {
  const op = 'hostProbes';
  const { probeIp = PROBE_IP, probeIp6 = PROBE_IP6, name = 'istio-ambient', pods = [] } = options;
  const families: readonly IpFamily[] = options.ipv6 === false ? [4] : [4, 6];
  checkPlanName(op, name);
  checkIp(op, [4], probeIp, 'probeIp');
  checkIp(op, [6], probeIp6, 'probeIp6');
  checkPods(op, { families, pods }, 'pods', false);
  const sets = [
    { name: PROBES_SET, family: 4 },
    { name: PROBES_SET6, family: 6 },
  ] as const;
  return {
    name,
    families,
    links: [],
    sides: [
      {
        role: HOST_ROLE,
        addresses: [],
        sysctls: [],
        routes: [],
        policyRules: [],
        sets: sets.filter(({ family }) => families.includes(family)),
        chains: [
          {
            name: 'ISTIO_POSTRT',
            table: 'nat',
            hook: 'postrouting',
            // Ahead of the CNI's masquerade, which would settle the source first.
            place: 'before-others',
            rules: [
              {
                id: 'host-postrouting-1',
                matches: [
                  { on: 'own-socket' },
                  { on: 'protocol', protocol: 'tcp' },
                  { on: 'destination-set', set: PROBES_SET, ...(families.includes(6) ? { set6: PROBES_SET6 } : {}) },
                ],
                action: { do: 'snat', ip: probeIp, ip6: probeIp6 },
                why: 'a probe, which the pod’s rules let pass',
              },
            ],
          },
        ],
        keepsOpenConnections: true,
      },
    ],
    pods: {
      role: HOST_ROLE,
      set: PROBES_SET,
      ...(families.includes(6) ? { set6: PROBES_SET6 } : {}),
      sysctls: [],
      list: pods,
    },
  };
}
