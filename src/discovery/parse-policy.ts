import { quoteInput } from '../ip/address.ts';
import { tryParseCidr } from '../ip/index.ts';
import type { Policy, PolicyMatch, ServiceAccountMatch, StringMatch } from '../rbac/index.ts';
import type { YamlCursor } from './yaml-cursor.ts';

const matchKinds = {
  namespaces: readStringMatch,
  notNamespaces: readStringMatch,
  principals: readStringMatch,
  notPrincipals: readStringMatch,
  sourceIps: readCidr,
  notSourceIps: readCidr,
  destinationIps: readCidr,
  notDestinationIps: readCidr,
  destinationPorts: readPort,
  notDestinationPorts: readPort,
  serviceAccounts: readServiceAccount,
  notServiceAccounts: readServiceAccount,
} as const;

const matchKeys = Object.keys(matchKinds) as (keyof typeof matchKinds)[];

/** Reads a policy in the form of facts section 4.10, where every key is required. @throws {@link MeshFileError} */
export function parsePolicy(cursor: YamlCursor): Policy {
  const map = cursor.mapping(['name', 'namespace', 'scope', 'action', 'dryRun', 'rules']);
  return {
    name: map.required('name').nonEmptyText(),
    namespace: map.required('namespace').nonEmptyText(),
    scope: map.required('scope').oneOf(['Global', 'Namespace', 'WorkloadSelector']),
    action: map.required('action').oneOf(['Allow', 'Deny']),
    dryRun: map.required('dryRun').boolean(),
    rules: map.required('rules').list((rule) => rule.list((clause) => clause.list(readMatch))),
  };
}

function readMatch(cursor: YamlCursor): PolicyMatch {
  const map = cursor.mapping(matchKeys);
  const match: Record<string, unknown> = {};
  for (const key of matchKeys) {
    const values = map.given(key)?.list<unknown>(matchKinds[key]);
    if (values !== undefined) match[key] = values;
  }
  return match;
}

/** A string match is a tag before its text: `!Exact cluster.local/ns/default/sa/sleep`, `!Presence []`. */
function readStringMatch(cursor: YamlCursor): StringMatch {
  switch (cursor.tag) {
    case '!Exact':
      return { exact: cursor.text(true) };
    case '!Prefix':
      return { prefix: cursor.text(true) };
    case '!Suffix':
      return { suffix: cursor.text(true) };
    case '!Presence':
      if (!cursor.isEmpty) cursor.fail('!Presence takes no value: write !Presence []');
      return { presence: true };
    default:
      return cursor.fail('a string match is written !Exact x, !Prefix x, !Suffix x or !Presence []');
  }
}

function readServiceAccount(cursor: YamlCursor): ServiceAccountMatch {
  const map = cursor.mapping(['namespace', 'serviceAccount']);
  return {
    namespace: map.required('namespace').text(),
    serviceAccount: map.required('serviceAccount').text(),
  };
}

function readCidr(cursor: YamlCursor): string {
  const text = cursor.text();
  if (tryParseCidr(text) === undefined) cursor.fail(`${quoteInput(text)} is no range of the form address/prefix`);
  return text;
}

function readPort(cursor: YamlCursor): number {
  return cursor.integer(0, 65535);
}
