import type { CompiledPolicy } from './compiled-policy.ts';
import { type Connection, type PreparedConnection, prepareConnection } from './connection.ts';
import { policyMatches } from './match.ts';
import type { Candidates, PolicySet, PolicyTarget } from './policy-set.ts';

/** Something to log beside a decision that it did not change. */
export interface DecisionNote {
  readonly kind: 'unknown-policy' | 'dry-run-deny-match' | 'dry-run-allow-match' | 'dry-run-would-be-denied';
  /** Key of the policy; left out where none of several matched. */
  readonly policy?: string | undefined;
  readonly message: string;
}

/** What decided: the first three allow or deny on the word of the policies, `no-allow-policies` on their absence. */
export type DecisionCause = 'deny-match' | 'allow-match' | 'allow-miss' | 'no-allow-policies';

export interface Decision {
  readonly allowed: boolean;
  readonly cause: DecisionCause;
  /** Of a refusal: the words that ztunnel logs, `explicitly denied by: ns/name` or `allow policies exist, but none allowed`. */
  readonly reason: string;
  /** Key of the policy that decided, for `deny-match` and `allow-match`. */
  readonly policy?: string | undefined;
  /** Listed keys without a policy, and what dry-run policies would have done; empty nearly always. */
  readonly notes: readonly DecisionNote[];
  /** How many policies the connection was matched against. */
  readonly visited: number;
}

/**
 * Decides whether a connection may reach the workload `target`: a DENY that matches refuses; without any ALLOW it is
 * allowed; else an ALLOW has to match (facts section 3.3). Pure; takes 10,000 policies of other workloads in its stride.
 * @throws {@link InvalidConnectionError} ERR_RBAC_CONNECTION
 */
export function evaluate(set: PolicySet, target: PolicyTarget, connection: Connection): Decision {
  return decide(set.candidates(target), prepareConnection(connection));
}

const NO_NOTES: readonly DecisionNote[] = Object.freeze([]);
const UNRESTRICTED: Decision = Object.freeze({
  allowed: true,
  cause: 'no-allow-policies',
  reason: 'no allow policies',
  notes: NO_NOTES,
  visited: 0,
});

/** {@link evaluate} from the candidates on; `explain` shares it, so that the two cannot disagree. */
export function decide(candidates: Candidates, connection: PreparedConnection): Decision {
  const { policies, unknownKeys } = candidates;
  if (policies.length === 0 && unknownKeys.length === 0) return UNRESTRICTED;
  const notes: DecisionNote[] = [];
  let visited = 0;
  let denier: CompiledPolicy | undefined;
  for (const key of unknownKeys) {
    notes.push({ kind: 'unknown-policy', policy: key, message: `skipping unknown policy ${key}` });
  }
  for (const policy of policies) {
    const { action, dryRun } = policy.policy;
    if (action !== 'Deny' || (denier !== undefined && !dryRun)) continue;
    visited++;
    if (!policyMatches(policy, connection)) continue;
    if (!dryRun) denier = policy;
    else notes.push({ kind: 'dry-run-deny-match', policy: policy.key, message: 'dry-run: deny policy match' });
  }
  if (denier !== undefined) {
    return {
      allowed: false,
      cause: 'deny-match',
      reason: `explicitly denied by: ${denier.key}`,
      policy: denier.key,
      notes,
      visited,
    };
  }

  let allower: CompiledPolicy | undefined;
  let enforced = false;
  let dryRuns = false;
  let dryRunMatched = false;
  for (const policy of policies) {
    const { action, dryRun } = policy.policy;
    if (action !== 'Allow') continue;
    if (dryRun) dryRuns = true;
    else enforced = true;
    if (allower !== undefined && !dryRun) continue;
    visited++;
    if (!policyMatches(policy, connection)) continue;
    if (!dryRun) allower = policy;
    else {
      dryRunMatched = true;
      notes.push({ kind: 'dry-run-allow-match', policy: policy.key, message: 'dry-run: allow policy match' });
    }
  }
  if (allower !== undefined) {
    return {
      allowed: true,
      cause: 'allow-match',
      reason: `allowed by: ${allower.key}`,
      policy: allower.key,
      notes,
      visited,
    };
  }
  if (enforced) {
    return { allowed: false, cause: 'allow-miss', reason: 'allow policies exist, but none allowed', notes, visited };
  }
  if (dryRuns && !dryRunMatched) {
    notes.push({ kind: 'dry-run-would-be-denied', message: 'dry-run: no allow policies match, it would be denied' });
  }
  return { allowed: true, cause: 'no-allow-policies', reason: 'no allow policies', notes, visited };
}
