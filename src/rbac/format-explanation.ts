import { formatSocketAddress } from '../ip/index.ts';
import type { Connection } from './connection.ts';
import type { Explanation, MatchPath, PolicyExplanation } from './explain.ts';

/** Candidates, and places in each, that a line names before it only counts. */
const SHOWN = 3;

/**
 * An explanation for people, in two lines without a final newline: who was let or not let where and on whose word; then
 * the policy, rule, clause and match. `explain()`'s value holds everything that is only counted here. Control characters
 * of names are escaped.
 */
export function formatExplanation(explanation: Explanation): string {
  const { allowed, connection, reason } = explanation;
  const verdict = `${allowed ? 'ALLOWED' : 'DENIED'} ${formatConnection(connection)}: ${reason}`;
  return `${visible(verdict)}\n  ${visible(grounds(explanation))}`;
}

function grounds({ cause, decidedBy, candidates, notes }: Explanation): string {
  if (decidedBy !== undefined)
    return `${formatPolicy(decidedBy)} ${formatPaths(decidedBy.because, '; ', decidedBy.because.length)}`;
  const skipped = notes.filter(({ kind }) => kind === 'unknown-policy').length;
  const unknown = skipped === 0 ? '' : `; ${skipped} listed ${skipped === 1 ? 'policy is' : 'policies are'} unknown`;
  if (cause === 'allow-miss') {
    const allows = candidates.filter(({ action, dryRun }) => action === 'Allow' && !dryRun);
    const shown = allows.slice(0, SHOWN).map(formatMiss).join(' | ');
    return `${shown}${allows.length > SHOWN ? ` | and ${allows.length - SHOWN} more policies` : ''}${unknown}`;
  }
  const denies = candidates.filter(({ action, dryRun }) => action === 'Deny' && !dryRun).length;
  const dryRuns = candidates.filter(({ dryRun }) => dryRun).length;
  if (denies + dryRuns === 0) return `no policy applies to the workload${unknown}`;
  return `no ALLOW policy applies to the workload, none of its ${denies} DENY policies matches${dryRuns === 0 ? '' : `, ${dryRuns} only in dry run`}${unknown}`;
}

function formatMiss(policy: PolicyExplanation): string {
  if (policy.misses.length === 0) return `${formatPolicy(policy)} has no rules, and never matches`;
  return `${formatPolicy(policy)} ${formatPaths(policy.misses, '; ', SHOWN)}`;
}

function formatPolicy({ policy, action, scope }: PolicyExplanation): string {
  return `policy ${policy} (${action}, ${scope})`;
}

function formatPaths(paths: readonly MatchPath[], separator: string, limit: number): string {
  const shown = paths.slice(0, limit).map(formatPath).join(separator);
  return paths.length > limit ? `${shown}${separator}and ${paths.length - limit} more` : shown;
}

function formatPath({ rule, clause, match, text }: MatchPath): string {
  const place = [`rule ${rule}`];
  if (clause !== undefined) place.push(`clause ${clause}`);
  if (match !== undefined) place.push(`match ${match}`);
  return `${place.join(' ')} (${text})`;
}

function formatConnection({ sourceIp, destinationIp, destinationPort, identity }: Connection): string {
  const who =
    identity === undefined
      ? 'no identity'
      : `${identity.trustDomain}/ns/${identity.namespace}/sa/${identity.serviceAccount}`;
  return `${sourceIp} (${who}) -> ${formatSocketAddress(destinationIp, destinationPort)}`;
}

function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`);
}
