import { describe, expect, it } from 'vitest';
import { meshYaml, podIdentity } from '../../../src/cli/demo/mesh.ts';
import { parseMeshFile, workloadIdentity } from '../../../src/discovery/index.ts';
import { parseSpiffeId } from '../../../src/identity/index.ts';
import { twoNodes } from '../../../src/lab/index.ts';
import { evaluate, PolicySet } from '../../../src/rbac/index.ts';

const mesh = parseMeshFile('mesh.yaml', meshYaml(twoNodes()));

describe('the registry of the demo (facts section 4.10)', () => {
  it('has each pod on its node, with its own identity', () => {
    expect(mesh.workloads.map(({ name, node, workloadIps }) => [name, node, ...workloadIps])).toEqual([
      ['sleep', 'node-a', '10.244.1.10'],
      ['client2', 'node-a', '10.244.1.11'],
      ['httpbin', 'node-b', '10.244.2.10'],
    ]);
    for (const workload of mesh.workloads) expect(workloadIdentity(workload)).toBe(podIdentity(workload.name));
  });

  it('has the ClusterIP, with httpbin behind it', () => {
    expect(mesh.services).toMatchObject([{ name: 'httpbin', vips: ['/10.96.0.105'], ports: { 80: 80 } }]);
    const backends = mesh.workloads.filter(({ services }) => Object.keys(services).length > 0);
    expect(backends.map(({ name }) => name)).toEqual(['httpbin']);
  });

  it.each([
    ['sleep', 80, true],
    ['client2', 80, false],
    ['client2', 81, true],
  ] as const)('lets %s to port %i of httpbin: %s', (name, destinationPort, allowed) => {
    const policies = new PolicySet();
    for (const policy of mesh.policies) policies.upsert(policy);
    const httpbin = mesh.workloads.find((workload) => workload.name === 'httpbin')!;
    const connection = {
      sourceIp: '10.244.1.10',
      destinationIp: '10.244.2.10',
      destinationPort,
      identity: parseSpiffeId(podIdentity(name)),
    };
    expect(evaluate(policies, httpbin, connection).allowed).toBe(allowed);
  });
});
