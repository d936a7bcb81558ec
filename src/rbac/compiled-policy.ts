import type { Cidr } from '../ip/index.ts';
import type { Policy, ServiceAccountMatch } from './policy.ts';

/** A string condition in one shape for all kinds, which keeps the comparing code monomorphic. */
export interface CompiledStringMatch {
  readonly kind: 'exact' | 'prefix' | 'suffix' | 'presence';
  /** `''` for presence. */
  readonly text: string;
}

/** A match with every list present and every range parsed. */
export interface CompiledMatch {
  /** No list has a value; then `matchesWhenEmpty` is the answer and the lists are not looked at. */
  readonly empty: boolean;
  readonly matchesWhenEmpty: boolean;
  readonly namespaces: readonly CompiledStringMatch[];
  readonly notNamespaces: readonly CompiledStringMatch[];
  readonly principals: readonly CompiledStringMatch[];
  readonly notPrincipals: readonly CompiledStringMatch[];
  readonly sourceIps: readonly Cidr[];
  readonly notSourceIps: readonly Cidr[];
  readonly destinationIps: readonly Cidr[];
  readonly notDestinationIps: readonly Cidr[];
  readonly destinationPorts: readonly number[];
  readonly notDestinationPorts: readonly number[];
  readonly serviceAccounts: readonly ServiceAccountMatch[];
  readonly notServiceAccounts: readonly ServiceAccountMatch[];
}

export type CompiledClause = readonly CompiledMatch[];
export type CompiledRule = readonly CompiledClause[];

/** Something in a policy that is valid and probably not meant. */
export interface PolicyWarning {
  /** Path in the policy: `rules[0][0][0]`. */
  readonly field: string;
  readonly message: string;
}

/** A policy made ready to be matched: immutable, and independent of the object it was made from. */
export interface CompiledPolicy {
  readonly key: string;
  /** What was enforced, as data: the input without anything a lenient compile dropped. */
  readonly policy: Policy;
  readonly rules: readonly CompiledRule[];
  /** Empty matches, dropped values, conditions that cannot match. To be logged where a policy arrives. */
  readonly warnings: readonly PolicyWarning[];
}
