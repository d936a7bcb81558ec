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
import { spareConnections } from './spare-connections.ts';
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
   * Enrols a pod: its open connections are spared, then set entry and route go in together. Doing it again changes nothing, and
   * with another comment the comment alone: the address has gone to another pod.
   *
   * @returns false if it was enrolled already
   * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, also where its address is enrolled for another device
   * @throws {RedirectionError} `ERR_REDIRECTION_FAILED`; the pod is not enrolled
   */
  addPod(pod: Pod): boolean {
    this.#check('addPod');
    const plan = this.#plan;
    checkPod('addPod', plan, pod, 'pod');
    const known = this.#pods.get(pod.ip);
    if (known !== undefined) return this.#renamePod(known, pod);
    const place = this.#kernel.at(plan.pods.role);
    const transaction = new Transaction('redirection.addPod');
    const { spare } = plan.pods;
    const { ip, comment } = pod;
    const changed = podSysctls(plan, pod).map((sysctl) => applySysctl(transaction, place, sysctl));
    if (spare !== undefined) {
      transaction.step(`${place.role}: open connections of ${ip}`, () => {
        spareConnections(place.netfilter, [ip], spare);
      });
    }
    transaction.step(
      place.role,
      () => this.#elements('addElements', ip, comment).commit(place.netfilter),
      () => this.#elements('deleteElements', ip).commit(place.netfilter),
    );
    const route = podRoute(plan, pod);
    if (route !== undefined) transaction.step(`${place.role}: route for ${ip}`, () => replaceRoute(place.route, route));
    this.#pods.set(ip, pod);
    for (const before of changed) if (before !== undefined) this.#changed.push(before);
    return true;
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
      this.#elements('deleteElements', ip, undefined, this.#elements('addElements', ip)).commit(place.netfilter),
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

  #renamePod(known: Pod, pod: Pod): boolean {
    const { ip, veth, comment } = pod;
    if (known.veth !== veth) {
      throw invalid('addPod', 'pod.ip', `${ip} is enrolled already, behind ${known.veth ?? 'no device'}`);
    }
    if (known.comment === comment) return false;
    const place = this.#kernel.at(this.#plan.pods.role);
    // Taken out and put in within one transaction: no packet finds it missing.
    const batch = this.#elements('deleteElements', ip, undefined, this.#elements('addElements', ip));
    new Transaction('redirection.addPod').step(place.role, () => {
      this.#elements('addElements', ip, comment, batch).commit(place.netfilter);
    });
    this.#pods.set(ip, pod);
    return false;
  }

  #elements(verb: 'addElements' | 'deleteElements', key: string, comment?: string, batch = new Batch()): Batch {
    const name = podSet(this.#plan, { ip: key })?.name;
    for (const set of this.#sets) {
      if (set.name === name) batch[verb](set, [comment === undefined ? { key } : { key, comment }]);
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

function closed(op: string, message: string): RedirectionError {
  const code = 'ERR_REDIRECTION_CLOSED';
  return new RedirectionError({ code, op: `redirection.${op}`, message, step: op, cause: undefined });
}
