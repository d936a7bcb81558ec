import { closeSync, openSync } from 'node:fs';
import {
  createFileSource,
  type FileSource,
  type MeshSnapshot,
  MeshState,
  type Workload,
  workloadIdentity,
} from '../discovery/index.ts';
import { ReactorThread } from '../engine/index.ts';
import { messageOf } from '../errors/index.ts';
import {
  CertificateAuthority,
  type CertificateStore,
  createCertificateStore,
  type SpiffeId,
  type WorkloadCertificate,
} from '../identity/index.ts';
import { canonicalIp } from '../ip/index.ts';
import { openNetlink } from '../netlink/index.ts';
import { listAddresses } from '../netlink/route/index.ts';
import { namespacePath, openNamespace } from '../netns/index.ts';
import { PolicySet } from '../rbac/index.ts';
import { checkZtunnelOptions } from './check-options.ts';
import { defaultBusyPollMs } from './default-busy-poll.ts';
import type { DataPlaneOptions, DataPlaneStats, FromDataPlane, ToDataPlane } from './messages.ts';
import { type PodOptions, PodService, type RemovePodOptions, type ServedPod } from './pod-service.ts';
import { PodsFile } from './pods-file.ts';
import type { WorkloadName } from './served-workloads.ts';
import { ZtunnelError } from './ztunnel-error.ts';
import type { ZtunnelOptions } from './ztunnel-options.ts';

/** Facts section 8.6: PACKET_MARK of a shared proxy, by which in-pod redirection knows its packets. */
const INPOD_PACKET_MARK = 0x539;
const DEFAULT_THREADS = 1;
const DEFAULT_MAX_PODS = 1000;

/** A running node proxy. */
export interface Ztunnel extends AsyncDisposable {
  /** Summed over the threads. @throws {ZtunnelError} `ERR_ZTUNNEL_CLOSED` */
  stats(): Promise<DataPlaneStats>;
  /** The same thread by thread. @throws as {@link stats} */
  threadStats(): Promise<DataPlaneStats[]>;
  /**
   * Serves a pod from inside its network namespace: every thread listens there, and what the pod's connections need is dialled there.
   * For `shared` mode; redirection in the pod is somebody else's (`podMode()`). Resolves once it is served.
   *
   * @throws {InvalidInputError} `ERR_ZTUNNEL_POD_INVALID` with `field`; {@link ZtunnelError} `ERR_ZTUNNEL_POD_EXISTS` (the pod, or
   *   its namespace under another uid), `ERR_ZTUNNEL_POD_LIMIT`, `ERR_ZTUNNEL_POD_NETNS`, `ERR_ZTUNNEL_POD_UNKNOWN` (no workload of
   *   this node has that name, namespace and service account, not even after `podRegistryWaitMs`), `ERR_ZTUNNEL_POD_FAILED` (a
   *   listener cannot be had), `ERR_ZTUNNEL_MODE`, `ERR_ZTUNNEL_CLOSED`; `signal.reason`. The pod is not served then, other pods are
   */
  addPod(pod: PodOptions, options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
  /**
   * Serves a pod no more: its listeners are closed at once, its open connections go on until they end or the deadline, then it resolves.
   * The uid may be added again meanwhile. What redirection still brings to the closed listeners is refused, so a pod that lives on is
   * taken out of it first.
   *
   * @returns false if there was no such pod
   * @throws {InvalidInputError} `ERR_ZTUNNEL_POD_INVALID` with `field`; {@link ZtunnelError} `ERR_ZTUNNEL_MODE`, `ERR_ZTUNNEL_CLOSED`
   */
  removePod(uid: string, options?: RemovePodOptions): Promise<boolean>;
  /** Who is served in `shared` and `dedicated` mode, in the order in which they came. */
  readonly pods: readonly ServedPod[];
  /** Listens no more, lets open connections end until the deadline or an abort, cuts the rest, and closes. Of several calls each can cut. */
  drain(options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
  /** Cuts everything and ends the threads. A second call waits for the first. */
  close(): Promise<void>;
  /** Resolves when it is over; rejects when a thread died by itself. */
  readonly closed: Promise<void>;
}

type Thread = ReactorThread<ToDataPlane, FromDataPlane>;

/**
 * Starts a node proxy and resolves when it serves: file read, certificates of this node's workloads issued, ports open.
 *
 * @throws {InvalidInputError} `ERR_ZTUNNEL_CONFIG`, naming the option; `MeshFileError` when the first content of the mesh file or
 *   the pods file is bad; {@link ZtunnelError} `ERR_ZTUNNEL_START` when a listener cannot be made, a dedicated proxy has no workload or
 *   the time is over, `ERR_ZTUNNEL_POD_UNKNOWN`, `ERR_ZTUNNEL_POD_FAILED` for the pod of a dedicated proxy; what
 *   `CertificateAuthority.load` throws; `signal.reason`. Nothing is left behind.
 */
export async function startZtunnel(options: ZtunnelOptions): Promise<Ztunnel> {
  checkZtunnelOptions(options);
  options.signal?.throwIfAborted();
  const proxy = new NodeProxy(options);
  try {
    await proxy.start();
    return proxy;
  } catch (error) {
    await proxy.close();
    options.signal?.throwIfAborted();
    throw error;
  }
}

class NodeProxy implements Ztunnel {
  readonly #options: ZtunnelOptions;
  readonly #threads: Thread[] = [];
  readonly #store: CertificateStore;
  readonly #openFiles: number[] = [];
  readonly #statsWaiters = new Map<number, PromiseWithResolvers<DataPlaneStats>>();
  readonly #startup = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  readonly #pods: PodService;
  #podsFile: PodsFile | undefined;
  /** The pod of a dedicated proxy. */
  #own: WorkloadName | undefined;
  #source: FileSource | undefined;
  #listening = 0;
  readonly #allDrained = Promise.withResolvers<void>();
  #drained = 0;
  #statsId = 0;
  #activation: Promise<void> = Promise.resolve();
  #activations = 0;
  /** What is held for the workloads of this node; settled once the data plane has it, or it is known to fail. */
  readonly #certificates = new Map<SpiffeId, Promise<void>>();
  #closing: Promise<void> | undefined;

  constructor(options: ZtunnelOptions) {
    this.#options = options;
    const authority = CertificateAuthority.load({ trustDomain: options.trustDomain, ...options.authority });
    const { certificateTtlMs } = options;
    this.#store = createCertificateStore({
      issue: (identity, signal) =>
        authority.issue({ identity, signal, ...(certificateTtlMs === undefined ? {} : { ttlMs: certificateTtlMs }) }),
    });
    this.#own = options.workload;
    this.#pods = new PodService({
      nodeName: options.nodeName,
      broadcast: (message) => this.#broadcast(message),
      threads: options.threads ?? DEFAULT_THREADS,
      maxPods: options.maxPods ?? DEFAULT_MAX_PODS,
      drainDeadlineMs: options.podDrainDeadlineMs ?? 5000,
      registryWaitMs: options.podRegistryWaitMs ?? 5000,
    });
    this.#store.onRotate(({ identity, certificate }) => this.#sendCertificate(identity, certificate));
    this.#over.promise.catch(() => {});
    this.#startup.promise.catch(() => {});
  }

  get closed(): Promise<void> {
    return this.#over.promise;
  }

  async start(): Promise<void> {
    const { signal, startTimeoutMs = 30_000 } = this.#options;
    const late = startFailure(`not ready within ${startTimeoutMs} ms`);
    // A signal that aborts ends whoever holds it, however late: this one ends with the start, the file source does not.
    const start = new AbortController();
    const timer = setTimeout(() => start.abort(late), startTimeoutMs);
    const onAbort = () => start.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    start.signal.addEventListener('abort', () => this.#startup.reject(start.signal.reason), { once: true });
    try {
      this.#startThreads();
      this.#source = await createFileSource({
        path: this.#options.discovery.path,
        signal: start.signal,
        onSnapshot: (snapshot) => this.#accept(snapshot),
        onError: (error) => this.#warn(`discovery: ${error.message}`),
      });
      await Promise.all([this.#startup.promise, this.#activation]);
      await this.#startPods(start.signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async stats(): Promise<DataPlaneStats> {
    return (await this.threadStats()).reduce(add);
  }

  async threadStats(): Promise<DataPlaneStats[]> {
    if (this.#closing !== undefined) throw closedError();
    return Promise.all(
      this.#threads.map((thread) => {
        const id = ++this.#statsId;
        const waiter = Promise.withResolvers<DataPlaneStats>();
        this.#statsWaiters.set(id, waiter);
        thread.send({ type: 'stats', id });
        return waiter.promise;
      }),
    );
  }

  get pods(): readonly ServedPod[] {
    return this.#pods.list;
  }

  async addPod(pod: PodOptions, { signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    this.#checkShared('addPod');
    await this.#pods.add(pod, signal);
  }

  async removePod(uid: string, options: RemovePodOptions = {}): Promise<boolean> {
    this.#checkShared('removePod');
    return this.#pods.remove(uid, options);
  }

  async drain({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const end = this.#allDrained;
    const cut = () => end.resolve();
    if (this.#closing !== undefined || signal?.aborted) return this.close();
    const timer = setTimeout(cut, this.#options.drainDeadlineMs ?? 5000);
    signal?.addEventListener('abort', cut, { once: true });
    // Without a file to wait for, the threads are told before this call returns.
    if (this.#podsFile !== undefined) await this.#podsFile.close();
    this.#broadcast({ type: 'drain' });
    await end.promise;
    clearTimeout(timer);
    signal?.removeEventListener('abort', cut);
    await this.close();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await this.#podsFile?.close();
    await this.#source?.close();
    this.#certificates.clear();
    await this.#store.close();
    this.#broadcast({ type: 'stop' });
    await Promise.all(this.#threads.map((thread) => thread.exited));
    this.#pods.close();
    this.#allDrained.resolve();
    for (const fd of this.#openFiles.splice(0)) closeSync(fd);
    this.#over.resolve();
  }

  async #startPods(signal: AbortSignal): Promise<void> {
    const { mode, podsFile, nodeName } = this.#options;
    if (mode === 'dedicated') {
      const namespacePath = this.#namespacePath();
      if (this.#own === undefined)
        throw startFailure(`no workload of ${nodeName} has an address of ${this.#namespaceName()}`);
      await this.#pods.addOwn({ uid: 'dedicated', netns: namespacePath, ...this.#own }, signal);
    }
    if (podsFile === undefined) return;
    this.#podsFile = new PodsFile({
      path: podsFile.path,
      pods: this,
      maxPods: this.#options.maxPods ?? DEFAULT_MAX_PODS,
      onWarning: (message) => this.#warn(message),
    });
    await this.#podsFile.start(signal);
  }

  #startThreads(): void {
    const { threads = DEFAULT_THREADS, mode } = this.#options;
    // A shared proxy that comes listens beside the one that goes.
    const options = this.#dataPlaneOptions(threads > 1 || mode === 'shared');
    for (let index = 0; index < threads; index++) {
      const thread: Thread = new ReactorThread(
        workerEntry(),
        { options },
        { onMessage: (message) => this.#receive(message), onExit: (error) => this.#onThreadExit(error) },
      );
      this.#threads.push(thread);
    }
  }

  #dataPlaneOptions(reusePort: boolean): DataPlaneOptions {
    const { mode = 'node', accessLog = 'stdout', decisionLogPath, http2 } = this.#options;
    const isShared = mode === 'shared';
    return {
      namespacePath: this.#namespacePath(),
      serves: mode === 'node' ? 'node' : 'pods',
      nodeName: this.#options.nodeName,
      network: this.#options.network ?? '',
      clusterId: this.#options.clusterId ?? 'Kubernetes',
      trustDomain: this.#options.trustDomain,
      reusePort,
      packetMark: this.#options.packetMark ?? (isShared ? INPOD_PACKET_MARK : undefined),
      originalSource: this.#options.originalSource ?? true,
      ipv6: this.#options.ipv6 ?? mode !== 'node',
      outboundPort: 15001,
      inboundPlaintextPort: 15006,
      inboundHbonePort: 15008,
      maxStreamsPerTunnel: this.#options.maxStreamsPerTunnel ?? 100,
      tunnelIdleMs: this.#options.tunnelIdleMs ?? 300_000,
      http2: {
        initialWindowBytes: http2?.initialWindowBytes ?? 4 << 20,
        connectionWindowBytes: http2?.connectionWindowBytes ?? 16 << 20,
        maxFrameBytes: http2?.maxFrameBytes ?? 1 << 20,
      },
      accessLogFd: accessLog === 'stdout' ? 1 : this.#openAppend(accessLog.path),
      accessLogFormat: this.#options.accessLogFormat ?? 'plain',
      decisionLogFd: decisionLogPath === undefined ? -1 : this.#openAppend(decisionLogPath),
      responseBaggage: this.#options.responseBaggage ?? true,
      earlyData: this.#options.earlyData ?? true,
      busyPollMs: this.#options.busyPollMs ?? defaultBusyPollMs(this.#options.threads ?? DEFAULT_THREADS),
    };
  }

  #namespaceName(): string {
    const { namespace } = this.#options;
    return typeof namespace === 'string' ? namespace : (namespace.name ?? 'its namespace');
  }

  #namespacePath(): string {
    const { namespace } = this.#options;
    if (typeof namespace === 'string') return namespace.startsWith('/') ? namespace : namespacePath(namespace);
    return `/proc/self/fd/${namespace.fd}`;
  }

  #openAppend(path: string): number {
    const fd = openSync(path, 'a', 0o600);
    this.#openFiles.push(fd);
    return fd;
  }

  /** Throws for content that the data plane could not take, which keeps what was in force in force. */
  #accept(snapshot: MeshSnapshot): void {
    const state = new MeshState(snapshot);
    new PolicySet().replace(snapshot.policies);
    if (this.#options.mode === 'dedicated') this.#own ??= this.#workloadOfNamespace(snapshot);
    const generation = ++this.#activations;
    this.#activation = this.#activate(state, snapshot, generation);
    this.#activation.catch((error) => this.#warn(`discovery: ${messageOf(error)}`));
  }

  /** Certificates first, so that no connection of a new workload meets a proxy that cannot speak for it. */
  async #activate(state: MeshState, snapshot: MeshSnapshot, generation: number): Promise<void> {
    const wanted = new Set<SpiffeId>();
    for (const { uid } of snapshot.workloads) {
      const workload = state.workload(uid);
      if (workload === undefined || !this.#mayServe(workload) || workload.protocol !== 'HBONE') continue;
      const identity = workloadIdentity(workload);
      if (identity !== undefined) wanted.add(identity);
    }
    for (const identity of wanted) {
      if (!this.#certificates.has(identity)) this.#certificates.set(identity, this.#obtain(identity));
    }
    await Promise.all([...wanted].map((identity) => this.#certificates.get(identity)));
    // A later file has overtaken this one while its certificates were made.
    if (generation !== this.#activations || this.#closing !== undefined) return;
    this.#broadcast({ type: 'state', snapshot });
    this.#pods.onState(state);
    for (const identity of this.#certificates.keys()) {
      if (wanted.has(identity)) continue;
      this.#certificates.delete(identity);
      this.#store.forget(identity);
      this.#broadcast({ type: 'forget', identity });
    }
  }

  /** Facts section 5: certificates are there before a pod is. */
  #mayServe({ node, name, namespace, serviceAccount }: Workload): boolean {
    const { nodeName, mode } = this.#options;
    if (node !== nodeName) return false;
    if (mode !== 'dedicated') return true;
    const own = this.#own;
    return name === own?.name && namespace === own.namespace && serviceAccount === own.serviceAccount;
  }

  #workloadOfNamespace({ workloads }: MeshSnapshot): WorkloadName | undefined {
    using namespace = openNamespace(this.#namespacePath());
    using route = openNetlink({ family: 'route', namespace });
    const addresses = new Set(listAddresses(route).map(({ ip }) => canonicalIp(ip)));
    const { nodeName } = this.#options;
    return workloads.find(({ node, workloadIps }) => node === nodeName && workloadIps.some((ip) => addresses.has(ip)));
  }

  /** Waits for the first certificate; onRotate hands it, and those after it, to the data plane. */
  async #obtain(identity: SpiffeId): Promise<void> {
    try {
      await this.#store.get(identity);
    } catch (error) {
      // The store tries again; until then connections of this workload fail and say why.
      if (this.#certificates.has(identity)) this.#warn(`certificate of ${identity}: ${messageOf(error)}`);
    }
  }

  #sendCertificate(identity: SpiffeId, certificate: WorkloadCertificate): void {
    const { chainPem, rootsPem, key } = certificate;
    if (key === undefined) return this.#warn(`certificate of ${identity}: came without its key`);
    this.#broadcast({ type: 'certificate', identity, credentials: { chainPem, rootsPem, keyPem: key.exportPem() } });
  }

  #broadcast(message: ToDataPlane): void {
    for (const thread of this.#threads) thread.send(message);
  }

  #receive(message: FromDataPlane): void {
    switch (message.type) {
      case 'listening':
        if (++this.#listening === this.#threads.length) this.#startup.resolve();
        return;
      case 'stats':
        this.#statsWaiters.get(message.id)?.resolve(message.stats);
        this.#statsWaiters.delete(message.id);
        return;
      case 'drained':
        if (++this.#drained === this.#threads.length) this.#allDrained.resolve();
        return;
      case 'pod-served':
      case 'pod-gone':
        return this.#pods.receive(message);
      case 'warning':
        return this.#warn(message.message);
    }
  }

  #onThreadExit(error: Error | undefined): void {
    for (const waiter of this.#statsWaiters.values()) waiter.reject(closedError());
    this.#statsWaiters.clear();
    if (this.#closing !== undefined && error === undefined) return;
    const failure = startFailure(error?.message ?? 'a data-plane thread ended by itself', error);
    this.#pods.close(failure);
    this.#startup.reject(failure);
    this.#over.reject(failure);
    // One thread less has nobody to say that it is drained.
    this.#allDrained.resolve();
  }

  #checkShared(op: string): void {
    const { mode = 'node' } = this.#options;
    if (mode === 'shared') return;
    const message = `pods come and go in shared mode only, and this proxy is in ${mode} mode`;
    throw new ZtunnelError({ code: 'ERR_ZTUNNEL_MODE', op: `ztunnel.${op}`, message });
  }

  #warn(message: string): void {
    this.#options.onWarning?.(message);
  }
}

/** The worker's module: beside this one in the source, at the top of dist in the package. */
function workerEntry(): URL {
  return import.meta.url.endsWith('.ts')
    ? new URL('./data-plane-worker.ts', import.meta.url)
    : new URL('./data-plane-worker.js', import.meta.url);
}

function closedError(): ZtunnelError {
  return new ZtunnelError({ code: 'ERR_ZTUNNEL_CLOSED', op: 'ztunnel.stats', message: 'the proxy is closed' });
}

function startFailure(message: string, cause?: unknown): ZtunnelError {
  return new ZtunnelError({ code: 'ERR_ZTUNNEL_START', op: 'ztunnel.start', message, cause });
}

function add(a: DataPlaneStats, b: DataPlaneStats): DataPlaneStats {
  const sum = { ...a };
  for (const key of Object.keys(sum) as (keyof DataPlaneStats)[]) sum[key] += b[key];
  return sum;
}
