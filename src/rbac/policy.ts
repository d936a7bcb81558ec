/**
 * A string condition: exactly one of the four. Case-sensitive. An empty `prefix` or `suffix` matches every string, the
 * empty one included; `presence` matches every string but the empty one.
 */
export type StringMatch =
  | { readonly exact: string }
  | { readonly prefix: string }
  | { readonly suffix: string }
  | { readonly presence: true };

/** A service account of any trust domain. */
export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/**
 * The smallest unit of a policy. All kinds that are given must hold; within a kind, any value of the positive list must
 * match and no value of the `not…` list may. A kind without values holds. Without any value at all the match is *empty*
 * and never matches, whatever its policy's action (facts section 3.4; see `emptyMatch` of the compile options).
 */
export interface PolicyMatch {
  /** Against the namespace of the source's identity, which is `''` for plaintext. */
  readonly namespaces?: readonly StringMatch[] | undefined;
  readonly notNamespaces?: readonly StringMatch[] | undefined;
  /** Against the source's SPIFFE id without its `spiffe://`. No condition matches a plaintext connection, not even presence. */
  readonly principals?: readonly StringMatch[] | undefined;
  readonly notPrincipals?: readonly StringMatch[] | undefined;
  /** CIDR, `10.1.0.0/16`. */
  readonly sourceIps?: readonly string[] | undefined;
  readonly notSourceIps?: readonly string[] | undefined;
  readonly destinationIps?: readonly string[] | undefined;
  readonly notDestinationIps?: readonly string[] | undefined;
  readonly destinationPorts?: readonly number[] | undefined;
  readonly notDestinationPorts?: readonly number[] | undefined;
  readonly serviceAccounts?: readonly ServiceAccountMatch[] | undefined;
  readonly notServiceAccounts?: readonly ServiceAccountMatch[] | undefined;
}

/** Matches, any of which is enough. A clause without matches holds. */
export type PolicyClause = readonly PolicyMatch[];

/** Clauses, all of which must hold. A rule without clauses matches everything. */
export type PolicyRule = readonly PolicyClause[];

/** Which workloads a policy is for: every one, those of its namespace, or those that list its key. */
export type PolicyScope = 'Global' | 'Namespace' | 'WorkloadSelector';

export type PolicyAction = 'Allow' | 'Deny';

/** One L4 authorization policy, as plain data: the form of Istio's local file, structured-cloneable. */
export interface Policy {
  readonly name: string;
  readonly namespace: string;
  readonly scope: PolicyScope;
  readonly action: PolicyAction;
  /** Evaluated and reported, never enforced. */
  readonly dryRun: boolean;
  /** Any one is enough. Without rules the policy never matches: an ALLOW then denies everything, a DENY nothing. */
  readonly rules: readonly PolicyRule[];
}

/** The name a workload lists a policy under, and the key of a {@link PolicySet}: `namespace/name`. */
export function policyKey(policy: { readonly namespace: string; readonly name: string }): string {
  return `${policy.namespace}/${policy.name}`;
}
