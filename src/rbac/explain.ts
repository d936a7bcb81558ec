import type { CompiledClause, CompiledPolicy, CompiledRule } from './compiled-policy.ts';
import { type Connection, type PreparedConnection, prepareConnection } from './connection.ts';
import { describeMatch, type MatchDescription } from './describe-match.ts';
import { type Decision, decide } from './evaluate.ts';
import type { PolicyAction, PolicyScope } from './policy.ts';
import type { PolicySet, PolicyTarget } from './policy-set.ts';

/** A place in a policy, `rules[rule][clause][match]`; shorter where there is nothing deeper to point at. */
export interface MatchPath {
  readonly rule: number;
  readonly clause?: number | undefined;
  readonly match?: number | undefined;
  /** What was found there: `sourceIps: 10.1.0.5 matches 10.1.0.0/16`. */
  readonly text: string;
}

/** How one candidate policy turned out. */
export interface PolicyExplanation {
  readonly policy: string;
  readonly action: PolicyAction;
  readonly scope: PolicyScope;
  readonly dryRun: boolean;
  readonly matched: boolean;
  /** Of a policy that matched: the first rule that did, with the match that satisfied each of its clauses. */
  readonly because: readonly MatchPath[];
  /** Of a policy that did not: for each rule, every match of the first clause that failed. */
  readonly misses: readonly MatchPath[];
}

/** A decision with its grounds. */
export interface Explanation extends Decision {
  readonly connection: Connection;
  /** The policy that decided; none for `allow-miss`, where it was all of the ALLOW candidates, and `no-allow-policies`. */
  readonly decidedBy?: PolicyExplanation | undefined;
  /** Every policy that applies to the workload, those a decision would not have had to visit included. */
  readonly candidates: readonly PolicyExplanation[];
}

/**
 * The decision of `evaluate`, and what it rests on: the policy, the rule, the clause and the match, and for a refusal
 * by no ALLOW why each candidate failed. Costs a few times the decision: for people and logs, not for every connection.
 * @throws {@link InvalidConnectionError} ERR_RBAC_CONNECTION
 */
export function explain(set: PolicySet, target: PolicyTarget, connection: Connection): Explanation {
  const prepared = prepareConnection(connection);
  const candidates = set.candidates(target);
  const decision = decide(candidates, prepared);
  const explanations = candidates.policies.map((policy) => explainPolicy(policy, prepared));
  return {
    ...decision,
    connection,
    decidedBy: explanations.find(({ policy }) => policy === decision.policy),
    candidates: explanations,
  };
}

/** How one policy turns out for one connection. */
export function explainPolicy(compiled: CompiledPolicy, connection: PreparedConnection): PolicyExplanation {
  const { action, scope, dryRun } = compiled.policy;
  const head = { policy: compiled.key, action, scope, dryRun };
  const misses: MatchPath[] = [];
  for (const [index, rule] of compiled.rules.entries()) {
    const outcome = explainRule(rule, index, connection);
    if (outcome.matched) return { ...head, matched: true, because: outcome.paths, misses: [] };
    misses.push(...outcome.paths);
  }
  return { ...head, matched: false, because: [], misses };
}

function explainRule(
  rule: CompiledRule,
  index: number,
  connection: PreparedConnection,
): { matched: boolean; paths: MatchPath[] } {
  if (rule.length === 0)
    return { matched: true, paths: [{ rule: index, text: 'the rule has no clauses, and matches everything' }] };
  const paths: MatchPath[] = [];
  for (const [clauseIndex, clause] of rule.entries()) {
    const at = { rule: index, clause: clauseIndex };
    const descriptions = describeClause(clause, connection);
    const match = descriptions.findIndex(({ holds }) => holds);
    if (clause.length === 0) paths.push({ ...at, text: 'the clause has no matches, and always holds' });
    else if (match >= 0) paths.push({ ...at, match, text: descriptions[match]!.text });
    else return { matched: false, paths: descriptions.map(({ text }, failed) => ({ ...at, match: failed, text })) };
  }
  return { matched: true, paths };
}

function describeClause(clause: CompiledClause, connection: PreparedConnection): MatchDescription[] {
  return clause.map((match) => describeMatch(match, connection));
}
