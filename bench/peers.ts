import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CertificateAuthority } from '../src/identity/index.ts';
import type { Lab } from '../src/lab/index.ts';
import { namespaceName } from '../src/lab/index.ts';
import { prepareEnvoy } from './envoy.ts';
import { NAMESPACE, TRUST_DOMAIN } from './mesh-file.ts';
import type { Command } from './processes.ts';
import { PODS, type PodName, PROXY_MARK } from './topology.ts';

export const PEER_NAMES = ['direct', 'ours', 'ztunnel', 'envoy'] as const;
export type PeerName = (typeof PEER_NAMES)[number];

/** Where a peer's proxies run and what they are given. */
export interface PeerSite {
  readonly lab: Lab;
  /** A folder of this peer's own. */
  readonly directory: string;
}

/** How one pod's proxy is started; undefined for a pod that the proxy of another one serves too. */
export type ProxyCommand = (pod: PodName, meshPath: string) => Command | undefined;

/** Options that only one of the peers has. */
export interface PeerOptions {
  /** The program `ambient`. */
  readonly ambientBin: string;
  readonly ztunnelBin: string | undefined;
  readonly envoyBin: string | undefined;
  /** Data-plane threads of ours; undefined: its default. */
  readonly threads: number | undefined;
  /** Where ours writes V8 profiles; undefined: it does not. */
  readonly cpuProfDirectory: string | undefined;
}

/** Readies a peer; undefined for the one without a proxy. */
export async function preparePeer(
  name: PeerName,
  site: PeerSite,
  options: PeerOptions,
  signal: AbortSignal,
): Promise<ProxyCommand | undefined> {
  switch (name) {
    case 'direct':
      return undefined;
    case 'ours':
      return prepareOurs(site, options, signal);
    case 'ztunnel':
      return prepareZtunnel(site, options);
    case 'envoy':
      if (options.envoyBin === undefined) throw new RangeError('there is no envoy without ENVOY_BIN');
      return prepareEnvoy(site, options.envoyBin, signal);
  }
}

/** Alike for both: sockets are marked, applications see the proxy's address. */
function commonEnvironment(pod: PodName, meshPath: string): Record<string, string> {
  return {
    PROXY_MODE: 'dedicated',
    PACKET_MARK: String(PROXY_MARK),
    ENABLE_ORIG_SRC: 'false',
    NODE_NAME: nodeOf(pod),
    NETWORK: '',
    CLUSTER_ID: 'Kubernetes',
    LOCAL_XDS_PATH: meshPath,
    LOG_FORMAT: 'plain',
    CONNECTION_TERMINATION_DEADLINE: '1s',
  };
}

async function prepareOurs(site: PeerSite, options: PeerOptions, signal: AbortSignal): Promise<ProxyCommand> {
  const root = await CertificateAuthority.create({ trustDomain: TRUST_DOMAIN, signal });
  const nodes = new Set(PODS.map(({ node }) => node));
  for (const node of nodes) {
    const folder = join(site.directory, node);
    mkdirSync(folder, { mode: 0o700 });
    const { chainPem, keyPem, rootsPem } = (await root.createIntermediate({ name: node, signal })).export();
    for (const [file, pem] of Object.entries({ chain: chainPem, key: keyPem, roots: rootsPem })) {
      writeFileSync(join(folder, `${file}.pem`), pem, { mode: 0o600 });
    }
    writeFileSync(join(folder, PODS_FILE), podsYaml(site.lab, node));
  }
  const { ambientBin, threads, cpuProfDirectory } = options;
  const profile = cpuProfDirectory === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${cpuProfDirectory}`];
  return (pod, meshPath) => {
    // One proxy a node, as everywhere but in a sidecar.
    if (pod !== podsOf(nodeOf(pod))[0]!.name) return undefined;
    return {
      program: process.execPath,
      args: [...profile, ambientBin, 'ztunnel'],
      environment: {
        ...commonEnvironment(pod, meshPath),
        PROXY_MODE: 'shared',
        TRUST_DOMAIN,
        AMBIENT_PODS_PATH: join(site.directory, nodeOf(pod), PODS_FILE),
        AMBIENT_CA_DIR: join(site.directory, nodeOf(pod)),
        ...(threads === undefined ? {} : { ZTUNNEL_WORKER_THREADS: String(threads) }),
      },
    };
  };
}

const PODS_FILE = 'pods.yaml';

function podsOf(node: string): readonly (typeof PODS)[number][] {
  return PODS.filter((pod) => pod.node === node);
}

/** The pods of a node, as `AMBIENT_PODS_PATH` has them. */
function podsYaml(lab: Lab, node: string): string {
  const pods = podsOf(node).map(
    ({ name }) =>
      `- {name: ${name}, namespace: ${NAMESPACE}, serviceAccount: ${name}, netns: ${namespaceName(lab.description, name)}}\n`,
  );
  return `pods:\n${pods.join('')}`;
}

function prepareZtunnel(site: PeerSite, { ztunnelBin }: PeerOptions): ProxyCommand {
  if (ztunnelBin === undefined) throw new RangeError('there is no ztunnel without ZTUNNEL_BIN');
  return (pod, meshPath) => ({
    program: ztunnelBin,
    args: [],
    namespace: site.lab.namespace(pod),
    environment: {
      ...commonEnvironment(pod, meshPath),
      PROXY_WORKLOAD_INFO: `${NAMESPACE}/${pod}/${pod}`,
      FAKE_CA: 'true',
      XDS_ADDRESS: '',
      ISTIO_META_DNS_CAPTURE: 'false',
    },
  });
}

function nodeOf(pod: PodName): string {
  return PODS.find(({ name }) => name === pod)!.node;
}
