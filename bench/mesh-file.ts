import { manyAddress, PODS } from './topology.ts';

export const TRUST_DOMAIN = 'cluster.local';
export const NAMESPACE = 'bench';

/**
 * What every proxy starts from, in ztunnel's own form (facts section 4.10): the pods, and ten policies that a connection has to be
 * held against. Five deny and do not match; of the five that allow, the last one does.
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
  const principal = (name: string) => `!Exact "${TRUST_DOMAIN}/ns/${NAMESPACE}/sa/${name}"`;
  return Array.from({ length: 10 }, (_, i) => {
    const action = i < 5 ? 'Deny' : 'Allow';
    const who = i === 9 ? 'p1' : `stranger-${i}`;
    return `- name: policy-${i}
  namespace: ${NAMESPACE}
  scope: Namespace
  action: ${action}
  dryRun: false
  rules:
  - - - principals: [${principal(who)}]
    - - namespaces: [!Exact ${NAMESPACE}]
`;
  });
}
