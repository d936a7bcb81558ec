import {
  addAddress,
  addLink,
  deleteAddress,
  deleteLink,
  getLink,
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
    return;
  }
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
  bringUp(transaction, place, link.name);
  if (link.kind === 'veth') bringUp(transaction, kernel.at(link.peer.role), link.peer.name);
}

function makeLink(kernel: Kernel, link: Exclude<LinkPlan, { kind: 'existing' }>): void {
  const { route } = kernel.at(link.role);
  if (link.kind === 'geneve') {
    const { name, id, remote, port } = link;
    addLink(route, { kind: 'geneve', name, id, remote, port, up: true });
    return;
  }
  const peer = kernel.at(link.peer.role);
  const end = { name: link.peer.name, namespace: { fd: peer.namespace.fd }, up: true };
  addLink(route, { kind: 'veth', name: link.name, up: true, peer: end });
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
