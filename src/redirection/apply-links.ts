import {
  addAddress,
  addLink,
  deleteAddress,
  deleteLink,
  getLink,
  type Link,
  listAddresses,
  setLink,
} from '../netlink/route/index.ts';
import { RedirectionError } from './error.ts';
import type { Kernel, Place } from './kernel.ts';
import type { LinkPlan, SidePlan } from './plan.ts';
import type { Transaction } from './transaction.ts';

/** Makes a link of a plan, or finds it there as the plan has it; brings it up. */
export function applyLink(transaction: Transaction, kernel: Kernel, link: LinkPlan): void {
  const place = kernel.at(link.role);
  const step = `${link.role}: link ${link.name}`;
  const found = transaction.look(step, () => getLink(place.route, link.name));
  if (found === undefined && link.kind !== 'existing') {
    transaction.step(
      step,
      () => makeLink(kernel, link),
      () => deleteLink(place.route, link.name, { missingOk: true }),
    );
  } else checkLink(transaction, kernel, link, found);
  bringUp(transaction, place, link.name);
  if (link.kind === 'veth') bringUp(transaction, kernel.at(link.peer.role), link.peer.name);
}

/** That a link which was there is the one that the plan means. */
function checkLink(transaction: Transaction, kernel: Kernel, link: LinkPlan, found: Link | undefined): void {
  const step = `${link.role}: link ${link.name}`;
  transaction.look(step, () => {
    if (found === undefined) throw conflict(step, `there is no link ${link.name}`);
    if (link.kind === 'existing') return;
    if (found.kind !== link.kind) throw conflict(step, `${link.name} is there, and of kind ${found.kind}`);
    if (found.kind === 'geneve' && link.kind === 'geneve' && (found.id !== link.id || found.remote !== link.remote)) {
      throw conflict(step, `${link.name} is there, and leads elsewhere`);
    }
    if (link.kind !== 'veth') return;
    const peer = getLink(kernel.at(link.peer.role).route, link.peer.name);
    const isPair = peer?.kind === 'veth' && peer.linkIndex === found.index && found.linkIndex === peer.index;
    if (!isPair) throw conflict(step, `${link.name} is there, and not the other end of ${link.peer.name}`);
  });
}

function makeLink(kernel: Kernel, link: Exclude<LinkPlan, { kind: 'existing' }>): void {
  const { route } = kernel.at(link.role);
  if (link.kind === 'geneve') {
    const { name, id, remote, port } = link;
    addLink(route, { kind: 'geneve', name, id, remote, port });
    return;
  }
  const { namespace } = kernel.at(link.peer.role);
  addLink(route, { kind: 'veth', name: link.name, peer: { name: link.peer.name, namespace: { fd: namespace.fd } } });
}

function bringUp(transaction: Transaction, { role, route }: Place, name: string): void {
  const step = `${role}: link ${name} up`;
  if (transaction.look(step, () => getLink(route, name)?.up) === true) return;
  transaction.step(
    step,
    () => setLink(route, name, { up: true }),
    () => setLink(route, name, { up: false }),
  );
}

/** Gives a side's links their addresses; those that are there stay. */
export function applyAddresses(transaction: Transaction, { role, route }: Place, side: SidePlan): void {
  for (const address of side.addresses) {
    const step = `${role}: address ${address.ip}/${address.prefixLength} on ${address.device}`;
    const there = transaction.look(step, () => listAddresses(route, { device: address.device }));
    if (there.some(({ ip, prefixLength }) => ip === address.ip && prefixLength === address.prefixLength)) continue;
    transaction.step(
      step,
      () => addAddress(route, address),
      () => deleteAddress(route, address, { missingOk: true }),
    );
  }
}

function conflict(step: string, message: string): RedirectionError {
  return new RedirectionError({
    code: 'ERR_REDIRECTION_CONFLICT',
    op: 'redirection.apply',
    message,
    step,
    cause: undefined,
  });
}
