import { checkNamespaces, Kernel, type Namespaces, rolesOf } from './kernel.ts';
import type { RedirectionPlan } from './plan.ts';
import type { Difference } from './verify-difference.ts';
import { foreignChains, foreignPolicyRules } from './verify-foreign.ts';
import { verifyAddresses, verifyLinks, verifyPolicyRules, verifyRoutes, verifySysctls } from './verify-network.ts';
import { verifyRules } from './verify-rules.ts';

/** How the kernel differs from a plan. */
export interface Verification {
  /** No difference at all. */
  readonly inForce: boolean;
  /** In the order in which the plan is carried out. */
  readonly differences: readonly Difference[];
  /** What could not be judged, for a person. */
  readonly notes: readonly string[];
}

/** Options of {@link verify}. */
export interface VerifyOptions {
  /** Looked at between parts. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads back everything that a plan puts in force (links, addresses, kernel parameters, routes, policy rules, sets, chains, rules)
 * and lists what differs, by meaning: it makes no difference how a rule is written, or who wrote it. Looks too for rules of others
 * that decide before the plan's do: kube-proxy's, a CNI's, those of iptables of either backend. Changes nothing.
 *
 * @throws {InvalidInputError} `ERR_REDIRECTION_INVALID` for a role without a namespace
 * @throws {NetlinkError} where the kernel cannot be read
 */
export function verify(plan: RedirectionPlan, namespaces: Namespaces, options: VerifyOptions = {}): Verification {
  checkNamespaces(plan, namespaces);
  using kernel = new Kernel(namespaces, rolesOf(plan));
  return verifyFrom(plan, kernel, EVERYTHING, options.signal);
}

// What {@link verifyFrom} looks at, to be added up.

/** What is in the plan's own tables, its links, addresses and policy rules. */
export const OWN = 1;
/** Rules of others that may stand in front. */
export const OTHERS = 2;
/** Kernel parameters: one file each, so the costly part with many pods. */
export const PARAMETERS = 4;
export const EVERYTHING = OWN | OTHERS | PARAMETERS;

/** Which of the parts a difference belongs to. */
export function partOf({ kind, what }: Difference): number {
  if (what === 'sysctl') return PARAMETERS;
  return kind === 'in-front' && what !== 'rule' ? OTHERS : OWN;
}

/** As {@link verify}, by sockets that are open. @param parts - a sum of {@link OWN}, {@link OTHERS} and {@link PARAMETERS} */
export function verifyFrom(plan: RedirectionPlan, kernel: Kernel, parts: number, signal?: AbortSignal): Verification {
  const differences = (parts & OWN) === 0 ? [] : verifyLinks(plan, kernel);
  const notes: string[] = [];
  for (const side of plan.sides) {
    signal?.throwIfAborted();
    const place = kernel.at(side.role);
    if ((parts & OWN) !== 0) differences.push(...verifyAddresses(side, place));
    if ((parts & PARAMETERS) !== 0) differences.push(...verifySysctls(plan, side, place));
    if ((parts & OWN) !== 0) {
      differences.push(
        ...verifyRoutes(plan, side, place),
        ...verifyPolicyRules(side, place),
        ...verifyRules(plan, place),
      );
    }
    if ((parts & OTHERS) === 0) continue;
    const others = foreignChains(plan, place);
    differences.push(...foreignPolicyRules(side, place), ...others.differences);
    notes.push(...others.notes);
  }
  return { inForce: differences.length === 0, differences, notes };
}
