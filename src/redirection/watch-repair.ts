import { Batch, listElements } from '../netlink/nftables/index.ts';
import { applySide } from './apply.ts';
import { applyLink } from './apply-links.ts';
import type { Kernel, Place } from './kernel.ts';
import type { RedirectionPlan, Role } from './plan.ts';
import { elementsOf, nftablesRuleset } from './render-nftables.ts';
import { Transaction } from './transaction.ts';
import type { Difference } from './verify-difference.ts';

/** Whether putting the plan in force again would undo a difference. What is somebody else's is not touched. */
export function isRepairable(plan: RedirectionPlan, { kind, what, name, role }: Difference): boolean {
  if (kind === 'in-front') return what === 'rule';
  // A pod that is gone took its device with it, and the parameters of that; those of the plan's own links come back with them.
  if (what === 'sysctl')
    return kind !== 'missing' || isOfPlan(plan, role, name.split('.').at(-2)?.replaceAll('/', '.'));
  return what !== 'link' || isOfPlan(plan, role, name);
}

function isOfPlan({ links }: RedirectionPlan, role: Role, device: string | undefined): boolean {
  return links.some(
    (link) =>
      (link.role === role && link.name === device) ||
      (link.kind === 'veth' && link.peer.role === role && link.peer.name === device),
  );
}

/**
 * Undoes differences, no more than it takes: tables whose rules are right keep their counters.
 *
 * @throws {RedirectionError} `ERR_REDIRECTION_FAILED`; what was done before is undone
 */
export function repair(plan: RedirectionPlan, kernel: Kernel, differences: readonly Difference[]): void {
  const transaction = new Transaction('redirection.repair');
  const linksToo = differences.some(({ what, kind }) => what === 'link' || (what === 'sysctl' && kind === 'missing'));
  if (linksToo) for (const link of plan.links) applyLink(transaction, kernel, link);
  const present = withoutLostDevices(plan, differences);
  for (const side of plan.sides) {
    const mine = differences.filter(({ role }) => role === side.role);
    if (mine.length === 0 && !linksToo) continue;
    const place = kernel.at(side.role);
    const rules = mine.some(({ what }) => what === 'table' || what === 'set' || what === 'chain' || what === 'rule');
    if (!rules && mine.some(({ what }) => what === 'member')) repairMembers(transaction, present, place);
    applySide(transaction, place, present, side, rules);
  }
}

/** Pods whose device is not there have no parameters to write. */
function withoutLostDevices(plan: RedirectionPlan, differences: readonly Difference[]): RedirectionPlan {
  const lost = new Set(
    differences.flatMap(({ what, kind, name }) => (what === 'link' && kind === 'missing' ? [name] : [])),
  );
  if (lost.size === 0) return plan;
  const list = plan.pods.list.map((pod) => {
    if (pod.veth === undefined || !lost.has(pod.veth)) return pod;
    const { veth: _, ...rest } = pod;
    return rest;
  });
  return { ...plan, pods: { ...plan.pods, list } };
}

/** The members of the plan's sets alone, in every table that has them, by one transaction. */
function repairMembers(transaction: Transaction, plan: RedirectionPlan, { role, netfilter }: Place): void {
  const batch = new Batch();
  for (const set of nftablesRuleset(plan, role).sets) {
    const wanted = new Map(elementsOf(plan, role, set.name).map((element) => [element.key, element]));
    const there = transaction.look(`${role}: set ${set.name}`, () => listElements(netfilter, set));
    const stray = there.filter(({ key }) => !wanted.delete(key));
    batch.addElements(set, [...wanted.values()]).deleteElements(set, stray);
  }
  transaction.step(role, () => batch.commit(netfilter));
}
