import { CertificateAuthority } from '../../identity/index.ts';
import { type LabDescription, type LabMode, type LabNode, namespaceName } from '../../lab/index.ts';
import type { StateDirectory } from './state-directory.ts';

export const TRUST_DOMAIN = 'cluster.local';
export const NAMESPACE = 'default';
/** What the `denied` scenario runs into. */
export const DENY_POLICY = 'deny-client2';
const HTTPBIN_HOSTNAME = `httpbin.${NAMESPACE}.svc.cluster.local`;

/** The SPIFFE id of a pod of the demo: its service account has the pod's name. */
export function podIdentity(name: string): string {
  return `spiffe://${TRUST_DOMAIN}/ns/${NAMESPACE}/sa/${name}`;
}

/** The registry of the mesh in ztunnel's own file form (facts section 4.10). */
export function meshYaml(description: LabDescription): string {
  const service = description.services[0]!;
  const workloads = description.nodes.flatMap((node) =>
    node.pods.map(({ name, ip }) => {
      const isBackend = ip === service.endpoint.ip;
      const services = isBackend
        ? `{${NAMESPACE}/${HTTPBIN_HOSTNAME}: {${service.port}: ${service.endpoint.port}}}`
        : '{}';
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
  node: ${node.name}
  protocol: HBONE
  workloadIps: [${ip}]
  services: ${services}
${isBackend ? `  authorizationPolicies: [${NAMESPACE}/${DENY_POLICY}]\n` : ''}`;
    }),
  );
  return `workloads:
${workloads.join('')}services:
- name: httpbin
  namespace: ${NAMESPACE}
  hostname: ${HTTPBIN_HOSTNAME}
  vips: ["/${service.ip}"]
  ports: {${service.port}: ${service.endpoint.port}}
policies:
- name: ${DENY_POLICY}
  namespace: ${NAMESPACE}
  scope: WorkloadSelector
  action: Deny
  dryRun: false
  # one rule of two clauses, which must both match: port 80, from client2
  rules:
  - - - destinationPorts: [${service.endpoint.port}]
    - - principals: [!Exact "${TRUST_DOMAIN}/ns/${NAMESPACE}/sa/client2"]
`;
}

/**
 * Writes what the proxies start from: the registry, and for each node an intermediate authority of its own below one root, whose key
 * is not written anywhere.
 *
 * @returns the environment of each node's proxy, by the node's name
 */
export async function writeMesh(
  description: LabDescription,
  state: StateDirectory,
  mode: LabMode,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Readonly<Record<string, string>>>> {
  const meshPath = state.write('mesh.yaml', meshYaml(description));
  const root = await CertificateAuthority.create({ trustDomain: TRUST_DOMAIN, signal });
  const environments = new Map<string, Record<string, string>>();
  for (const node of description.nodes) {
    const { name } = node;
    const { chainPem, keyPem, rootsPem } = (await root.createIntermediate({ name, signal })).export();
    const directory = `ca-${name}`;
    state.write(`${directory}/chain.pem`, chainPem);
    state.write(`${directory}/key.pem`, keyPem);
    state.write(`${directory}/roots.pem`, rootsPem);
    environments.set(name, {
      ...(mode === 'node' ? { PROXY_MODE: 'node' } : servedPods(description, node, state)),
      AMBIENT_NETNS: namespaceName(description, node.ztunnel.name),
      NODE_NAME: name,
      NETWORK: '',
      CLUSTER_ID: 'Kubernetes',
      TRUST_DOMAIN,
      LOCAL_XDS_PATH: meshPath,
      AMBIENT_CA_DIR: state.file(directory),
      AMBIENT_DECISION_LOG: decisionLogPath(state, name),
      LOG_FORMAT: 'plain',
    });
  }
  return environments;
}

/** In pod mode a proxy is told of its pods. */
function servedPods(description: LabDescription, node: LabNode, state: StateDirectory): Record<string, string> {
  const pods = node.pods.map(
    ({ name }) => `- name: ${name}
  namespace: ${NAMESPACE}
  serviceAccount: ${name}
  netns: ${namespaceName(description, name)}
`,
  );
  return { PROXY_MODE: 'shared', AMBIENT_PODS_PATH: state.write(podsFileName(node.name), `pods:\n${pods.join('')}`) };
}

/** The pods that a node's proxy serves in pod mode. */
export function podsFileName(node: string): string {
  return `${node}.pods.yaml`;
}

/** Where a node's proxy writes its decisions. */
export function decisionLogPath(state: StateDirectory, node: string): string {
  return state.file(`${node}.decisions.jsonl`);
}
