import type { MeshState } from '../discovery/index.ts';
import { InvalidInputError, messageOf } from '../errors/index.ts';
import { NetworkNamespace, openNamespace } from '../netns/index.ts';
import type { FromDataPlane, ToDataPlane } from './messages.ts';
import { type WorkloadName, workloadNameText } from './served-workloads.ts';
import { ZtunnelError } from './ztunnel-error.ts';

/** A pod that a proxy is to serve from inside its network namespace. */
export interface PodOptions extends WorkloadName {
  /** What it is called here: in Kubernetes the pod's UID. At most 253 characters. */
  readonly uid: string;
  /**
   * Its network namespace: a name under /run/netns, an absolute path, a descriptor or an open namespace. What is handed over stays the
   * caller's and may be closed once {@link Ztunnel.addPod} has returned its promise.
   */
  readonly netns: string | number | NetworkNamespace;
}

/** A pod that is served. */
export interface ServedPod extends WorkloadName {
  readonly uid: string;
  /** Of its network namespace: two with the same are the same. */
  readonly inode: number;
}

/** Options of {@link Ztunnel.removePod}. */
export interface RemovePodOptions {
  /** How long its connections may go on. Default `podDrainDeadlineMs` of the proxy; 0 cuts them at once. */
  readonly deadlineMs?: number;
  /** Cuts them at once when it aborts. */
  readonly signal?: AbortSignal | undefined;
}

/** What {@link PodService} needs of the proxy. */
export interface PodServiceInit {
  readonly nodeName: string;
  /** Sends to every data-plane thread. */
  readonly broadcast: (message: ToDataPlane) => void;
  /** How many threads there are. */
  readonly threads: number;
  readonly maxPods: number;
  readonly drainDeadlineMs: number;
  readonly registryWaitMs: number;
}

/** A pod from the call that adds it until its last connection has ended. */
interface Entry {
  readonly id: number;
  readonly pod: ServedPod;
  readonly netns: NetworkNamespace;
  /** Whether the threads are in its namespace already. */
  readonly isOwn: boolean;
  /** Over when it is served, or known not to be. Never rejects. */
  readonly settled: Promise<void>;
  isServed: boolean;
  readonly served: Answers;
  readonly gone: Answers;
}

/** One answer of every thread. */
class Answers {
  readonly all = Promise.withResolvers<void>();
  failure: string | undefined;
  #left: number;

  constructor(threads: number) {
    this.#left = threads;
  }

  take(failure?: string): void {
    this.failure ??= failure;
    if (--this.#left === 0) this.all.resolve();
  }
}

/** The main thread's list of pods: who is served, in which namespace, and what the data-plane threads say of it. */
export class PodService {
  readonly #init: PodServiceInit;
  /** Those that are served or about to be. */
  readonly #byUid = new Map<string, Entry>();
  /** Those that drain as well. */
  readonly #byId = new Map<number, Entry>();
  /** Waits for a workload that the registry does not have yet. */
  readonly #waiting = new Set<() => void>();
  #state: MeshState | undefined;
  #ids = 0;
  #closed = false;
  /** Why, where nobody asked for it. */
  #cause: Error | undefined;

  constructor(init: PodServiceInit) {
    this.#init = init;
  }

  /** Those that are served, in the order in which they came. */
  get list(): ServedPod[] {
    return Array.from(this.#byUid.values())
      .filter(({ isServed }) => isServed)
      .map(({ pod }) => pod);
  }

  /** The registry that the data plane has from now on. */
  onState(state: MeshState): void {
    this.#state = state;
    this.#wake();
  }

  /** The pod in whose namespace the threads live: served without entering it. */
  addOwn(options: PodOptions, signal: AbortSignal | undefined): Promise<void> {
    return this.add(options, signal, true);
  }

  async add(options: PodOptions, signal: AbortSignal | undefined, isOwn = false): Promise<void> {
    this.#check('addPod');
    checkPod(options);
    signal?.throwIfAborted();
    const { uid, name, namespace, serviceAccount } = options;
    if (this.#byUid.has(uid)) throw failure('ERR_ZTUNNEL_POD_EXISTS', `the pod ${uid} is served already`);
    const { maxPods, threads } = this.#init;
    if (this.#byUid.size >= maxPods) throw failure('ERR_ZTUNNEL_POD_LIMIT', `${maxPods} pods are served already`);
    const netns = openPodNamespace(options);
    const { inode } = netns;
    const other = [...this.#byUid.values()].find(({ pod }) => pod.inode === inode);
    if (other !== undefined) {
      netns.close();
      const message = `the network namespace of ${uid} is the one of ${other.pod.uid}, which is served already`;
      throw failure('ERR_ZTUNNEL_POD_EXISTS', message);
    }
    const pod = { uid, name, namespace, serviceAccount, inode };
    const settled = Promise.withResolvers<void>();
    const entry: Entry = {
      id: ++this.#ids,
      pod,
      netns,
      isOwn,
      settled: settled.promise,
      isServed: false,
      served: new Answers(threads),
      gone: new Answers(threads),
    };
    this.#byUid.set(uid, entry);
    try {
      await this.#untilRegistered(pod, signal);
      await this.#serve(entry);
      entry.isServed = true;
      this.#check('addPod');
      signal?.throwIfAborted();
    } catch (error) {
      this.#byUid.delete(uid);
      if (entry.isServed) await this.#end(entry, 0, undefined);
      else netns.close();
      throw error;
    } finally {
      settled.resolve();
    }
  }

  async remove(uid: string, options: RemovePodOptions): Promise<boolean> {
    this.#check('removePod');
    const { deadlineMs = this.#init.drainDeadlineMs, signal } = options;
    if (!Number.isInteger(deadlineMs) || deadlineMs < 0 || deadlineMs > MAX_MS) {
      throw invalid('removePod', 'deadlineMs', `expected a whole number from 0 to ${MAX_MS}, got ${deadlineMs}`);
    }
    const entry = this.#byUid.get(uid);
    // One that is served goes at once, so that it may come again at once.
    if (entry?.isServed === false) await entry.settled;
    // It may not have come to be, or somebody else may have taken it out meanwhile.
    if (entry === undefined || this.#byUid.get(uid) !== entry) return false;
    this.#byUid.delete(uid);
    await this.#end(entry, deadlineMs, signal);
    return true;
  }

  receive(message: FromDataPlane & { readonly type: 'pod-served' | 'pod-gone' }): void {
    const entry = this.#byId.get(message.id);
    if (message.type === 'pod-served') entry?.served.take(message.failure);
    else entry?.gone.take();
  }

  /**
   * The threads are gone, or going, and everything of the pods with them.
   *
   * @param cause - where nobody asked for it
   */
  close(cause?: Error): void {
    this.#closed = true;
    this.#cause ??= cause;
    for (const entry of this.#byId.values()) {
      entry.served.failure ??= 'the proxy was closed';
      entry.served.all.resolve();
      entry.gone.all.resolve();
      entry.netns.close();
    }
    this.#wake();
  }

  /** Facts section 2.2: what the CNI knows the registry may learn a moment later. */
  async #untilRegistered(pod: ServedPod, signal: AbortSignal | undefined): Promise<void> {
    const { registryWaitMs, nodeName } = this.#init;
    const isKnown = () => this.#state?.localWorkload({ node: nodeName, ...pod }) !== undefined;
    const deadline = performance.now() + registryWaitMs;
    while (!isKnown()) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) {
        const message = `the registry has no workload ${workloadNameText(pod)} on ${nodeName}, even after ${registryWaitMs} ms`;
        throw failure('ERR_ZTUNNEL_POD_UNKNOWN', message);
      }
      await this.#nextState(leftMs, signal);
      this.#check('addPod');
      signal?.throwIfAborted();
    }
  }

  #nextState(mostMs: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', done);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, Math.ceil(mostMs));
      signal?.addEventListener('abort', done, { once: true });
      this.#waiting.add(done);
    });
  }

  async #serve(entry: Entry): Promise<void> {
    const { id, netns, isOwn, pod, served } = entry;
    const { name, namespace, serviceAccount } = pod;
    this.#byId.set(id, entry);
    // Descriptors are the whole process's; each thread opens one of its own behind it.
    const namespacePath = isOwn ? undefined : `/proc/self/fd/${netns.fd}`;
    this.#init.broadcast({ type: 'add-pod', pod: { id, name, namespace, serviceAccount, namespacePath } });
    await served.all.promise;
    if (served.failure === undefined) return;
    // One thread may have got what another did not.
    this.#init.broadcast({ type: 'cut-pod', id });
    this.#byId.delete(id);
    this.#check('addPod');
    throw failure('ERR_ZTUNNEL_POD_FAILED', `the pod ${pod.uid} cannot be served: ${served.failure}`);
  }

  async #end(entry: Entry, deadlineMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { id, gone, netns } = entry;
    const cut = () => this.#init.broadcast({ type: 'cut-pod', id });
    this.#init.broadcast({ type: 'drain-pod', id });
    const timer = setTimeout(cut, deadlineMs);
    if (signal?.aborted || deadlineMs === 0) cut();
    signal?.addEventListener('abort', cut, { once: true });
    await gone.all.promise;
    clearTimeout(timer);
    signal?.removeEventListener('abort', cut);
    this.#byId.delete(id);
    netns.close();
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  #check(op: string): void {
    if (!this.#closed) return;
    const cause = this.#cause;
    const message = cause === undefined ? 'the proxy is closed' : `the proxy is closed: ${messageOf(cause)}`;
    throw new ZtunnelError({ code: 'ERR_ZTUNNEL_CLOSED', op: `ztunnel.${op}`, message, cause });
  }
}

const MAX_MS = 0x7fff_ffff;
const MAX_NAME_LENGTH = 253;

function checkPod(pod: PodOptions): void {
  for (const field of ['uid', 'name', 'namespace', 'serviceAccount'] as const) {
    const value: unknown = pod[field];
    if (typeof value !== 'string') throw invalid('addPod', `pod.${field}`, `is a ${typeof value}, not a text`);
    if (value === '') throw invalid('addPod', `pod.${field}`, 'is empty');
    if (value.length > MAX_NAME_LENGTH) {
      throw invalid('addPod', `pod.${field}`, `has ${value.length} characters, more than ${MAX_NAME_LENGTH}`);
    }
  }
  const { netns } = pod;
  if (typeof netns === 'string' || netns instanceof NetworkNamespace) return;
  if (typeof netns === 'number' && Number.isInteger(netns) && netns >= 0) return;
  throw invalid('addPod', 'pod.netns', 'is no name, path, descriptor or open network namespace');
}

/** A descriptor of our own, so that the caller's may be closed. */
function openPodNamespace({ uid, netns }: PodOptions): NetworkNamespace {
  try {
    if (typeof netns === 'string') return openNamespace(netns);
    return openNamespace(`/proc/self/fd/${typeof netns === 'number' ? netns : netns.fd}`);
  } catch (cause) {
    const message = `the network namespace of ${uid} cannot be opened: ${messageOf(cause)}`;
    throw failure('ERR_ZTUNNEL_POD_NETNS', message, cause);
  }
}

function failure(
  code:
    | 'ERR_ZTUNNEL_POD_EXISTS'
    | 'ERR_ZTUNNEL_POD_FAILED'
    | 'ERR_ZTUNNEL_POD_LIMIT'
    | 'ERR_ZTUNNEL_POD_NETNS'
    | 'ERR_ZTUNNEL_POD_UNKNOWN',
  message: string,
  cause?: unknown,
): ZtunnelError {
  return new ZtunnelError({ code, op: 'ztunnel.addPod', message, cause });
}

function invalid(op: string, field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_ZTUNNEL_POD_INVALID', op: `ztunnel.${op}`, field, message });
}
