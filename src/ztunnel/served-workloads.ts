import type { MeshState, Workload } from '../discovery/index.ts';
import type { SocketAddress } from '../ip/index.ts';

/** For whom an instance of the proxy speaks, asked anew for each connection: the registry may have changed. */
export interface ServedWorkloads {
  /** Who opened a connection that came to port 15001. */
  sourceOf(source: SocketAddress): Workload | undefined;
  /** Whom a connection was for that came in to this address. */
  destinationAt(ip: string): Workload | undefined;
  /** Whether a proxied connection has to be dialled from its pod's address: a socket in the pod's own namespace has it by itself. */
  readonly dialsAsSource: boolean;
  /** Why {@link sourceOf} found nobody. */
  unknownSource(source: SocketAddress): string;
}

/** Node mode: redirection brings the traffic of every pod of the node, and the addresses tell them apart. */
export class WorkloadsOfNode implements ServedWorkloads {
  readonly dialsAsSource = true;
  readonly #state: MeshState;
  readonly #network: string;
  readonly #nodeName: string;

  constructor(state: MeshState, network: string, nodeName: string) {
    this.#state = state;
    this.#network = network;
    this.#nodeName = nodeName;
  }

  sourceOf({ ip }: SocketAddress): Workload | undefined {
    return this.destinationAt(ip);
  }

  destinationAt(ip: string): Workload | undefined {
    const workload = this.#state.workloadAt(this.#network, ip);
    return workload?.node === this.#nodeName ? workload : undefined;
  }

  unknownSource({ ip }: SocketAddress): string {
    return `no workload of this node has the address ${ip}`;
  }
}

/** Names a pod's workload as the CNI does; all three must match (facts section 2.2). */
export interface WorkloadName {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/**
 * In-pod mode: whatever comes to a listener in a pod's namespace is of that pod, whichever address it shows (facts section 2.2).
 */
export class WorkloadOfPod implements ServedWorkloads {
  readonly dialsAsSource = false;
  readonly #state: MeshState;
  readonly #nodeName: string;
  readonly #pod: WorkloadName;
  #workload: Workload | undefined;
  #version = -1;

  constructor(state: MeshState, nodeName: string, pod: WorkloadName) {
    this.#state = state;
    this.#nodeName = nodeName;
    this.#pod = pod;
  }

  /** The pod's workload, as the registry has it now. */
  get workload(): Workload | undefined {
    const { version } = this.#state;
    if (this.#version !== version) {
      const { name, namespace, serviceAccount } = this.#pod;
      this.#workload = this.#state.localWorkload({ node: this.#nodeName, name, namespace, serviceAccount });
      this.#version = version;
    }
    return this.#workload;
  }

  sourceOf(): Workload | undefined {
    return this.workload;
  }

  destinationAt(): Workload | undefined {
    return this.workload;
  }

  unknownSource(): string {
    return `this node has no workload ${workloadNameText(this.#pod)}`;
  }
}

/** `default/sleep (service account sleep)`, for messages. */
export function workloadNameText({ name, namespace, serviceAccount }: WorkloadName): string {
  return `${namespace}/${name} (service account ${serviceAccount})`;
}

/**
 * Which address of a workload a connection of it comes from, as seen by a destination: the one that its socket shows, unless that is
 * none of its own or of the other family. An address that a pod has made up counts for nothing.
 *
 * @param source - in canonical form, as the kernel's addresses are decoded
 */
export function addressTowards({ workloadIps }: Workload, source: SocketAddress, destinationIp: string): string {
  const isV6 = destinationIp.includes(':');
  if (source.ip.includes(':') === isV6 && workloadIps.includes(source.ip)) return source.ip;
  return workloadIps.find((ip) => ip.includes(':') === isV6) ?? source.ip;
}
