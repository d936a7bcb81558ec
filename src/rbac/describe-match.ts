import { cidrContains, formatIp, type IpAddress } from '../ip/index.ts';
import type { CompiledMatch, CompiledStringMatch } from './compiled-policy.ts';
import type { PreparedConnection } from './connection.ts';
import { stringMatches } from './match.ts';
import type { ServiceAccountMatch } from './policy.ts';

/** One list of a match, held against one connection. */
interface Condition {
  readonly field: string;
  readonly negative: boolean;
  /** The connection's side, for a person: `port 8080`, `10.1.0.5`, `no identity`. */
  readonly subject: string;
  readonly values: readonly string[];
  /** Index of the first value that matches, or -1. */
  readonly hit: number;
}

/** How a match turned out, in words that name the field and the values. */
export interface MatchDescription {
  readonly holds: boolean;
  /** When it holds, every condition; otherwise the first that failed. */
  readonly text: string;
}

/** The values of a long list that a text shows. */
const SHOWN_VALUES = 5;

/** The same verdict as `matchHolds`, reached condition by condition so that it can be told. */
export function describeMatch(match: CompiledMatch, connection: PreparedConnection): MatchDescription {
  if (match.empty) {
    return match.matchesWhenEmpty
      ? { holds: true, text: 'the match is empty, and matches because the set fails closed' }
      : { holds: false, text: 'the match is empty, and an empty match never matches' };
  }
  const conditions = conditionsOf(match, connection);
  const failed = conditions.find((condition) => condition.hit >= 0 === condition.negative);
  if (failed !== undefined) return { holds: false, text: describeCondition(failed) };
  return { holds: true, text: conditions.map(describeCondition).join(' and ') };
}

function describeCondition({ field, negative, subject, values, hit }: Condition): string {
  if (hit >= 0) return `${field}: ${subject} matches ${values[hit]}${negative ? ', which is excluded' : ''}`;
  const shown = values.slice(0, SHOWN_VALUES).join(', ');
  const more = values.length > SHOWN_VALUES ? ` and ${values.length - SHOWN_VALUES} more` : '';
  const none = values.length === 1 ? 'does not match' : 'matches none of';
  return `${field}: ${subject} ${none} ${shown}${more}`;
}

function conditionsOf(match: CompiledMatch, connection: PreparedConnection): Condition[] {
  const { hasIdentity } = connection;
  const port = `port ${connection.destinationPort}`;
  const source = formatIp(connection.source);
  const destination = formatIp(connection.destination);
  const anonymous = 'a connection without identity';
  const principal = hasIdentity ? JSON.stringify(connection.principal) : anonymous;
  const namespace = hasIdentity ? JSON.stringify(connection.namespace) : `${anonymous} (namespace "")`;
  const account = hasIdentity ? accountText(connection) : anonymous;
  const isPort = (value: number) => value === connection.destinationPort;
  const isNamespace = (value: CompiledStringMatch) => stringMatches(value, connection.namespace);
  const isPrincipal = (value: CompiledStringMatch) => hasIdentity && stringMatches(value, connection.principal);
  const isAccount = (value: ServiceAccountMatch) =>
    hasIdentity && value.namespace === connection.namespace && value.serviceAccount === connection.serviceAccount;
  const holds = (ip: IpAddress) => (range: CompiledMatch['sourceIps'][number]) => cidrContains(range, ip);
  const all: (Condition | undefined)[] = [
    condition('destinationPorts', false, port, match.destinationPorts, isPort, String),
    condition('notDestinationPorts', true, port, match.notDestinationPorts, isPort, String),
    condition('namespaces', false, namespace, match.namespaces, isNamespace, stringText),
    condition('notNamespaces', true, namespace, match.notNamespaces, isNamespace, stringText),
    condition('serviceAccounts', false, account, match.serviceAccounts, isAccount, accountText),
    condition('notServiceAccounts', true, account, match.notServiceAccounts, isAccount, accountText),
    condition('principals', false, principal, match.principals, isPrincipal, stringText),
    condition('notPrincipals', true, principal, match.notPrincipals, isPrincipal, stringText),
    condition('sourceIps', false, source, match.sourceIps, holds(connection.source), rangeText),
    condition('notSourceIps', true, source, match.notSourceIps, holds(connection.source), rangeText),
    condition('destinationIps', false, destination, match.destinationIps, holds(connection.destination), rangeText),
    condition(
      'notDestinationIps',
      true,
      destination,
      match.notDestinationIps,
      holds(connection.destination),
      rangeText,
    ),
  ];
  return all.filter((one) => one !== undefined);
}

function condition<T>(
  field: string,
  negative: boolean,
  subject: string,
  values: readonly T[],
  matches: (value: T) => boolean,
  write: (value: T) => string,
): Condition | undefined {
  if (values.length === 0) return undefined;
  return { field, negative, subject, values: values.map(write), hit: values.findIndex(matches) };
}

function stringText(match: CompiledStringMatch): string {
  return match.kind === 'presence' ? 'any' : `${match.kind} ${JSON.stringify(match.text)}`;
}

function accountText(account: { readonly namespace: string; readonly serviceAccount: string }): string {
  return JSON.stringify(`${account.namespace}/${account.serviceAccount}`);
}

function rangeText(range: { readonly text: string }): string {
  return range.text;
}
