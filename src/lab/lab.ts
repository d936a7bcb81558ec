import { setImmediate } from 'node:timers/promises';
import { createNamespace, deleteNamespace, NetnsError, type NetworkNamespace } from '../netns/index.ts';
import { apply, hostProbes, nodeMode, podMode, type Redirection, type RedirectionPlan } from '../redirection/index.ts';
import { checkDescription } from './check-description.ts';
import { installClusterNetwork } from './cluster-network.ts';
import { type LabDescription, type LabNode, labNames, namespaceName, vethName } from './description.ts';
import { LabError } from './errors.ts';
import { wireLan, wireNode } from './wire.ts';

/** Options of {@link createLab}. */
export interface CreateLabOptions {
  /** Looked at before each step; an abort takes away what was made. */
  readonly signal?: AbortSignal | undefined;
  /** Told of each step before it begins, in a few words. */
  readonly onProgress?: ((step: string) => void) | undefined;
  /** Whether enrolled pods' traffic is handed to the proxies. Default true; without it this is a cluster without a mesh. */
  readonly redirect?: boolean;
  /**
   * Where traffic is redirected. `node`, the default: on each node, to a proxy in a namespace of its own. `pod`: in each enrolled pod,
   * to a proxy that listens there; the node lets its own probes come past it.
   */
  readonly mode?: LabMode;
}

/** Where a lab redirects. */
export type LabMode = 'node' | 'pod';

/**
 * Builds the namespaces of a description with everything in them: cables, addresses, routes, the ClusterIPs, and on each node the
 * redirection to its proxy, or in each pod. Proxies and the pods' programs are the caller's. Gives other work a turn between steps.
 *
 * @returns owned by the caller, who closes it: that removes everything
 * @throws {InvalidInputError} `ERR_LAB_INVALID`, with `field`; nothing was made
 * @throws {LabError} `ERR_LAB_EXISTS`, `ERR_LAB_FAILED`; what was made is gone again
 */
export async function createLab(description: LabDescription, options: CreateLabOptions = {}): Promise<Lab> {
  checkDescription(description);
  const { signal, onProgress, redirect = true, mode = 'node' } = options;
  const lab = new Lab(description);
  const step = async (what: string, build: () => void) => {
    await setImmediate();
    signal?.throwIfAborted();
    onProgress?.(what);
    try {
      build();
    } catch (cause) {
      throw asLabError(what, cause);
    }
  };
  try {
    const names = labNames(description);
    await step(`${names.length} network namespaces`, () => lab.make(names));
    const namespaceOf = (name: string) => lab.namespace(name);
    await step('the LAN between the nodes', () => wireLan(description, namespaceOf));
    for (const node of description.nodes) {
      await step(`${node.name}: cables to its pods`, () => wireNode(node, namespaceOf));
      await step(`${node.name}: ClusterIPs`, () => installClusterNetwork(description, namespaceOf(node.name)));
      if (!redirect) continue;
      if (mode === 'node') await step(`${node.name}: redirection to ${node.ztunnel.name}`, () => lab.redirect(node));
      else await step(`${node.name}: redirection in its pods`, () => lab.redirectPods(node));
    }
    return lab;
  } catch (error) {
    await lab.close();
    throw error;
  }
}

/** The node-mode plan of a node, with its enrolled pods. */
export function labPlan(node: LabNode): RedirectionPlan {
  return nodeMode({
    hostIp: node.ip,
    ztunnelIp: node.ztunnel.ip,
    ztunnelVeth: vethName(node.ztunnel),
    pods: node.pods
      .filter(({ enrolled }) => enrolled !== false)
      .map((pod) => ({ ip: pod.ip, veth: vethName(pod), comment: pod.name })),
  });
}

/** A mesh in namespaces, built by {@link createLab}. Holds each namespace and two netlink sockets per namespace of a node and proxy. */
export class Lab implements AsyncDisposable {
  readonly description: LabDescription;
  readonly #namespaces = new Map<string, NetworkNamespace>();
  readonly #redirections = new Map<string, Redirection>();
  #isOpen = true;

  constructor(description: LabDescription) {
    this.description = description;
  }

  /** The namespace of a node, proxy, pod or the outside host; the lab's own, not to be closed. @throws {LabError} `ERR_LAB_CLOSED` */
  namespace(name: string): NetworkNamespace {
    const namespace = this.#namespaces.get(name);
    if (namespace !== undefined) return namespace;
    if (this.#isOpen) throw new RangeError(`the lab has no ${name}`);
    throw new LabError({ code: 'ERR_LAB_CLOSED', op: 'lab.namespace', message: 'this lab was closed' });
  }

  /** The description of a node. */
  node(name: string): LabNode {
    const node = this.description.nodes.find((candidate) => candidate.name === name);
    if (node === undefined) throw new RangeError(`the lab has no node ${name}`);
    return node;
  }

  /** What is in force on a node, or in pod mode in a pod; nothing without `redirect`. */
  redirection(name: string): Redirection | undefined {
    return this.#redirections.get(name);
  }

  /** All that is in force, by the name of the node or pod. */
  get redirections(): ReadonlyMap<string, Redirection> {
    return this.#redirections;
  }

  /** Makes namespaces; those that were made before one failed are the lab's. For {@link createLab}. */
  make(names: readonly string[]): void {
    for (const name of names) this.#namespaces.set(name, createNamespace(namespaceName(this.description, name)));
  }

  /** For {@link createLab}. */
  redirect(node: LabNode): void {
    const namespaces = { node: this.namespace(node.name), ztunnel: this.namespace(node.ztunnel.name) };
    this.#redirections.set(node.name, apply(labPlan(node), namespaces));
  }

  /** For {@link createLab}. */
  redirectPods(node: LabNode): void {
    const enrolled = node.pods.filter((pod) => pod.enrolled !== false);
    const probes = hostProbes({ pods: enrolled.map(({ name, ip }) => ({ ip, comment: name })) });
    this.#redirections.set(node.name, apply(probes, { host: this.namespace(node.name) }));
    // Nobody answers for DNS.
    const plan = podMode({ captureDns: false });
    for (const { name } of enrolled) this.#redirections.set(name, apply(plan, { pod: this.namespace(name) }));
  }

  /** Lets go without removing: the namespaces stay as they are, {@link removeLab} takes them away. A second call does nothing. */
  leave(): void {
    this.#isOpen = false;
    for (const redirection of this.#redirections.values()) redirection.close();
    this.#redirections.clear();
    for (const namespace of this.#namespaces.values()) namespace.close();
    this.#namespaces.clear();
  }

  /** As {@link close}, at once: for an exit handler. */
  closeSync(): void {
    const names = [...this.#namespaces.keys()];
    this.leave();
    for (const name of names) deleteNamespace(namespaceName(this.description, name), { missingOk: true });
  }

  /** Removes everything that was made; rules, routes and cables go with their namespaces. A second call does nothing. */
  async close(): Promise<void> {
    this.closeSync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeSync();
  }
}

function asLabError(step: string, cause: unknown): LabError {
  if (cause instanceof NetnsError && cause.code === 'ERR_NETNS_EXISTS') {
    return new LabError({ code: 'ERR_LAB_EXISTS', op: 'lab.create', message: cause.message, cause });
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new LabError({ code: 'ERR_LAB_FAILED', op: 'lab.create', message: `${step}: ${reason}`, cause });
}
