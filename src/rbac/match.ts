import { type Cidr, cidrContains, type IpAddress } from '../ip/index.ts';
import type {
  CompiledClause,
  CompiledMatch,
  CompiledPolicy,
  CompiledRule,
  CompiledStringMatch,
} from './compiled-policy.ts';
import type { PreparedConnection } from './connection.ts';
import type { ServiceAccountMatch } from './policy.ts';

/** Whether any rule of the policy matches (facts section 3.4). Allocates nothing. */
export function policyMatches(policy: CompiledPolicy, connection: PreparedConnection): boolean {
  for (const rule of policy.rules) if (ruleMatches(rule, connection)) return true;
  return false;
}

export function ruleMatches(rule: CompiledRule, connection: PreparedConnection): boolean {
  for (const clause of rule) if (!clauseMatches(clause, connection)) return false;
  return true;
}

export function clauseMatches(clause: CompiledClause, connection: PreparedConnection): boolean {
  if (clause.length === 0) return true;
  for (const match of clause) if (matchHolds(match, connection)) return true;
  return false;
}

export function matchHolds(match: CompiledMatch, connection: PreparedConnection): boolean {
  if (match.empty) return match.matchesWhenEmpty;
  return (
    (match.destinationPorts.length === 0 || match.destinationPorts.includes(connection.destinationPort)) &&
    !match.notDestinationPorts.includes(connection.destinationPort) &&
    (match.namespaces.length === 0 || anyString(match.namespaces, connection.namespace)) &&
    !anyString(match.notNamespaces, connection.namespace) &&
    (match.serviceAccounts.length === 0 || anyServiceAccount(match.serviceAccounts, connection)) &&
    !anyServiceAccount(match.notServiceAccounts, connection) &&
    (match.principals.length === 0 || anyPrincipal(match.principals, connection)) &&
    !anyPrincipal(match.notPrincipals, connection) &&
    (match.sourceIps.length === 0 || anyRange(match.sourceIps, connection.source)) &&
    !anyRange(match.notSourceIps, connection.source) &&
    (match.destinationIps.length === 0 || anyRange(match.destinationIps, connection.destination)) &&
    !anyRange(match.notDestinationIps, connection.destination)
  );
}

export function stringMatches(match: CompiledStringMatch, value: string): boolean {
  switch (match.kind) {
    case 'exact':
      return value === match.text;
    case 'prefix':
      return value.startsWith(match.text);
    case 'suffix':
      return value.endsWith(match.text);
    case 'presence':
      return value !== '';
  }
}

export function anyString(matches: readonly CompiledStringMatch[], value: string): boolean {
  for (const match of matches) if (stringMatches(match, value)) return true;
  return false;
}

/** Without identity no principal condition is true, not even an empty prefix: that is what makes `notPrincipals` STRICT. */
export function anyPrincipal(matches: readonly CompiledStringMatch[], connection: PreparedConnection): boolean {
  return connection.hasIdentity && anyString(matches, connection.principal);
}

export function anyServiceAccount(matches: readonly ServiceAccountMatch[], connection: PreparedConnection): boolean {
  if (!connection.hasIdentity) return false;
  for (const match of matches) {
    if (match.serviceAccount === connection.serviceAccount && match.namespace === connection.namespace) return true;
  }
  return false;
}

export function anyRange(ranges: readonly Cidr[], ip: IpAddress): boolean {
  for (const range of ranges) if (cidrContains(range, ip)) return true;
  return false;
}
