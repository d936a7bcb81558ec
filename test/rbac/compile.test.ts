import { describe, expect, it } from 'vitest';
import { prepareConnection } from '../../src/rbac/connection.ts';
import { type CompileOptions, compilePolicy, InvalidPolicyError, type Policy } from '../../src/rbac/index.ts';
import { policyMatches } from '../../src/rbac/match.ts';
import { plaintext, policy } from './vectors.ts';

function failure(input: unknown, options?: CompileOptions): InvalidPolicyError {
  try {
    compilePolicy(input as Policy, options);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidPolicyError);
    return error as InvalidPolicyError;
  }
  throw new Error('expected a refusal');
}

const valid = policy([[[{ destinationPorts: [80] }]]]);
const match = (value: unknown) => ({ ...valid, rules: [[[value]]] });

describe('a bad policy names its field', () => {
  it.each<[unknown, string | undefined]>([
    [null, undefined],
    [[], undefined],
    [{ ...valid, name: '' }, 'name'],
    [{ ...valid, name: 7 }, 'name'],
    [{ ...valid, namespace: '' }, 'namespace'],
    [{ ...valid, namespace: 'a/b' }, 'namespace'],
    [{ ...valid, scope: 'global' }, 'scope'],
    [{ ...valid, scope: 0 }, 'scope'],
    [{ ...valid, action: 'Audit' }, 'action'],
    [{ ...valid, dryRun: undefined }, 'dryRun'],
    [{ ...valid, dryRun: 'false' }, 'dryRun'],
    [{ ...valid, rules: undefined }, 'rules'],
    [{ ...valid, rules: {} }, 'rules'],
    [{ ...valid, rules: [{}] }, 'rules[0]'],
    [{ ...valid, rules: [[], [[], {}]] }, 'rules[1][1]'],
    [{ ...valid, rules: [[[{}], [null]]] }, 'rules[0][1][0]'],
    [{ ...valid, groups: [] }, 'groups'],
    [match({ sourceIp: ['10.0.0.0/8'] }), 'rules[0][0][0].sourceIp'],
    [match({ __proto__: null, constructor: [] }), 'rules[0][0][0].constructor'],
    [match({ sourceIps: '10.0.0.0/8' }), 'rules[0][0][0].sourceIps'],
    [match({ sourceIps: ['10.0.0.0/8', '10.0.0.1'] }), 'rules[0][0][0].sourceIps[1]'],
    [match({ notDestinationIps: ['10.0.0.0/33'] }), 'rules[0][0][0].notDestinationIps[0]'],
    [match({ destinationPorts: [65536] }), 'rules[0][0][0].destinationPorts[0]'],
    [match({ destinationPorts: ['80'] }), 'rules[0][0][0].destinationPorts[0]'],
    [match({ notDestinationPorts: [80.5] }), 'rules[0][0][0].notDestinationPorts[0]'],
    [match({ principals: ['td/ns/a/sa/b'] }), 'rules[0][0][0].principals[0]'],
    [match({ principals: [{}] }), 'rules[0][0][0].principals[0]'],
    [match({ principals: [{ exact: 'a', prefix: 'b' }] }), 'rules[0][0][0].principals[0]'],
    [match({ principals: [{ Exact: 'a' }] }), 'rules[0][0][0].principals[0].Exact'],
    [match({ namespaces: [{ exact: 7 }] }), 'rules[0][0][0].namespaces[0].exact'],
    [match({ notNamespaces: [{ presence: false }] }), 'rules[0][0][0].notNamespaces[0].presence'],
    [match({ serviceAccounts: [{ namespace: 'a' }] }), 'rules[0][0][0].serviceAccounts[0].serviceAccount'],
    [match({ notServiceAccounts: ['a/b'] }), 'rules[0][0][0].notServiceAccounts[0]'],
  ])('%j', (input, field) => {
    expect(failure(input)).toMatchObject({ code: 'ERR_RBAC_POLICY', field, op: 'rbac.compile' });
  });
});

describe('limits and options', () => {
  it('counts rules, clauses, matches and values together', () => {
    // 1 rule + 1 clause + 1 match + 3 values
    const six = policy([[[{ destinationPorts: [1, 2, 3] }]]]);
    expect(compilePolicy(six, { maxPolicyNodes: 6 }).key).toBe('ns1/p');
    expect(failure(six, { maxPolicyNodes: 5 })).toMatchObject({
      code: 'ERR_RBAC_LIMIT',
      field: 'rules[0][0][0].destinationPorts',
    });
  });

  it('has a default', () => {
    expect(failure(policy(Array.from({ length: 100_001 }, () => [])))).toMatchObject({
      code: 'ERR_RBAC_LIMIT',
      field: 'rules',
    });
  });

  it.each([
    ['emptyMatch', { emptyMatch: 'failclosed' }],
    ['lenient', { lenient: 'no' }],
    ['maxPolicyNodes', { maxPolicyNodes: Number.NaN }],
  ])('refuses a bad %s', (field, options) => {
    expect(failure(valid, options as unknown as CompileOptions)).toMatchObject({ code: 'ERR_RBAC_OPTION', field });
  });
});

describe('what comes out', () => {
  it('is independent of the input', () => {
    const ports = [80];
    const compiled = compilePolicy(policy([[[{ destinationPorts: ports }]]]));
    ports[0] = 8080;
    expect(policyMatches(compiled, prepareConnection(plaintext))).toBe(false);
    expect(compiled.policy.rules[0]?.[0]?.[0]?.destinationPorts).toEqual([80]);
  });

  it('keeps every kind of value as data, ranges canonical', () => {
    const rules = [
      [
        [
          {
            namespaces: [{ exact: 'a' }, { prefix: 'b' }, { suffix: 'c' }, { presence: true as const }],
            serviceAccounts: [{ namespace: 'a', serviceAccount: 'b' }],
            destinationPorts: [1],
            notSourceIps: ['10.0.0.0/8'],
          },
        ],
        [],
      ],
      [],
    ];
    expect(compilePolicy(policy(rules)).policy).toEqual(policy(rules));
    expect(compilePolicy(policy([[[{ sourceIps: ['10.1.2.3/8'] }]]])).policy.rules).toEqual([
      [[{ sourceIps: ['10.0.0.0/8'] }]],
    ]);
    expect(compilePolicy(compilePolicy(policy(rules)).policy)).toEqual(compilePolicy(policy(rules)));
  });

  it('warns of an empty match, and of a principal with its scheme', () => {
    const compiled = compilePolicy(policy([[[{}]], [[{ notPrincipals: [{ prefix: 'spiffe://td/' }] }]]]));
    expect(compiled.warnings).toEqual([
      { field: 'rules[0][0][0]', message: 'empty match: it never matches' },
      {
        field: 'rules[1][0][0].notPrincipals[0]',
        message: 'never matches: principals are written without "spiffe://"',
      },
    ]);
    expect(compilePolicy(valid).warnings).toEqual([]);
  });
});

describe('lenient (facts section 3.5)', () => {
  const deny = (value: object) => policy([[[value]]], { action: 'Deny' });
  const denies = (value: object, options: CompileOptions) =>
    policyMatches(compilePolicy(deny(value), { lenient: true, ...options }), prepareConnection(plaintext));

  it('drops an unparsable range and a string match without a kind, with a warning each', () => {
    const compiled = compilePolicy(deny({ sourceIps: ['127.0.0.0/8', 'x'], namespaces: [{}] }), { lenient: true });
    expect(compiled.policy.rules).toEqual([[[{ sourceIps: ['127.0.0.0/8'] }]]]);
    expect(compiled.warnings.map(({ field }) => field)).toEqual([
      'rules[0][0][0].namespaces[0]',
      'rules[0][0][0].sourceIps[1]',
    ]);
  });

  it('a DENY whose only condition was dropped never matches: it fails open', () => {
    expect(denies({ sourceIps: ['127.0.0.1'] }, {})).toBe(false);
  });

  it('or matches, when failing closed', () => {
    expect(denies({ sourceIps: ['127.0.0.1'] }, { emptyMatch: 'fail-closed' })).toBe(true);
  });

  it('cuts ports to 16 bits and prefix lengths to 8', () => {
    expect(denies({ destinationPorts: [65536 + 8080] }, {})).toBe(true);
    expect(compilePolicy(deny({ sourceIps: ['10.0.0.0/264'] }), { lenient: true }).policy.rules).toEqual([
      [[{ sourceIps: ['10.0.0.0/8'] }]],
    ]);
    expect(compilePolicy(deny({ sourceIps: ['10.0.0.0/33'] }), { lenient: true }).warnings).toHaveLength(2);
  });

  it('still refuses what the wire cannot carry', () => {
    expect(failure(deny({ destinationPorts: ['80'] }), { lenient: true }).code).toBe('ERR_RBAC_POLICY');
    expect(failure(deny({ sourceIp: [] }), { lenient: true }).code).toBe('ERR_RBAC_POLICY');
    expect(failure({ ...valid, scope: 'Mesh' }, { lenient: true }).code).toBe('ERR_RBAC_POLICY');
  });
});

describe("emptyMatch: 'fail-closed' (DENY that denies nothing)", () => {
  const holds = (rules: object[][][], action: 'Allow' | 'Deny') =>
    policyMatches(
      compilePolicy(policy(rules, { action }), { emptyMatch: 'fail-closed' }),
      prepareConnection(plaintext),
    );

  it('an empty match of a DENY matches', () => {
    expect(holds([[[{}]]], 'Deny')).toBe(true);
  });

  it('and leaves the decision to the rest of its rule', () => {
    expect(holds([[[{}], [{ destinationPorts: [8080] }]]], 'Deny')).toBe(true);
    expect(holds([[[{}], [{ destinationPorts: [80] }]]], 'Deny')).toBe(false);
  });

  it('an empty match of an ALLOW never matches', () => {
    expect(holds([[[{}]]], 'Allow')).toBe(false);
  });

  it('a DENY without rules stays without effect', () => {
    expect(holds([], 'Deny')).toBe(false);
  });

  it('is pointed out', () => {
    expect(compilePolicy(policy([[[{}]]], { action: 'Deny' }), { emptyMatch: 'fail-closed' }).warnings).toEqual([
      { field: 'rules[0][0][0]', message: 'empty match: it matches everything (fail-closed)' },
    ]);
  });
});
