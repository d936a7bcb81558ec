// Asks why: three L4 policies, four connections, and for each the verdict with the policy, rule, clause and match that
// gave it; then a DENY that denies nothing, and the mode that closes that door. Needs no root.
import { type Connection, evaluate, explain, formatExplanation, type Policy, PolicySet } from '../src/rbac/index.ts';

const policies: Policy[] = [
  {
    name: 'strict',
    namespace: 'istio-system',
    scope: 'Global',
    action: 'Deny',
    dryRun: false,
    rules: [[[{ notPrincipals: [{ presence: true }] }]]],
  },
  {
    name: 'web-may-read',
    namespace: 'shop',
    scope: 'Namespace',
    action: 'Allow',
    dryRun: false,
    rules: [[[{ principals: [{ exact: 'cluster.local/ns/shop/sa/web' }] }], [{ destinationPorts: [8080] }]]],
  },
  {
    name: 'no-old-subnet',
    namespace: 'shop',
    scope: 'Namespace',
    action: 'Deny',
    dryRun: true,
    rules: [[[{ sourceIps: ['10.1.0.0/24'] }]]],
  },
];

const set = new PolicySet();
set.replace(policies);
const httpbin = { namespace: 'shop', authorizationPolicies: ['shop/not-here-yet'] };
const to = { destinationIp: '10.1.1.7', destinationPort: 8080 };
const web = { trustDomain: 'cluster.local', namespace: 'shop', serviceAccount: 'web' };

const connections: Connection[] = [
  { sourceIp: '10.1.0.5', ...to, identity: web },
  { sourceIp: '10.1.0.5', ...to, identity: web, destinationPort: 22 },
  { sourceIp: '10.1.0.6', ...to, identity: { ...web, serviceAccount: 'cron' } },
  { sourceIp: '::ffff:192.168.9.9', ...to },
];
for (const connection of connections) {
  const explanation = explain(set, httpbin, connection);
  console.log(formatExplanation(explanation));
  for (const { kind, policy } of explanation.notes) console.log(`  note: ${kind} ${policy ?? ''}`);
}

const empty: Policy = {
  name: 'no-admin-path',
  namespace: 'shop',
  scope: 'Namespace',
  action: 'Deny',
  dryRun: false,
  rules: [[[{}]]],
};
for (const emptyMatch of ['never-matches', 'fail-closed'] as const) {
  const strictness = new PolicySet({ emptyMatch });
  const { warnings } = strictness.upsert(empty);
  const { allowed } = evaluate(strictness, { namespace: 'shop' }, connections[0]!);
  console.log(
    `a DENY with only L7 conditions, ${emptyMatch}: ${allowed ? 'allowed' : 'denied'} (${warnings[0]?.field}: ${warnings[0]?.message})`,
  );
}
