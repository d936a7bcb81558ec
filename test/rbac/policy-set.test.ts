import { describe, expect, it } from 'vitest';
import { type Policy, PolicySet } from '../../src/rbac/index.ts';
import { policy } from './vectors.ts';

function keys(set: PolicySet, namespace: string, authorizationPolicies: string[] = []): string[] {
  return set.candidates({ namespace, authorizationPolicies }).policies.map(({ key }) => key);
}

function filled(): PolicySet {
  const set = new PolicySet();
  set.replace([
    policy([], { name: 'g', namespace: 'istio-system', scope: 'Global' }),
    policy([], { name: 'n', namespace: 'ns1' }),
    policy([], { name: 'n', namespace: 'ns2' }),
    policy([], { name: 'w', namespace: 'ns1', scope: 'WorkloadSelector' }),
  ]);
  return set;
}

describe('which policies apply (facts section 3.2)', () => {
  it('those of the namespace, the global ones, and the listed keys', () => {
    const set = filled();
    expect(keys(set, 'ns1')).toEqual(['ns1/n', 'istio-system/g']);
    expect(keys(set, 'ns2')).toEqual(['ns2/n', 'istio-system/g']);
    expect(keys(set, 'ns3')).toEqual(['istio-system/g']);
    expect(keys(set, 'ns1', ['ns1/w'])).toEqual(['ns1/n', 'istio-system/g', 'ns1/w']);
  });

  it('a selector policy is not for its namespace, a global one not for its namespace alone', () => {
    expect(keys(filled(), 'istio-system')).toEqual(['istio-system/g']);
    expect(keys(filled(), 'ns1')).not.toContain('ns1/w');
  });

  it('a listed key reaches any scope and any namespace', () => {
    expect(keys(filled(), 'ns3', ['ns1/n', 'ns1/w'])).toEqual(['istio-system/g', 'ns1/n', 'ns1/w']);
  });

  it('none twice', () => {
    expect(keys(filled(), 'ns1', ['ns1/n', 'istio-system/g', 'ns1/w', 'ns1/w'])).toEqual([
      'ns1/n',
      'istio-system/g',
      'ns1/w',
    ]);
  });

  it('a listed key that nobody sent is told once', () => {
    expect(filled().candidates({ namespace: 'ns3', authorizationPolicies: ['a/b', 'a/b'] }).unknownKeys).toEqual([
      'a/b',
    ]);
  });

  it('a workload without a list', () => {
    expect(filled().candidates({ namespace: 'ns3' }).unknownKeys).toEqual([]);
  });

  it('names that objects have are names', () => {
    const set = new PolicySet();
    set.upsert(policy([], { namespace: '__proto__', name: 'constructor' }));
    expect(keys(set, '__proto__')).toEqual(['__proto__/constructor']);
    expect(keys(set, 'constructor')).toEqual([]);
  });
});

describe('changes', () => {
  it('upsert puts a policy in the place of its key, in whatever scope', () => {
    const set = filled();
    set.upsert(policy([], { name: 'n', namespace: 'ns1', scope: 'Global' }));
    expect(set.size).toBe(4);
    expect(keys(set, 'ns3')).toEqual(['istio-system/g', 'ns1/n']);
    expect(keys(set, 'ns1')).toEqual(['istio-system/g', 'ns1/n']);
    set.upsert(policy([], { name: 'n', namespace: 'ns1', scope: 'WorkloadSelector' }));
    expect(keys(set, 'ns1')).toEqual(['istio-system/g']);
    set.upsert(policy([], { name: 'n', namespace: 'ns1' }));
    expect(keys(set, 'ns1')).toEqual(['ns1/n', 'istio-system/g']);
  });

  it('upsert replaces the rules', () => {
    const set = filled();
    set.upsert(policy([[]], { name: 'n', namespace: 'ns1' }));
    expect(set.get('ns1/n')?.policy.rules).toEqual([[]]);
    expect(set.candidates({ namespace: 'ns1' }).policies[0]?.rules).toEqual([[]]);
  });

  it('remove takes it out of every index', () => {
    const set = filled();
    expect(['ns1/n', 'istio-system/g', 'ns1/w'].map((key) => set.remove(key))).toEqual([true, true, true]);
    expect(set.remove('ns1/n')).toBe(false);
    expect(keys(set, 'ns1', ['ns1/n'])).toEqual([]);
    expect([...set.policies()].map(({ key }) => key)).toEqual(['ns2/n']);
  });

  it('replace leaves nothing of what was', () => {
    const set = filled();
    set.replace([policy([], { name: 'x', namespace: 'ns3' })]);
    expect([keys(set, 'ns1'), keys(set, 'ns3'), set.size]).toEqual([[], ['ns3/x'], 1]);
  });

  it('the version grows with each, and with nothing else', () => {
    const set = new PolicySet();
    const versions = [set.version];
    const note = () => versions.push(set.version);
    set.upsert(policy([]));
    note();
    set.remove('ns1/p');
    note();
    set.replace([]);
    note();
    set.remove('ns1/p');
    note();
    expect(versions).toEqual([0, 1, 2, 3, 3]);
  });
});

describe('what is refused changes nothing', () => {
  const bad = { ...policy([]), action: 'Log' } as unknown as Policy;

  it('a bad policy in replace, named by its place', () => {
    const set = filled();
    const fields = {
      code: 'ERR_RBAC_POLICY',
      field: 'policies[1].action',
      message: 'rbac.replace: policies[1].action: expected one of Allow, Deny',
    };
    expect(() => set.replace([policy([]), bad])).toThrow(expect.objectContaining(fields));
    expect([set.size, set.version, keys(set, 'ns1')]).toEqual([4, 1, ['ns1/n', 'istio-system/g']]);
    expect(() => set.replace([7 as unknown as Policy])).toThrow(expect.objectContaining({ field: 'policies[0]' }));
  });

  it('a bad policy in upsert', () => {
    const set = filled();
    expect(() => set.upsert({ ...bad, name: 'n' })).toThrow(
      expect.objectContaining({ code: 'ERR_RBAC_POLICY', field: 'action' }),
    );
    expect([set.size, set.version]).toEqual([4, 1]);
  });

  it('two of one key in replace', () => {
    const set = filled();
    expect(() => set.replace([policy([]), policy([[]])])).toThrow(
      expect.objectContaining({ code: 'ERR_RBAC_DUPLICATE', field: 'policies[1]' }),
    );
    expect(set.size).toBe(4);
  });

  it('more than maxPolicies, though an update at the limit is none', () => {
    const set = new PolicySet({ maxPolicies: 1 });
    set.upsert(policy([]));
    set.upsert(policy([[]]));
    expect(() => set.upsert(policy([], { name: 'q' }))).toThrow(expect.objectContaining({ code: 'ERR_RBAC_LIMIT' }));
    expect(() => set.replace([policy([]), policy([], { name: 'q' })])).toThrow(
      expect.objectContaining({ code: 'ERR_RBAC_LIMIT' }),
    );
    expect([...set.policies()].map(({ key }) => key)).toEqual(['ns1/p']);
  });

  it('bad options', () => {
    expect(() => new PolicySet({ emptyMatch: 'closed' as 'fail-closed' })).toThrow(
      expect.objectContaining({ code: 'ERR_RBAC_OPTION', field: 'emptyMatch' }),
    );
    expect(() => new PolicySet({ maxPolicies: -1 })).toThrow(
      expect.objectContaining({ code: 'ERR_RBAC_OPTION', field: 'maxPolicies' }),
    );
  });
});
