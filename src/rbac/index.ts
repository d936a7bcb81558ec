/**
 * L4 authorization with exactly the semantics of Istio's ztunnel: which policies apply to a workload, whether they let a
 * connection in, and — for the person who asks why — which policy, rule, clause and match decided.
 *
 * ```ts
 * import { evaluate, explain, formatExplanation, PolicySet } from 'ambient-kit/rbac';
 *
 * const set = new PolicySet();
 * set.upsert({
 *   name: 'only-web', namespace: 'shop', scope: 'Namespace', action: 'Allow', dryRun: false,
 *   rules: [[[{ principals: [{ exact: 'cluster.local/ns/shop/sa/web' }] }], [{ destinationPorts: [8080] }]]],
 * });
 * const connection = { sourceIp: '10.1.0.5', destinationIp: '10.1.1.7', destinationPort: 8080 };
 * evaluate(set, { namespace: 'shop' }, connection).reason;  // 'allow policies exist, but none allowed'
 * console.log(formatExplanation(explain(set, { namespace: 'shop' }, connection)));
 * ```
 *
 * Rules are any-of, the clauses of a rule all-of, the matches of a clause any-of, the conditions of a match all-of. What
 * is empty is where surprises live: no rules match nothing, no clauses and no matches match everything, and a match
 * without conditions matches nothing, so that a DENY made of one denies nothing. `new PolicySet({ emptyMatch:
 * 'fail-closed' })` turns that last one around; a compiled policy's `warnings` point at it in either mode.
 *
 * @module rbac
 */

export { type CompileOptions, compilePolicy, DEFAULT_MAX_POLICY_NODES } from './compile.ts';
export type {
  CompiledClause,
  CompiledMatch,
  CompiledPolicy,
  CompiledRule,
  CompiledStringMatch,
  PolicyWarning,
} from './compiled-policy.ts';
export type { Connection, ConnectionIdentity } from './connection.ts';
export { InvalidConnectionError, InvalidPolicyError } from './errors.ts';
export { type Decision, type DecisionCause, type DecisionNote, evaluate } from './evaluate.ts';
export { type Explanation, explain, type MatchPath, type PolicyExplanation } from './explain.ts';
export { formatExplanation } from './format-explanation.ts';
export {
  type Policy,
  type PolicyAction,
  type PolicyClause,
  type PolicyMatch,
  type PolicyRule,
  type PolicyScope,
  policyKey,
  type ServiceAccountMatch,
  type StringMatch,
} from './policy.ts';
export {
  type Candidates,
  DEFAULT_MAX_POLICIES,
  PolicySet,
  type PolicySetOptions,
  type PolicyTarget,
} from './policy-set.ts';
