import { describe, expect, it } from 'vitest';
import { prepareConnection } from '../../src/rbac/connection.ts';
import { type Connection, compilePolicy, type PolicyMatch, type StringMatch } from '../../src/rbac/index.ts';
import { policyMatches } from '../../src/rbac/match.ts';
import { plaintext, policy, tls, tlsAlt } from './vectors.ts';

function matches(rules: PolicyMatch[][][], connection: Connection): boolean {
  return policyMatches(compilePolicy(policy(rules)), prepareConnection(connection));
}

const principal = 'td/ns/namespace/sa/account';
const account = { namespace: 'namespace', serviceAccount: 'account' };

describe('each kind of match against plaintext, tls, tls-alt (facts section 9.3, src/rbac.rs)', () => {
  it.each<[string, PolicyMatch, boolean, boolean, boolean]>([
    ['namespaces', { namespaces: [{ exact: 'namespace' }] }, false, true, false],
    ['notNamespaces', { notNamespaces: [{ exact: 'namespace' }] }, true, false, true],
    ['serviceAccounts', { serviceAccounts: [account] }, false, true, false],
    ['notServiceAccounts', { notServiceAccounts: [account] }, true, false, true],
    ['principals', { principals: [{ exact: principal }] }, false, true, false],
    ['notPrincipals', { notPrincipals: [{ exact: principal }] }, true, false, true],
    ['sourceIps', { sourceIps: ['127.0.0.1/32'] }, true, true, false],
    ['notSourceIps', { notSourceIps: ['127.0.0.1/32'] }, false, false, true],
    ['destinationIps', { destinationIps: ['127.0.0.2/32'] }, true, true, false],
    ['notDestinationIps', { notDestinationIps: ['127.0.0.2/32'] }, false, false, true],
    ['destinationIps, range with host bits', { destinationIps: ['127.0.0.1/24'] }, true, true, true],
    ['destinationPorts', { destinationPorts: [8080] }, true, true, false],
    ['notDestinationPorts', { notDestinationPorts: [8080] }, false, false, true],
  ])('%s', (_, match, ofPlaintext, ofTls, ofTlsAlt) => {
    expect(matches([[[match]]], plaintext)).toBe(ofPlaintext);
    expect(matches([[[match]]], tls)).toBe(ofTls);
    expect(matches([[[match]]], tlsAlt)).toBe(ofTlsAlt);
  });
});

describe('lists (facts section 3.4)', () => {
  it.each<[string, PolicyMatch, Connection, boolean]>([
    ['any of a positive list', { destinationPorts: [80, 8080] }, plaintext, true],
    ['none of a positive list', { destinationPorts: [80, 443] }, plaintext, false],
    ['any of a negative list', { notDestinationPorts: [80, 8080] }, plaintext, false],
    ['none of a negative list', { notDestinationPorts: [80, 443] }, plaintext, true],
    [
      'positive and negative of one kind, both satisfied',
      { sourceIps: ['127.0.0.0/8'], notSourceIps: ['127.0.0.9/32'] },
      tls,
      true,
    ],
    [
      'positive and negative of one kind, excluded',
      { sourceIps: ['127.0.0.0/8'], notSourceIps: ['127.0.0.1/32'] },
      tls,
      false,
    ],
    ['two kinds, both', { destinationPorts: [8080], namespaces: [{ exact: 'namespace' }] }, tls, true],
    ['two kinds, one only', { destinationPorts: [8081], namespaces: [{ exact: 'namespace' }] }, tls, false],
    ['the source range is not the destination’s', { sourceIps: ['127.0.0.2/32'] }, plaintext, false],
    ['a present but empty list is no condition', { sourceIps: [], destinationPorts: [8080] }, plaintext, true],
  ])('%s', (_, match, connection, expected) => {
    expect(matches([[[match]]], connection)).toBe(expected);
  });
});

describe('identity (facts section 3.4)', () => {
  it.each<[string, PolicyMatch, Connection, boolean]>([
    ['presence is any identity', { principals: [{ presence: true }] }, tls, true],
    ['presence is not plaintext', { principals: [{ presence: true }] }, plaintext, false],
    ['not presence is plaintext: STRICT', { notPrincipals: [{ presence: true }] }, plaintext, true],
    ['an empty prefix matches no plaintext principal', { principals: [{ prefix: '' }] }, plaintext, false],
    ['an empty suffix matches no plaintext principal', { principals: [{ suffix: '' }] }, plaintext, false],
    ['an empty exact matches no plaintext principal', { principals: [{ exact: '' }] }, plaintext, false],
    ['an empty prefix matches any identity', { principals: [{ prefix: '' }] }, tls, true],
    [
      'a principal written with spiffe:// never matches',
      { principals: [{ exact: `spiffe://${principal}` }] },
      tls,
      false,
    ],
    ['and so excludes nobody', { notPrincipals: [{ exact: `spiffe://${principal}` }] }, tls, true],
    ['prefix is the trust domain’s side', { principals: [{ prefix: 'td/' }] }, tls, true],
    ['prefix keeps trust domains apart', { principals: [{ prefix: 'td/' }] }, tlsAlt, false],
    ['suffix is the account’s side', { principals: [{ suffix: '/sa/account' }] }, tls, true],
    ['case-sensitive', { principals: [{ exact: 'TD/ns/namespace/sa/account' }] }, tls, false],
    ['the namespace of plaintext is ""', { namespaces: [{ exact: '' }] }, plaintext, true],
    ['the namespace of plaintext has every prefix ""', { namespaces: [{ prefix: '' }] }, plaintext, true],
    ['the namespace of plaintext is not present', { namespaces: [{ presence: true }] }, plaintext, false],
    ['the namespace of an identity is present', { namespaces: [{ presence: true }] }, tlsAlt, true],
    [
      'an account of another trust domain',
      { serviceAccounts: [account] },
      { ...tls, identity: { ...tls.identity!, trustDomain: 'other' } },
      true,
    ],
    [
      'an account of another namespace',
      { serviceAccounts: [account] },
      { ...tls, identity: { ...tls.identity!, namespace: 'other' } },
      false,
    ],
    ['empty names match no plaintext', { serviceAccounts: [{ namespace: '', serviceAccount: '' }] }, plaintext, false],
  ])('%s', (_, match, connection, expected) => {
    expect(matches([[[match]]], connection)).toBe(expected);
  });
});

describe('string matches (facts section 9.3, string_match)', () => {
  it.each<[StringMatch, string, boolean]>([
    [{ exact: 'foo' }, 'foo', true],
    [{ exact: 'foo' }, 'not', false],
    [{ exact: 'foo' }, '', false],
    [{ prefix: 'foo' }, 'foobar', true],
    [{ prefix: 'foo' }, 'notfoo', false],
    [{ prefix: 'foo' }, '', false],
    [{ suffix: 'foo' }, 'barfoo', true],
    [{ suffix: 'foo' }, 'foonot', false],
    [{ suffix: 'foo' }, '', false],
    [{ presence: true }, 'foo', true],
    [{ presence: true }, '', false],
  ])('%o on %j', (match, namespace, expected) => {
    const identity = { trustDomain: 'td', namespace, serviceAccount: 'a' };
    expect(matches([[[{ namespaces: [match] }]]], { ...plaintext, identity })).toBe(expected);
  });
});

describe('emptiness (facts sections 3.4 and 11.4, rbac_empty_policy)', () => {
  it.each<[string, PolicyMatch[][][], boolean]>([
    ['rules=[] never matches', [], false],
    ['rules=[[]] always matches', [[]], true],
    ['rules=[[[]]] always matches', [[[]]], true],
    ['rules=[[[{}]]] never matches', [[[{}]]], false],
    ['a match of empty lists is empty', [[[{ sourceIps: [], notPrincipals: [] }]]], false],
    ['an empty match beside one that matches is skipped', [[[{}, { destinationPorts: [8080] }]]], true],
    ['an empty clause beside one that fails', [[[], [{ destinationPorts: [1] }]]], false],
    ['a rule without clauses beside one that fails', [[[{ destinationPorts: [1] }]], []], true],
  ])('%s', (_, rules, expected) => {
    expect(matches(rules, plaintext)).toBe(expected);
  });
});

describe('nesting (facts sections 9.3 and 11.4)', () => {
  const from = (namespace: string, destinationPort: number): Connection => ({
    ...plaintext,
    destinationPort,
    identity: { trustDomain: 'td', namespace, serviceAccount: 'account' },
  });
  const a: PolicyMatch = { namespaces: [{ exact: 'a' }] };
  const b: PolicyMatch = { namespaces: [{ exact: 'b' }] };
  const port: PolicyMatch = { destinationPorts: [80] };

  it.each<[Connection, boolean]>([
    [from('a', 80), true],
    [from('b', 80), true],
    [from('bad', 80), false],
    [from('b', 12345), false],
  ])('rules=[[[A,B],[C]]] is (A or B) and C: %o', (connection, expected) => {
    expect(matches([[[a, b], [port]]], connection)).toBe(expected);
  });

  it.each<[Connection, boolean]>([
    [from('a', 80), true],
    [from('b', 80), true],
    [from('bad', 80), false],
  ])('rules=[[[A]],[[B]]] is A or B: %o', (connection, expected) => {
    expect(matches([[[a]], [[b]]], connection)).toBe(expected);
  });
});

describe('addresses', () => {
  it.each<[string, string, boolean]>([
    ['10.1.0.0/16', '::ffff:10.1.2.3', true],
    ['::ffff:10.1.0.0/112', '10.1.2.3', true],
    ['0.0.0.0/0', 'fd00::1', false],
    ['::/0', '10.1.2.3', false],
    ['fd00:10::/32', 'FD00:0010:0:0::7', true],
  ])('range %s and source %s: %s', (range, sourceIp, expected) => {
    expect(matches([[[{ sourceIps: [range] }]]], { ...plaintext, sourceIp })).toBe(expected);
  });
});

describe('a connection that cannot be judged', () => {
  it.each([
    ['sourceIp', { sourceIp: '10.0.0.1:80' }],
    ['sourceIp', { sourceIp: undefined }],
    ['destinationIp', { destinationIp: 'localhost' }],
    ['destinationPort', { destinationPort: 65536 }],
    ['destinationPort', { destinationPort: '80' }],
    ['identity.trustDomain', { identity: { namespace: 'a', serviceAccount: 'b' } }],
    ['identity.namespace', { identity: { trustDomain: 'td', serviceAccount: 'b' } }],
    ['identity.serviceAccount', { identity: { trustDomain: 'td', namespace: 'a', serviceAccount: 7 } }],
  ])('names %s: %o', (field, fields) => {
    expect(() => prepareConnection({ ...plaintext, ...fields } as Connection)).toThrow(
      expect.objectContaining({ code: 'ERR_RBAC_CONNECTION', field }),
    );
  });
});
