import { closeSync, openSync } from 'node:fs';
import {
  createFileSource,
  type FileSource,
  type MeshSnapshot,
  MeshState,
  workloadIdentity,
} from '../discovery/index.ts';
import { ReactorThread } from '../engine/index.ts';
import { AmbientError, messageOf } from '../errors/index.ts';
import {
  type AuthorityMaterial,
  CertificateAuthority,
  type CertificateStore,
  createCertificateStore,
  type SpiffeId,
  type WorkloadCertificate,
} from '../identity/index.ts';
import { type NetworkNamespace, namespacePath } from '../netns/index.ts';
import { PolicySet } from '../rbac/index.ts';
import type { AccessLogFormat } from '../telemetry/index.ts';
import { checkZtunnelOptions } from './check-options.ts';
import type { DataPlaneOptions, DataPlaneStats, FromDataPlane, ToDataPlane } from './messages.ts';

/** A node proxy, as {@link startZtunnel} makes it. */
export interface ZtunnelOptions {
  /** Where the proxy listens and dials: a name under /run/netns, or an open namespace that has one. */
  readonly namespace: string | NetworkNamespace;
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
  /** SO_MARK of every socket, for in-pod redirection. Default: none, as node mode wants it. */
  readonly packetMark?: number | undefined;
  /** Keep the client's address towards applications (IP_TRANSPARENT). Default true. */
  readonly originalSource?: boolean;
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
  /** How long {@link Ztunnel.drain} lets connections go on. Default 5,000. */
  readonly drainDeadlineMs?: number;
  /** Bounds the start: listeners up and certificates issued. Default 30,000. */
  readonly startTimeoutMs?: number;
  /** What an operator should know and nothing else says: refused files, failed certificates. Default: dropped. */
  readonly onWarning?: (message: string) => void;
  /** Ends the start, and has no effect after it: {@link Ztunnel.close} has. */
  readonly signal?: AbortSignal | undefined;
}

/** A running node proxy. */
export interface Ztunnel extends AsyncDisposable {
  /** Summed over the threads. @throws {ZtunnelError} `ERR_ZTUNNEL_CLOSED` */
  stats(): Promise<DataPlaneStats>;
  /** Listens no more, lets open connections end until the deadline or an abort, cuts the rest, and closes. Of several calls each can cut. */
  drain(options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
  /** Cuts everything and ends the threads. A second call waits for the first. */
  close(): Promise<void>;
  /** Resolves when it is over; rejects when a thread died by itself. */
  readonly closed: Promise<void>;
}

/** A failure of the node proxy as a whole. `code` is `ERR_ZTUNNEL_…`. */
export class ZtunnelError extends AmbientError {
  override readonly name = 'ZtunnelError';
}

type Thread = ReactorThread<ToDataPlane, FromDataPlane>;

/**
 * Starts a node proxy and resolves when it serves: file read, certificates of this node's workloads issued, ports open.
 *
 * @throws {InvalidInputError} `ERR_ZTUNNEL_CONFIG`, naming the option; `MeshFileError` when the first content of the file is
 *   bad; {@link ZtunnelError} `ERR_ZTUNNEL_START` when a listener cannot be made or the time is over; what `CertificateAuthority.load`
 *   throws; `signal.reason`. Nothing is left behind.
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
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  async stats(): Promise<DataPlaneStats> {
    if (this.#closing !== undefined) throw closedError();
    const parts = await Promise.all(
      this.#threads.map((thread) => {
        const id = ++this.#statsId;
        const waiter = Promise.withResolvers<DataPlaneStats>();
        this.#statsWaiters.set(id, waiter);
        thread.send({ type: 'stats', id });
        return waiter.promise;
      }),
    );
    return parts.reduce(add);
  }

  async drain({ signal }: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const end = this.#allDrained;
    const cut = () => end.resolve();
    if (this.#closing !== undefined || signal?.aborted) return this.close();
    const timer = setTimeout(cut, this.#options.drainDeadlineMs ?? 5000);
    signal?.addEventListener('abort', cut, { once: true });
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
    await this.#source?.close();
    this.#certificates.clear();
    await this.#store.close();
    this.#broadcast({ type: 'stop' });
    await Promise.all(this.#threads.map((thread) => thread.exited));
    this.#allDrained.resolve();
    for (const fd of this.#openFiles.splice(0)) closeSync(fd);
    this.#over.resolve();
  }

  #startThreads(): void {
    const { threads = 1 } = this.#options;
    const options = this.#dataPlaneOptions(threads > 1);
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
    const { namespace, accessLog = 'stdout', decisionLogPath, http2 } = this.#options;
    const name = typeof namespace === 'string' ? namespace : namespace.name;
    if (name === undefined) throw startFailure('the namespace has no name under /run/netns');
    return {
      namespacePath: namespacePath(name),
      nodeName: this.#options.nodeName,
      network: this.#options.network ?? '',
      clusterId: this.#options.clusterId ?? 'Kubernetes',
      trustDomain: this.#options.trustDomain,
      reusePort,
      packetMark: this.#options.packetMark,
      originalSource: this.#options.originalSource ?? true,
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
    };
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
    const generation = ++this.#activations;
    this.#activation = this.#activate(state, snapshot, generation);
    this.#activation.catch((error) => this.#warn(`discovery: ${messageOf(error)}`));
  }

  /** Certificates first, so that no connection of a new workload meets a proxy that cannot speak for it. */
  async #activate(state: MeshState, snapshot: MeshSnapshot, generation: number): Promise<void> {
    const wanted = new Set<SpiffeId>();
    for (const { uid } of snapshot.workloads) {
      const workload = state.workload(uid);
      if (workload === undefined || workload.node !== this.#options.nodeName || workload.protocol !== 'HBONE') continue;
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
    for (const identity of this.#certificates.keys()) {
      if (wanted.has(identity)) continue;
      this.#certificates.delete(identity);
      this.#store.forget(identity);
      this.#broadcast({ type: 'forget', identity });
    }
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
      case 'warning':
        return this.#warn(message.message);
    }
  }

  #onThreadExit(error: Error | undefined): void {
    for (const waiter of this.#statsWaiters.values()) waiter.reject(closedError());
    this.#statsWaiters.clear();
    if (this.#closing !== undefined && error === undefined) return;
    const failure = startFailure(error?.message ?? 'a data-plane thread ended by itself', error);
    this.#startup.reject(failure);
    this.#over.reject(failure);
    // One thread less has nobody to say that it is drained.
    this.#allDrained.resolve();
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
