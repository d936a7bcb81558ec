import { Batch, type NamedSet } from '../netlink/nftables/index.ts';
import { deleteRoute, replaceRoute } from '../netlink/route/index.ts';
import { applySysctl, type ChangedSysctl } from './apply-sysctl.ts';
import { checkPod } from './check-options.ts';
import { checkDrainOptions, type Drained, type DrainOptions, removeDrained, stopCapturing } from './drain.ts';
import { invalid, RedirectionError } from './error.ts';
import type { Kernel, Namespaces } from './kernel.ts';
import { type Pod, podRoute, podSet, podSysctls, type RedirectionPlan } from './plan.ts';
import { type ReadBack, readBackFrom } from './read-back.ts';
import { removeFrom } from './remove.ts';
import { nftablesRuleset } from './render-nftables.ts';
import { Transaction } from './transaction.ts';

/**
 * A plan in force, as {@link apply} gives it. Holds two netlink sockets per role until `close()`, which leaves the redirection in
 * force. The namespaces it was made with must stay open as long.
 */
export class Redirection implements Disposable, AsyncDisposable {
  readonly #plan: RedirectionPlan;
  readonly #kernel: Kernel;
  readonly #pods: Map<string, Pod>;
  readonly #sets: readonly NamedSet[];
  readonly #changed: ChangedSysctl[];
  #state: 'in-force' | 'draining' | 'closed' = 'in-force';

  constructor(plan: RedirectionPlan, kernel: Kernel, changed: readonly ChangedSysctl[]) {
    this.#plan = plan;
    this.#kernel = kernel;
    this.#pods = new Map(plan.pods.list.map((pod) => [pod.ip, pod]));
    const podSets = [plan.pods.set, plan.pods.set6];
    this.#sets = nftablesRuleset(plan, plan.pods.role).sets.filter(({ name }) => podSets.includes(name));
    this.#changed = [...changed];
  }

  /** The plan as it is now, with the pods that came since. A new value each time. */
  get plan(): RedirectionPlan {
    return { ...this.#plan, pods: { ...this.#plan.pods, list: [...this.#pods.values()] } };
  }

  /** Those it was made with; borrowed, as they were then. */
  get namespaces(): Namespaces {
    return this.#kernel.namespaces;
  }

  /** After `close()` and `remove()`. */
  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** From the beginning of `drainAndRemove()` on: nothing new is captured, and pods neither come nor go. */
  get draining(): boolean {
    return this.#state === 'draining';
  }

  /**
   * Enrols a pod: set entry, then route. What it has open goes on as the plan's rules say. Doing it again changes nothing, and with
   * another comment the comment alone: the address has gone to another pod.
   *
   * @returns false if it was enrolled already
   * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, also where its address is enrolled for another device
   * @throws {RedirectionError} `ERR_REDIRECTION_FAILED`; the pod is not enrolled
   */
  addPod(pod: Pod): boolean {
    return this.#enrol('addPod', [pod], () => 'pod') === 1;
  }

  /**
   * As {@link addPod}, several pods or none: for a node's pods at the start, all or none of them.
   *
   * @returns how many were not enrolled yet
   */
  addPods(pods: readonly Pod[]): number {
    return this.#enrol('addPods', pods, (i) => `pods[${i}]`);
  }

  /**
   * Takes a pod out: route and set entry together, since with the entry alone gone its new connections would hang (trap 3). Its
   * captured connections live on by their mark.
   *
   * @param comment - take it out only if this is the comment it was enrolled with: the address may belong to another pod by now
   * @returns false if it was not enrolled
   * @throws {RedirectionError} `ERR_REDIRECTION_FAILED`; the pod is still enrolled
   */
  removePod(ip: string, comment?: string): boolean {
    this.#check('removePod');
    const pod = this.#pods.get(ip);
    if (pod === undefined || (comment !== undefined && comment !== pod.comment)) return false;
    const plan = this.#plan;
    const place = this.#kernel.at(plan.pods.role);
    const transaction = new Transaction('redirection.removePod');
    const route = podRoute(plan, pod);
    if (route !== undefined) {
      transaction.step(
        `${place.role}: route for ${ip}`,
        () => deleteRoute(place.route, route, { missingOk: true }),
        () => replaceRoute(place.route, route),
      );
    }
    transaction.step(place.role, () =>
      // Added first, so that an entry which somebody took away is no error.
      this.#elements('deleteElements', [pod], this.#elements('addElements', [pod])).commit(place.netfilter),
    );
    this.#pods.delete(ip);
    return true;
  }

  /** Counters and members, read from the kernel now. */
  readBack(): ReadBack {
    this.#checkOpen('readBack');
    return readBackFrom(this.plan, this.#kernel);
  }

  /**
   * Takes everything away, writes kernel parameters back to what they were, and closes. Captured connections that are open break:
   * their packets are not translated any more, or do not find the proxy; {@link drainAndRemove} waits for them.
   */
  remove(): void {
    this.#checkOpen('remove');
    removeFrom(this.plan, this.#kernel, this.#changed);
    this.close();
  }

  /**
   * As `remove()`, when the captured connections have ended or the deadline has come; nothing new is captured meanwhile. A
   * {@link watch} ends as it begins. Interrupted by its signal, it may be called again, or `remove()`.
   *
   * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, naming the option
   * @throws {RedirectionError} `ERR_REDIRECTION_FAILED`, where everything is in force as before; `ERR_REDIRECTION_CLOSED` where it is
   *   closed meanwhile: what is left is for {@link remove}
   */
  async drainAndRemove(options: DrainOptions = {}): Promise<Drained> {
    const op = 'drainAndRemove';
    this.#checkOpen(op);
    checkDrainOptions(options);
    options.signal?.throwIfAborted();
    const { plan } = this;
    const places = stopCapturing(plan, this.#kernel);
    this.#state = 'draining';
    const checkOpen = () => this.#checkOpen(op);
    const drained = await removeDrained(plan, this.#kernel, places, options, this.#changed, checkOpen);
    this.close();
    return drained;
  }

  /** Closes the sockets; the redirection stays in force. A second call does nothing. */
  close(): void {
    this.#state = 'closed';
    this.#kernel.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #enrol(op: string, pods: readonly Pod[], field: (i: number) => string): number {
    this.#check(op);
    const plan = this.#plan;
    const { fresh, renamed } = this.#sorted(op, pods, field);
    const place = this.#kernel.at(plan.pods.role);
    const transaction = new Transaction(`redirection.${op}`);
    const changed = fresh.flatMap((pod) =>
      podSysctls(plan, pod).map((sysctl) => applySysctl(transaction, place, sysctl)),
    );
    transaction.step(
      place.role,
      () => this.#elements('addElements', fresh).commit(place.netfilter),
      () => this.#elements('deleteElements', fresh).commit(place.netfilter),
    );
    for (const pod of fresh) {
      const route = podRoute(plan, pod);
      if (route === undefined) continue;
      transaction.step(
        `${place.role}: route for ${pod.ip}`,
        () => replaceRoute(place.route, route),
        () => deleteRoute(place.route, route, { missingOk: true }),
      );
    }
    // Taken out and put in within one transaction: no packet finds one missing.
    transaction.step(place.role, () => {
      const batch = this.#elements('deleteElements', renamed, this.#elements('addElements', renamed));
      this.#elements('addElements', renamed, batch).commit(place.netfilter);
    });
    for (const pod of [...fresh, ...renamed]) this.#pods.set(pod.ip, pod);
    for (const before of changed) if (before !== undefined) this.#changed.push(before);
    return fresh.length;
  }

  /** Those that are not enrolled, and those that are, by another comment. The last of an address counts. */
  #sorted(op: string, pods: readonly Pod[], field: (i: number) => string): { fresh: Pod[]; renamed: Pod[] } {
    const fresh = new Map<string, Pod>();
    const renamed = new Map<string, Pod>();
    for (const [i, pod] of pods.entries()) {
      checkPod(op, this.#plan, pod, field(i));
      const { ip, veth, comment } = pod;
      const enrolled = this.#pods.get(ip);
      const known = fresh.get(ip) ?? enrolled;
      if (known !== undefined && known.veth !== veth) {
        throw invalid(op, `${field(i)}.ip`, `${ip} is enrolled already, behind ${known.veth ?? 'no device'}`);
      }
      if (enrolled === undefined) fresh.set(ip, pod);
      else if (enrolled.comment !== comment) renamed.set(ip, pod);
      else renamed.delete(ip);
    }
    return { fresh: [...fresh.values()], renamed: [...renamed.values()] };
  }

  #elements(verb: 'addElements' | 'deleteElements', pods: readonly Pod[], batch = new Batch()): Batch {
    const members = Map.groupBy(pods, (pod) => podSet(this.#plan, pod)?.name);
    for (const set of this.#sets) {
      const elements = (members.get(set.name) ?? []).map(({ ip, comment }) => element(verb, ip, comment));
      if (elements.length > 0) batch[verb](set, elements);
    }
    return batch;
  }

  #check(op: string): void {
    this.#checkOpen(op);
    if (this.#state === 'draining') throw closed(op, 'this redirection is being removed');
  }

  #checkOpen(op: string): void {
    if (this.#state === 'closed') throw closed(op, 'this redirection was closed');
  }
}

function element(verb: 'addElements' | 'deleteElements', key: string, comment: string | undefined) {
  return verb === 'deleteElements' || comment === undefined ? { key } : { key, comment };
}

function closed(op: string, message: string): RedirectionError {
  const code = 'ERR_REDIRECTION_CLOSED';
  return new RedirectionError({ code, op: `redirection.${op}`, message, step: op, cause: undefined });
}
