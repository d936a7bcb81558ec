import { describe, expect, it } from 'vitest';
import {
  type Connection,
  explain,
  formatExplanation,
  type Policy,
  PolicySet,
  type PolicySetOptions,
} from '../../src/rbac/index.ts';
import { plaintext, policy, tls } from './vectors.ts';

function setOf(policies: Policy[], options: PolicySetOptions = {}): PolicySet {
  const set = new PolicySet(options);
  set.replace(policies);
  return set;
}

const why = (policies: Policy[], connection: Connection, options?: PolicySetOptions) =>
  explain(setOf(policies, options), { namespace: 'ns1' }, connection);

describe('what decided', () => {
  it('a DENY: the rule, and for each of its clauses the match that satisfied it', () => {
    const deny = policy(
      [
        [[{ destinationPorts: [1] }]],
        [
          [
            { namespaces: [{ exact: 'x' }] },
            { principals: [{ exact: 'a' }, { suffix: '/sa/account' }], notNamespaces: [{ exact: 'y' }] },
          ],
          [{ destinationPorts: [80, 8080] }],
        ],
      ],
      { action: 'Deny' },
    );
    expect(why([deny], tls).decidedBy).toEqual({
      policy: 'ns1/p',
      action: 'Deny',
      scope: 'Namespace',
      dryRun: false,
      matched: true,
      because: [
        {
          rule: 1,
          clause: 0,
          match: 1,
          text: 'notNamespaces: "namespace" does not match exact "y" and principals: "td/ns/namespace/sa/account" matches suffix "/sa/account"',
        },
        { rule: 1, clause: 1, match: 0, text: 'destinationPorts: port 8080 matches 8080' },
      ],
      misses: [],
    });
  });

  it('an ALLOW', () => {
    const explanation = why([policy([[[{ sourceIps: ['127.0.0.0/8'] }]]])], plaintext);
    expect(explanation).toMatchObject({ allowed: true, cause: 'allow-match' });
    expect(explanation.decidedBy?.because).toEqual([
      { rule: 0, clause: 0, match: 0, text: 'sourceIps: 127.0.0.1 matches 127.0.0.0/8' },
    ]);
  });

  it.each<[string, Policy, object]>([
    ['a rule without clauses', policy([[]]), { rule: 0, text: 'the rule has no clauses, and matches everything' }],
    [
      'a clause without matches',
      policy([[[]]]),
      { rule: 0, clause: 0, text: 'the clause has no matches, and always holds' },
    ],
  ])('%s', (_, one, path) => {
    expect(why([one], plaintext).decidedBy?.because).toEqual([path]);
  });

  it('an empty match that fails closed', () => {
    expect(
      why([policy([[[{}]]], { action: 'Deny' })], plaintext, { emptyMatch: 'fail-closed' }).decidedBy?.because,
    ).toEqual([{ rule: 0, clause: 0, match: 0, text: 'the match is empty, and matches because the set fails closed' }]);
  });
});

describe('why each ALLOW missed', () => {
  it.each<[string, object, Connection, string]>([
    [
      'plaintext',
      { principals: [{ presence: true }] },
      plaintext,
      'principals: a connection without identity does not match any',
    ],
    [
      'principal',
      { principals: [{ prefix: 'td2/' }] },
      tls,
      'principals: "td/ns/namespace/sa/account" does not match prefix "td2/"',
    ],
    [
      'excluded principal',
      { notPrincipals: [{ presence: true }] },
      tls,
      'notPrincipals: "td/ns/namespace/sa/account" matches any, which is excluded',
    ],
    [
      'namespace',
      { namespaces: [{ exact: 'a' }, { exact: 'b' }] },
      tls,
      'namespaces: "namespace" matches none of exact "a", exact "b"',
    ],
    [
      'namespace of plaintext',
      { namespaces: [{ exact: 'a' }] },
      plaintext,
      'namespaces: a connection without identity (namespace "") does not match exact "a"',
    ],
    [
      'account',
      { serviceAccounts: [{ namespace: 'a', serviceAccount: 'b' }] },
      tls,
      'serviceAccounts: "namespace/account" does not match "a/b"',
    ],
    [
      'excluded account',
      { notServiceAccounts: [{ namespace: 'namespace', serviceAccount: 'account' }] },
      tls,
      'notServiceAccounts: "namespace/account" matches "namespace/account", which is excluded',
    ],
    ['source', { sourceIps: ['10.0.0.0/8'] }, tls, 'sourceIps: 127.0.0.1 does not match 10.0.0.0/8'],
    [
      'excluded source',
      { notSourceIps: ['127.0.0.1/8'] },
      tls,
      'notSourceIps: 127.0.0.1 matches 127.0.0.0/8, which is excluded',
    ],
    ['destination', { destinationIps: ['10.0.0.0/8'] }, tls, 'destinationIps: 127.0.0.2 does not match 10.0.0.0/8'],
    [
      'many ports',
      { destinationPorts: [1, 2, 3, 4, 5, 6, 7] },
      tls,
      'destinationPorts: port 8080 matches none of 1, 2, 3, 4, 5 and 2 more',
    ],
    [
      'excluded port',
      { notDestinationPorts: [8080] },
      tls,
      'notDestinationPorts: port 8080 matches 8080, which is excluded',
    ],
    ['nothing', {}, tls, 'the match is empty, and an empty match never matches'],
  ])('%s', (_, match, connection, text) => {
    const explanation = why([policy([[[match]]])], connection);
    expect(explanation).toMatchObject({ allowed: false, cause: 'allow-miss', decidedBy: undefined });
    expect(explanation.candidates[0]?.misses).toEqual([{ rule: 0, clause: 0, match: 0, text }]);
  });

  it('for every rule the first clause that failed, with each of its matches', () => {
    const allow = policy([
      [
        [{ destinationPorts: [8080] }],
        [{ sourceIps: ['10.0.0.0/8'] }, { destinationPorts: [1] }],
        [{ destinationPorts: [2] }],
      ],
      [[{ destinationPorts: [3] }]],
    ]);
    expect(why([allow], tls).candidates[0]?.misses.map(({ rule, clause, match }) => [rule, clause, match])).toEqual([
      [0, 1, 0],
      [0, 1, 1],
      [1, 0, 0],
    ]);
  });
});

describe('formatExplanation: two lines', () => {
  it('denied by a DENY', () => {
    const strict = policy([[[{ notPrincipals: [{ presence: true }] }]]], {
      namespace: 'ns1',
      name: 'strict',
      action: 'Deny',
    });
    expect(formatExplanation(why([strict], plaintext))).toBe(
      'DENIED 127.0.0.1 (no identity) -> 127.0.0.2:8080: explicitly denied by: ns1/strict\n' +
        '  policy ns1/strict (Deny, Namespace) rule 0 clause 0 match 0 (notPrincipals: a connection without identity does not match any)',
    );
  });

  it('denied because no ALLOW matched', () => {
    const allows = [policy([[[{ destinationPorts: [80] }]]]), policy([], { name: 'none' })];
    expect(formatExplanation(why(allows, tls))).toBe(
      'DENIED 127.0.0.1 (td/ns/namespace/sa/account) -> 127.0.0.2:8080: allow policies exist, but none allowed\n' +
        '  policy ns1/p (Allow, Namespace) rule 0 clause 0 match 0 (destinationPorts: port 8080 does not match 80) | policy ns1/none (Allow, Namespace) has no rules, and never matches',
    );
  });

  it('counts what is too long to name', () => {
    const allows = Array.from({ length: 5 }, (_, index) =>
      policy(
        Array.from({ length: 5 }, () => [[{ destinationPorts: [80] }]]),
        { name: `p${index}` },
      ),
    );
    const text = formatExplanation(why(allows, tls));
    expect(text).toContain('; and 2 more | ');
    expect(text).toMatch(/ \| and 2 more policies$/);
  });

  it('allowed by a rule without clauses', () => {
    expect(formatExplanation(why([policy([[]])], { ...plaintext, destinationIp: 'fd00::1' }))).toBe(
      'ALLOWED 127.0.0.1 (no identity) -> [fd00::1]:8080: allowed by: ns1/p\n  policy ns1/p (Allow, Namespace) rule 0 (the rule has no clauses, and matches everything)',
    );
  });

  it('allowed because nothing applies, with what is missing', () => {
    expect(formatExplanation(why([], plaintext))).toMatch(
      /: no allow policies\n {2}no policy applies to the workload$/,
    );
    const explanation = explain(new PolicySet(), { namespace: 'ns1', authorizationPolicies: ['ns1/a'] }, plaintext);
    expect(formatExplanation(explanation)).toMatch(/no policy applies to the workload; 1 listed policy is unknown$/);
  });

  it('allowed past DENYs and dry runs', () => {
    const policies = [policy([], { action: 'Deny' }), policy([[]], { name: 'dry', dryRun: true })];
    expect(formatExplanation(why(policies, plaintext))).toMatch(
      /\n {2}no ALLOW policy applies to the workload, none of its 1 DENY policies matches, 1 only in dry run$/,
    );
  });

  it('stays two lines, and prints nothing that moves a cursor, for hostile names', () => {
    const hostile = { trustDomain: 'td\nDENIED', namespace: '\u001b[2J', serviceAccount: '\u202egro.evil' };
    const text = formatExplanation(
      why([policy([[[{ namespaces: [{ exact: '\r\n\u0007' }] }]]], { name: 'a\nb' })], {
        ...plaintext,
        identity: hostile,
      }),
    );
    expect(text.split('\n')).toHaveLength(2);
    expect(text.replace('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(text).toContain('td\\u{a}DENIED/ns/\\u{1b}[2J/sa/\\u{202e}gro.evil');
  });
});
