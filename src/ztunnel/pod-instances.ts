import type { Workload } from '../discovery/index.ts';
import { messageOf } from '../errors/index.ts';
import { openNamespace } from '../netns/index.ts';
import type { FromDataPlane, PodMessage } from './messages.ts';
import type { ProxyContext } from './proxy-context.ts';
import { ProxyInstance } from './proxy-instance.ts';
import { WorkloadOfPod } from './served-workloads.ts';

interface PodInstance {
  readonly instance: ProxyInstance;
  readonly serves: WorkloadOfPod;
}

/** The pods that one data-plane thread serves, each by an instance in the pod's own network namespace. */
export class PodInstances {
  readonly #proxy: ProxyContext;
  readonly #send: (message: FromDataPlane) => void;
  readonly #pods = new Map<number, PodInstance>();
  /** Who is served by what, for connections from one pod to another; made when asked for. */
  #byWorkload: Map<string, ProxyInstance> | undefined;
  #stateVersion = -1;

  /** @param send - to the main thread */
  constructor(proxy: ProxyContext, send: (message: FromDataPlane) => void) {
    this.#proxy = proxy;
    this.#send = send;
  }

  /** Those that drain among them. */
  get instances(): ProxyInstance[] {
    return Array.from(this.#pods.values(), ({ instance }) => instance);
  }

  add({ id, namespacePath, ...name }: PodMessage): void {
    const proxy = this.#proxy;
    const { nodeName, reusePort, ipv6 } = proxy.options;
    try {
      const namespace = namespacePath === undefined ? undefined : openNamespace(namespacePath);
      const serves = new WorkloadOfPod(proxy.state, nodeName, name);
      const instance = new ProxyInstance({ proxy, serves, namespace, reusePort, ipv6 });
      instance.listen();
      this.#pods.set(id, { instance, serves });
      this.#byWorkload = undefined;
    } catch (error) {
      return this.#send({ type: 'pod-served', id, failure: messageOf(error) });
    }
    this.#send({ type: 'pod-served', id, failure: undefined });
  }

  drain(id: number): void {
    const pod = this.#pods.get(id);
    if (pod === undefined) return;
    this.#byWorkload = undefined;
    pod.instance.drain(() => this.#forget(id, pod.instance));
  }

  cut(id: number): void {
    const pod = this.#pods.get(id);
    if (pod !== undefined) this.#forget(id, pod.instance);
  }

  /** Who takes what is for a workload; undefined where it is none of these pods, or one that is on its way out. */
  serving({ uid }: Workload): ProxyInstance | undefined {
    const { version } = this.#proxy.state;
    if (this.#byWorkload === undefined || this.#stateVersion !== version) {
      this.#byWorkload = new Map();
      this.#stateVersion = version;
      for (const { instance, serves } of this.#pods.values()) {
        if (serves.workload !== undefined && !instance.draining) this.#byWorkload.set(serves.workload.uid, instance);
      }
    }
    return this.#byWorkload.get(uid);
  }

  close(): void {
    for (const { instance } of [...this.#pods.values()]) instance.close();
    this.#pods.clear();
  }

  #forget(id: number, instance: ProxyInstance): void {
    // Closing a pod that drains calls back.
    if (!this.#pods.delete(id)) return;
    this.#byWorkload = undefined;
    instance.close();
    this.#send({ type: 'pod-gone', id });
  }
}
