import { describe, expect, it } from 'vitest';
import { createLab, type LabDescription, labNames, namespaceName, twoNodes, vethName } from '../../src/lab/index.ts';
import { listNamespaces } from '../../src/netns/index.ts';

describe('twoNodes', () => {
  it('has the namespaces of issue 3, by these names', () => {
    const description = twoNodes();
    expect(labNames(description).map((name) => namespaceName(description, name))).toEqual([
      'ambient-outside',
      'ambient-node-a',
      'ambient-ztunnel-a',
      'ambient-sleep',
      'ambient-client2',
      'ambient-node-b',
      'ambient-ztunnel-b',
      'ambient-httpbin',
    ]);
  });

  it('has the addresses of node-mode-verified section 1', () => {
    const { nodes, services, outside } = twoNodes('x-');
    expect(nodes.map(({ ip, ztunnel }) => [ip, ztunnel.ip, vethName(ztunnel)])).toEqual([
      ['172.18.0.2', '10.244.1.2', 'vethza'],
      ['172.18.0.3', '10.244.2.2', 'vethzb'],
    ]);
    expect(nodes.flatMap(({ pods }) => pods.map((pod) => `${vethName(pod)} ${pod.ip}`))).toEqual([
      'vethsleep 10.244.1.10',
      'vethclient2 10.244.1.11',
      'vethhttpbin 10.244.2.10',
    ]);
    expect(services).toEqual([{ ip: '10.96.0.105', port: 80, endpoint: { ip: '10.244.2.10', port: 80 } }]);
    expect(outside).toMatchObject({ ip: '172.18.0.100', addresses: ['203.0.113.10'] });
  });
});

describe('what is wrong with a description is named by its field, and nothing is made', () => {
  const good = twoNodes('akt-wrong-');
  const [a, b] = good.nodes as [LabDescription['nodes'][0], LabDescription['nodes'][0]];
  const withPod = (pod: LabDescription['nodes'][0]['pods'][0]) => ({ ...good, nodes: [{ ...a, pods: [pod] }, b] });
  it.each<[field: string, code: string, description: LabDescription]>([
    ['name', 'ERR_LAB_INVALID', withPod({ name: 'Sleep', ip: '10.244.1.10' })],
    ['name', 'ERR_LAB_INVALID', withPod({ name: 'httpbin', ip: '10.244.1.10' })],
    ['prefix', 'ERR_LAB_INVALID', { ...good, prefix: '../' }],
    ['clusterRange', 'ERR_IP_CIDR', { ...good, clusterRange: '10.244.0.0' }],
    ['nodes', 'ERR_LAB_INVALID', { ...good, nodes: [] }],
    ['nodes[0].pods[0].ip', 'ERR_LAB_INVALID', withPod({ name: 'sleep', ip: 'fd00::1' })],
    ['nodes[0].pods[0].ip', 'ERR_LAB_INVALID', withPod({ name: 'sleep', ip: a.ztunnel.ip })],
    ['nodes[0].pods[0].veth', 'ERR_LAB_INVALID', withPod({ name: 'a-long-pod-name', ip: '10.244.1.10' })],
    ['nodes[0].pods[0].veth', 'ERR_LAB_INVALID', withPod({ name: 'sleep', ip: '10.244.1.10', veth: 'istioin' })],
    ['nodes[1].podRange', 'ERR_IP_CIDR', { ...good, nodes: [a, { ...b, podRange: 'all' }] }],
    ['outside.prefixLength', 'ERR_LAB_INVALID', { ...good, outside: { ...good.outside, prefixLength: 33 } }],
    ['outside.addresses[0]', 'ERR_LAB_INVALID', { ...good, outside: { ...good.outside, addresses: ['x'] } }],
    ['services[0].port', 'ERR_LAB_INVALID', { ...good, services: [{ ...good.services[0]!, port: 0 }] }],
    [
      'services[0].endpoint.ip',
      'ERR_LAB_INVALID',
      { ...good, services: [{ ...good.services[0]!, endpoint: { ip: '', port: 80 } }] },
    ],
  ])('%s: %s', async (field, code, description) => {
    await expect(createLab(description)).rejects.toMatchObject({ field, code });
    expect(listNamespaces().filter((name) => name.startsWith('akt-wrong-'))).toEqual([]);
  });
});
