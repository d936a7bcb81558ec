import { manyAddress, PODS } from './topology.ts';

export const TRUST_DOMAIN = 'cluster.local';
export const NAMESPACE = 'bench';

/** Five that deny and do not match; of the five that allow, the last one does. */
export const POLICIES = Array.from({ length: 10 }, (_, i) => ({
  name: `policy-${i}`,
  action: i < 5 ? ('Deny' as const) : ('Allow' as const),
  /** Without the scheme, as Istio's policies have it. */
  principal: `${TRUST_DOMAIN}/ns/${NAMESPACE}/sa/${i === 9 ? 'p1' : `stranger-${i}`}`,
}));

/**
 * What every proxy starts from, in ztunnel's own form (facts section 4.10): the pods, and the policies that a connection is held
 * against.
 *
 * @param manyCount - how many further addresses p3 is known by; the memory of a proxy grows with them
 */
export function meshYaml(manyCount: number): string {
  const workloads = PODS.map(({ name, node, ip }) => {
    const ips: string[] = [ip];
    if (name === 'p3') for (let n = 0; n < manyCount; n++) ips.push(manyAddress(n));
    return `- uid: Kubernetes//Pod/${NAMESPACE}/${name}
  name: ${name}
  namespace: ${NAMESPACE}
  serviceAccount: ${name}
  trustDomain: ${TRUST_DOMAIN}
  clusterId: Kubernetes
  workloadName: ${name}
  workloadType: deployment
  canonicalName: ${name}
  canonicalRevision: latest
  node: ${node}
  protocol: HBONE
  workloadIps: [${ips.join(', ')}]
  services: {}
`;
  });
  return `workloads:\n${workloads.join('')}services: []\npolicies:\n${policies().join('')}`;
}

function policies(): string[] {
  return POLICIES.map(
    ({ name, action, principal }) => `- name: ${name}
  namespace: ${NAMESPACE}
  scope: Namespace
  action: ${action}
  dryRun: false
  rules:
  - - - principals: [!Exact "${principal}"]
`,
  );
}
