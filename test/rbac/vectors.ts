import type { Connection, Policy, PolicyMatch } from '../../src/rbac/index.ts';

/** The three connections that ztunnel's own tables of src/rbac.rs are made of (facts section 9.3). */
export const plaintext: Connection = { sourceIp: '127.0.0.1', destinationIp: '127.0.0.2', destinationPort: 8080 };
export const tls: Connection = {
  ...plaintext,
  identity: { trustDomain: 'td', namespace: 'namespace', serviceAccount: 'account' },
};
export const tlsAlt: Connection = {
  sourceIp: '127.0.0.3',
  destinationIp: '127.0.0.4',
  destinationPort: 9090,
  identity: { trustDomain: 'td-alt', namespace: 'ns-alt', serviceAccount: 'sa=alt' },
};

export function policy(rules: PolicyMatch[][][], fields: Partial<Policy> = {}): Policy {
  return { name: 'p', namespace: 'ns1', scope: 'Namespace', action: 'Allow', dryRun: false, rules, ...fields };
}
