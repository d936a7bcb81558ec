import { describe, expect, it } from 'vitest';
import { defineWorkload, MeshState } from '../../src/discovery/index.ts';
import { addressTowards, WorkloadOfPod, WorkloadsOfNode } from '../../src/ztunnel/served-workloads.ts';

const sleep = defineWorkload({
  uid: 'sleep',
  name: 'sleep',
  namespace: 'default',
  serviceAccount: 'sleeper',
  node: 'node-a',
  workloadIps: ['10.1.0.5', 'fd00:1::5'],
});
const other = defineWorkload({ ...sleep, uid: 'other', name: 'other', workloadIps: ['10.1.0.6'] });
const remote = defineWorkload({ ...sleep, uid: 'remote', name: 'remote', node: 'node-b', workloadIps: ['10.2.0.5'] });
const mesh = (...workloads: (typeof sleep)[]) => ({ workloads, services: [], policies: [] });
const from = (ip: string) => ({ ip, port: 40_000 });
const podOfSleep = { name: 'sleep', namespace: 'default', serviceAccount: 'sleeper' };

describe('node mode: the address says who it is', () => {
  const serves = new WorkloadsOfNode(new MeshState(mesh(sleep, other, remote)), '', 'node-a');

  it('knows the pods of its node, and no others', () => {
    expect(serves.sourceOf(from('10.1.0.5'))?.uid).toBe('sleep');
    expect(serves.destinationAt('10.1.0.6')?.uid).toBe('other');
    expect(serves.sourceOf(from('10.2.0.5'))).toBeUndefined();
    expect(serves.destinationAt('10.9.9.9')).toBeUndefined();
    expect(serves.unknownSource(from('10.2.0.5'))).toBe('no workload of this node has the address 10.2.0.5');
  });
});

describe('facts 2.2, in-pod mode: the listener says who it is', () => {
  it('whichever address the connection shows', () => {
    const serves = new WorkloadOfPod(new MeshState(mesh(sleep, other, remote)), 'node-a', podOfSleep);
    expect(serves.sourceOf()?.uid).toBe('sleep');
    expect(serves.destinationAt()?.uid).toBe('sleep');
  });

  it.each([
    ['name', { name: 'other' }],
    ['namespace', { namespace: 'kube-system' }],
    ['service account', { serviceAccount: 'default' }],
  ])('with another %s it is nobody', (_, differing) => {
    const serves = new WorkloadOfPod(new MeshState(mesh(sleep)), 'node-a', { ...podOfSleep, ...differing });
    expect(serves.workload).toBeUndefined();
    const { namespace, name, serviceAccount } = { ...podOfSleep, ...differing };
    expect(serves.unknownSource()).toBe(
      `this node has no workload ${namespace}/${name} (service account ${serviceAccount})`,
    );
  });

  it('nor where the workload is on another node', () => {
    expect(new WorkloadOfPod(new MeshState(mesh(sleep)), 'node-b', podOfSleep).workload).toBeUndefined();
  });

  it('follows the registry', () => {
    const state = new MeshState(mesh(other));
    const serves = new WorkloadOfPod(state, 'node-a', podOfSleep);
    expect(serves.workload).toBeUndefined();
    state.replace(mesh(other, sleep));
    expect(serves.workload?.uid).toBe('sleep');
    state.replace(mesh({ ...sleep, uid: 'again' }));
    expect(serves.workload?.uid).toBe('again');
    state.replace(mesh());
    expect(serves.workload).toBeUndefined();
  });
});

describe('addressTowards: the address that a destination is to see', () => {
  it.each([
    ['the one that the socket shows', '10.1.0.5', '10.2.0.5', '10.1.0.5'],
    ['a made-up one counts for nothing', '10.1.0.6', '10.2.0.5', '10.1.0.5'],
    ['nor does loopback', '127.0.0.1', '10.2.0.5', '10.1.0.5'],
    ['of the destination’s family', '10.1.0.5', 'fd00:2::5', 'fd00:1::5'],
    ['of the destination’s family, the other way', 'fd00:1::5', '10.2.0.5', '10.1.0.5'],
  ])('%s', (_, shown, destination, expected) => {
    expect(addressTowards(sleep, from(shown), destination)).toBe(expected);
  });

  it('a workload without an address of that family shows what it has', () => {
    expect(addressTowards(other, from('10.1.0.6'), 'fd00:2::5')).toBe('10.1.0.6');
  });
});
