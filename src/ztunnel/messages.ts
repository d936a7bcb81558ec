import type { MeshSnapshot } from '../discovery/index.ts';
import type { TlsCredentials } from '../engine/index.ts';
import type { AccessLogFormat } from '../telemetry/index.ts';
import type { WorkloadName } from './served-workloads.ts';

/** What a data-plane thread is started with: plain data, cloned into its `workerData`. */
export interface DataPlaneOptions {
  /** Path of the network namespace that it lives in. */
  readonly namespacePath: string;
  /** `node`: listens and dials there for every pod of the node; `pods`: in the namespaces of pods, as they come and go. */
  readonly serves: 'node' | 'pods';
  readonly nodeName: string;
  readonly network: string;
  readonly clusterId: string;
  readonly trustDomain: string;
  /** Several threads, or an old proxy and a new one, share each port (SO_REUSEPORT). */
  readonly reusePort: boolean;
  /** SO_MARK of every socket; undefined: none. */
  readonly packetMark: number | undefined;
  /** Connect to applications from the client's own address, and listen transparently. */
  readonly originalSource: boolean;
  /** Listen for IPv6 too. */
  readonly ipv6: boolean;
  readonly outboundPort: number;
  readonly inboundPlaintextPort: number;
  readonly inboundHbonePort: number;
  readonly maxStreamsPerTunnel: number;
  readonly tunnelIdleMs: number;
  readonly http2: {
    readonly initialWindowBytes: number;
    readonly connectionWindowBytes: number;
    readonly maxFrameBytes: number;
  };
  /** Descriptor that access-log lines are written to. */
  readonly accessLogFd: number;
  readonly accessLogFormat: AccessLogFormat;
  /** Descriptor for the decision log; -1 for none. */
  readonly decisionLogFd: number;
  readonly responseBaggage: boolean;
  /** Send a connection's first bytes behind its CONNECT. */
  readonly earlyData: boolean;
  /** How long a wait polls where messages follow each other fast; 0: never. */
  readonly busyPollMs: number;
}

/** What a data-plane thread is told of a pod that it is to serve. */
export interface PodMessage extends WorkloadName {
  /** Of this service of the pod: a pod that comes again is served anew. */
  readonly id: number;
  /** Stays valid until the pod is gone; undefined: the namespace that the thread lives in. */
  readonly namespacePath: string | undefined;
}

/** Main thread → data plane. */
export type ToDataPlane =
  | { readonly type: 'state'; readonly snapshot: MeshSnapshot }
  | { readonly type: 'certificate'; readonly identity: string; readonly credentials: TlsCredentials }
  | { readonly type: 'forget'; readonly identity: string }
  | { readonly type: 'stats'; readonly id: number }
  /** Serve a pod, and answer `pod-served`. */
  | { readonly type: 'add-pod'; readonly pod: PodMessage }
  /** Listen no more for it; say `pod-gone` when its last connection has ended. */
  | { readonly type: 'drain-pod'; readonly id: number }
  /** Cut what is left of it, and say `pod-gone` unless that was said. */
  | { readonly type: 'cut-pod'; readonly id: number }
  /** Listen no more; say `drained` when the last connection has ended. */
  | { readonly type: 'drain' }
  /** Cut what is left and end the thread. */
  | { readonly type: 'stop' };

/** Counts of one data-plane thread since it started, but for the `open…` ones, which are of now. */
export interface DataPlaneStats {
  connectionsOpened: number;
  readonly connectionsClosed: number;
  readonly connectionsFailed: number;
  readonly connectionsDenied: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly openConnections: number;
  readonly openOutboundTunnels: number;
  readonly openInboundTunnels: number;
}

/** Data plane → main thread. */
export type FromDataPlane =
  | { readonly type: 'listening' }
  | { readonly type: 'stats'; readonly id: number; readonly stats: DataPlaneStats }
  | { readonly type: 'drained' }
  /** `failure`: why it is not served, in words; nothing is left of it then. */
  | { readonly type: 'pod-served'; readonly id: number; readonly failure: string | undefined }
  | { readonly type: 'pod-gone'; readonly id: number }
  | { readonly type: 'warning'; readonly message: string };
