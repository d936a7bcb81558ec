import { FollowedFile } from '../discovery/followed-file.ts';
import type { MeshFileError } from '../discovery/index.ts';
import { messageOf } from '../errors/index.ts';
import { type ListedPod, parsePodsFile } from './parse-pods-file.ts';
import type { PodOptions, RemovePodOptions } from './pod-service.ts';

/** Between attempts at pods that could not be served (facts section 6). */
const RETRY_MS = 5000;

/** Who takes the pods of the file: a `Ztunnel`. */
export interface PodTaker {
  addPod(pod: PodOptions, options: { readonly signal: AbortSignal }): Promise<void>;
  removePod(uid: string, options?: RemovePodOptions): Promise<boolean>;
}

/** What {@link PodsFile} is told. */
export interface PodsFileOptions {
  readonly path: string;
  readonly pods: PodTaker;
  readonly maxPods: number;
  /** Refused contents, and pods that cannot be served, once for each reason. */
  readonly onWarning: (message: string) => void;
  /** Between attempts at pods that could not be served. Default 5,000. */
  readonly retryMs?: number;
}

/**
 * Serves what a file of pods says ({@link parsePodsFile}), and follows it. A content with a fault changes nothing; a pod that cannot be
 * served, since its namespace is not there or the registry does not know it, is tried again and holds up no other.
 */
export class PodsFile {
  readonly #options: PodsFileOptions;
  readonly #file: FollowedFile<readonly ListedPod[]>;
  readonly #stop = new AbortController();
  /** What is served, or being made so, as the file had it. */
  readonly #taken = new Map<string, ListedPod>();
  /** One thing after the other for each pod. */
  readonly #work = new Map<string, Promise<void>>();
  /** Why a pod is not served, so that it is said once. */
  readonly #failures = new Map<string, string>();
  #retry: NodeJS.Timeout | undefined;
  #wanted: readonly ListedPod[] = [];

  constructor(options: PodsFileOptions) {
    this.#options = options;
    const { path, maxPods, onWarning } = options;
    this.#file = new FollowedFile<readonly ListedPod[]>(
      { path, onError: (error: MeshFileError) => onWarning(`pods: ${error.message}`) },
      {
        parse: (text) => parsePodsFile(path, text, maxPods),
        onContent: (pods) => {
          this.#wanted = pods;
          this.#reconcile();
        },
      },
    );
  }

  /**
   * Resolves when each pod of the first content has been tried.
   *
   * @throws {MeshFileError} for a first content that is refused; `signal.reason`
   */
  async start(signal: AbortSignal): Promise<void> {
    const onAbort = () => this.#stop.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      await this.#file.start();
      await Promise.all(this.#work.values());
      signal.throwIfAborted();
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Follows no more; what is served stays served. A second call does nothing. */
  async close(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#retry);
    await this.#file.close();
    await Promise.all(this.#work.values());
  }

  #reconcile(): void {
    const wanted = new Map(this.#wanted.map((pod) => [pod.uid, pod]));
    for (const uid of new Set([...this.#taken.keys(), ...this.#work.keys(), ...wanted.keys()])) this.#enqueue(uid);
    for (const uid of this.#failures.keys()) if (!wanted.has(uid)) this.#failures.delete(uid);
  }

  #enqueue(uid: string): void {
    const before = this.#work.get(uid) ?? Promise.resolve();
    const work = before
      .then(() => this.#settle(uid))
      .finally(() => {
        if (this.#work.get(uid) === work) this.#work.delete(uid);
      });
    this.#work.set(uid, work);
  }

  /** Makes one pod what the file says by now. Never rejects. */
  async #settle(uid: string): Promise<void> {
    const { signal } = this.#stop;
    if (signal.aborted) return;
    const wanted = this.#wanted.find((pod) => pod.uid === uid);
    const taken = this.#taken.get(uid);
    if (wanted !== undefined && taken !== undefined && isSame(wanted, taken)) return;
    if (taken !== undefined) {
      this.#taken.delete(uid);
      // Its connections may take their time: the pod that comes in its place does not wait for them.
      this.#options.pods.removePod(uid).catch((error) => this.#fail(uid, error));
    }
    if (wanted === undefined) return;
    try {
      await this.#options.pods.addPod(wanted, { signal });
      this.#taken.set(uid, wanted);
      this.#failures.delete(uid);
    } catch (error) {
      if (signal.aborted) return;
      this.#fail(uid, error);
      this.#retry ??= setTimeout(() => {
        this.#retry = undefined;
        this.#reconcile();
      }, this.#options.retryMs ?? RETRY_MS);
    }
  }

  #fail(uid: string, error: unknown): void {
    const message = messageOf(error);
    if (this.#failures.get(uid) === message || this.#stop.signal.aborted) return;
    this.#failures.set(uid, message);
    this.#options.onWarning(`pods: ${message}`);
  }
}

function isSame(a: ListedPod, b: ListedPod): boolean {
  return (
    a.name === b.name && a.namespace === b.namespace && a.serviceAccount === b.serviceAccount && a.netns === b.netns
  );
}
