import { type Netlink, openNetlink } from '../netlink/index.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import { invalid } from './error.ts';
import type { RedirectionPlan, Role } from './plan.ts';

/** Which namespace each role of a plan is. They are borrowed: whoever opened them closes them, after the redirection. */
export type Namespaces = Readonly<Record<Role, NetworkNamespace>>;

/** How the kernel is spoken to: one of each per role. */
export interface Place {
  readonly role: Role;
  readonly namespace: NetworkNamespace;
  readonly route: Netlink;
  readonly netfilter: Netlink;
}

/** Room for a connection tracking table of 500,000 entries, which enrolling many pods at once reads whole. */
const MAX_REPLY_BYTES = 256 << 20;

/** The open sockets of a plan's roles; owned by whoever made it. */
export class Kernel implements Disposable {
  readonly namespaces: Namespaces;
  readonly #places = new Map<Role, Place>();

  /**
   * @param roles - which of the namespaces are wanted
   * @throws {SystemError} naming the call that failed; nothing stays open
   */
  constructor(namespaces: Namespaces, roles: Iterable<Role>) {
    this.namespaces = namespaces;
    try {
      for (const role of roles) {
        const namespace = namespaces[role];
        if (namespace === undefined) continue;
        const route = openNetlink({ family: 'route', namespace });
        let netfilter: Netlink;
        try {
          netfilter = openNetlink({ family: 'netfilter', namespace, maxReplyBytes: MAX_REPLY_BYTES });
        } catch (error) {
          route.close();
          throw error;
        }
        this.#places.set(role, { role, namespace, route, netfilter });
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The place of a role; nothing where it was given no namespace. */
  find(role: Role): Place | undefined {
    return this.#places.get(role);
  }

  /** As {@link find}, for a role that is known to be there. */
  at(role: Role): Place {
    const place = this.#places.get(role);
    if (place === undefined) throw invalid('apply', `namespaces.${role}`, 'the plan needs a namespace for this role');
    return place;
  }

  close(): void {
    for (const { route, netfilter } of this.#places.values()) {
      route.close();
      netfilter.close();
    }
    this.#places.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Every role that a plan speaks of. */
export function rolesOf(plan: RedirectionPlan): Set<Role> {
  const roles = new Set(plan.sides.map(({ role }) => role));
  roles.add(plan.pods.role);
  for (const link of plan.links) {
    roles.add(link.role);
    if (link.kind === 'veth') roles.add(link.peer.role);
  }
  return roles;
}

/** @throws {InvalidInputError} `ERR_REDIRECTION_INVALID`, naming the role that has no namespace */
export function checkNamespaces(plan: RedirectionPlan, namespaces: Namespaces): void {
  for (const role of rolesOf(plan)) {
    if (namespaces[role] === undefined) {
      throw invalid('apply', `namespaces.${role}`, 'the plan needs a namespace for this role');
    }
  }
}
