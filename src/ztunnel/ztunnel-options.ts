import type { AuthorityMaterial } from '../identity/index.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import type { AccessLogFormat } from '../telemetry/index.ts';
import type { DataPlaneOptions } from './messages.ts';
import type { WorkloadName } from './served-workloads.ts';

/** A node proxy, as {@link startZtunnel} makes it. */
export interface ZtunnelOptions {
  /**
   * Where the proxy lives: a name under /run/netns, an absolute path, or an open namespace. It listens and dials there, unless `mode`
   * is `shared`.
   */
  readonly namespace: string | NetworkNamespace;
  /**
   * Whom it serves, in the words of PROXY_MODE. `node`, the default: every pod of its node, whose traffic node-mode redirection brings
   * into its namespace. `dedicated`: the one pod in whose namespace it lives. `shared`: the pods that {@link Ztunnel.addPod} gives it,
   * each from inside the pod's namespace.
   */
  readonly mode?: 'node' | 'dedicated' | 'shared';
  /** The pod of a `dedicated` proxy. Default: the workload of the node that has an address of the namespace when the proxy starts. */
  readonly workload?: WorkloadName | undefined;
  /** The pods of a `shared` proxy as a YAML file, followed while it runs: {@link parsePodsFile} says what is in it. */
  readonly podsFile?: { readonly path: string } | undefined;
  readonly nodeName: string;
  readonly trustDomain: string;
  /** The YAML file of workloads, services and policies (facts section 4.10); followed while the proxy runs. */
  readonly discovery: { readonly path: string };
  /** Issues the certificates of this node's workloads: usually an intermediate of the mesh's root. PEM. */
  readonly authority: Pick<AuthorityMaterial, 'chainPem' | 'keyPem' | 'rootsPem'>;
  /** Default "". */
  readonly network?: string;
  /** Default `Kubernetes`. */
  readonly clusterId?: string;
  /** SO_MARK of every socket, for in-pod redirection. Default: 0x539 in `shared` mode, else none. */
  readonly packetMark?: number | undefined;
  /** Keep the client's address towards applications (IP_TRANSPARENT). Default true. */
  readonly originalSource?: boolean;
  /** Listen for IPv6 too, where a namespace has it. Default true, but false in `node` mode, which brings none. */
  readonly ipv6?: boolean | undefined;
  /** Data-plane threads; several share each port. Default 1, at most 64. */
  readonly threads?: number;
  /** Lifetime asked for a certificate. Default 24 h. */
  readonly certificateTtlMs?: number;
  /** Default `stdout`. A path is appended to. */
  readonly accessLog?: 'stdout' | { readonly path: string };
  readonly accessLogFormat?: AccessLogFormat;
  /** One JSON object per connection, with the decision, the policy's reason and the tunnel. Off by default. */
  readonly decisionLogPath?: string | undefined;
  /** Streams that one tunnel carries before another is dialled. Default 100. */
  readonly maxStreamsPerTunnel?: number;
  /** How long a tunnel without streams is kept. Default 300,000. */
  readonly tunnelIdleMs?: number;
  /** Facts section 1.7 has the defaults. */
  readonly http2?: Partial<DataPlaneOptions['http2']>;
  /** Tell clients about the workload they reached. Default true. */
  readonly responseBaggage?: boolean;
  /**
   * Send what an application says first, up to 16 KiB, right behind the CONNECT instead of after its answer, to proxies of workloads (not
   * to waypoints): a round trip less for each connection. RFC 9113 section 8.5 allows it; the real ztunnel takes it. Default true.
   */
  readonly earlyData?: boolean;
  /**
   * How long a data-plane thread that waits may look for events again and again before it sleeps, in milliseconds, at most 1. It does so
   * only where messages follow each other fast, and offers the processor to others between two looks. 0.1 more than halves the time of a
   * request on a virtual machine with processors to spare (docs/PERFORMANCE.md); what it takes of them counts as used. 0: never. Default
   * 0.1 where Node knows of more processors than `threads` for this process, else 0.
   */
  readonly busyPollMs?: number | undefined;
  /** How long {@link Ztunnel.drain} lets connections go on. Default 5,000. */
  readonly drainDeadlineMs?: number;
  /** Pods of a `shared` proxy. Default 1,000. */
  readonly maxPods?: number;
  /** How long {@link Ztunnel.removePod} lets a pod's connections go on. Default 5,000. */
  readonly podDrainDeadlineMs?: number;
  /** How long {@link Ztunnel.addPod} waits for a workload that the registry does not have yet (facts section 2.2). Default 5,000. */
  readonly podRegistryWaitMs?: number;
  /** Bounds the start: listeners up and certificates issued. Default 30,000. */
  readonly startTimeoutMs?: number;
  /** What an operator should know and nothing else says: refused files, failed certificates. Default: dropped. */
  readonly onWarning?: (message: string) => void;
  /** Ends the start, and has no effect after it: {@link Ztunnel.close} has. */
  readonly signal?: AbortSignal | undefined;
}
