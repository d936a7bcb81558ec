import { describe, expect, it } from 'vitest';
import { defineService, defineWorkload, type MeshSnapshot, MeshState } from '../../src/discovery/index.ts';
import type { Policy } from '../../src/rbac/index.ts';

const web = 'default/web.default.svc.cluster.local';
const pod = (name: string, ip: string, more: Partial<Parameters<typeof defineWorkload>[0]> = {}) =>
  defineWorkload({ name, namespace: 'default', workloadIps: [ip], protocol: 'HBONE', ...more });
const webService = (more: Partial<Parameters<typeof defineService>[0]> = {}) =>
  defineService({ name: 'web', namespace: 'default', vips: ['/10.96.0.1'], ports: { 80: 8080 }, ...more });
const policy = (name: string): Policy => ({
  name,
  namespace: 'default',
  scope: 'Namespace',
  action: 'Deny',
  dryRun: false,
  rules: [],
});
const mesh = (more: Partial<MeshSnapshot> = {}): MeshSnapshot => ({
  workloads: [],
  services: [],
  policies: [],
  ...more,
});

describe('MeshState lookups', () => {
  const a = pod('a', '10.0.0.1', { hostname: 'a.example', services: { [web]: { 80: 8081 } } });
  const state = new MeshState(mesh({ workloads: [a], services: [webService()], policies: [policy('p')] }));

  it('finds a workload by uid, by (network, ip) and by host name', () => {
    expect(state.workload('Kubernetes//Pod/default/a')).toBe(a);
    expect(state.workloadAt('', '10.0.0.1')).toBe(a);
    expect(state.workloadByHostname('default', 'a.example')).toBe(a);
    expect(state.workloadAt('other', '10.0.0.1')).toBeUndefined();
    expect(state.workloadAt('', '10.0.0.2')).toBeUndefined();
    expect(state.workloadByHostname('other', 'a.example')).toBeUndefined();
  });

  it('finds a service by VIP and by host name, and its policies by key', () => {
    expect(state.serviceAt('', '10.96.0.1')?.name).toBe('web');
    expect(state.service('default', 'web.default.svc.cluster.local')?.name).toBe('web');
    expect(state.serviceByHostname('web.default.svc.cluster.local')?.name).toBe('web');
    expect(state.serviceAt('west', '10.96.0.1')).toBeUndefined();
    expect([...state.policies.keys()]).toEqual(['default/p']);
    expect(state.servicesOf(a).map((service) => service.name)).toEqual(['web']);
  });

  it('finds the local workload that the CNI names only when all of node, name, namespace and account match (facts section 2.2)', () => {
    const local = new MeshState(mesh({ workloads: [pod('a', '10.0.0.1', { node: 'n1' })] }));
    const info = { node: 'n1', name: 'a', namespace: 'default', serviceAccount: 'default' };
    expect(local.localWorkload(info)?.name).toBe('a');
    for (const key of Object.keys(info)) expect(local.localWorkload({ ...info, [key]: 'x' })).toBeUndefined();
  });

  it('takes any spelling of an IPv6 address, and v4-mapped as IPv4', () => {
    const six = new MeshState(
      mesh({
        workloads: [pod('six', '2001:DB8:0:0:0:0:0:1'), pod('mapped', '::ffff:10.0.0.9')],
        services: [webService({ vips: ['west/2001:db8::5:0'] })],
      }),
    );
    expect(six.workloadAt('', '2001:db8::1')?.workloadIps).toEqual(['2001:db8::1']);
    expect(six.workloadAt('', '2001:0db8::0001')?.name).toBe('six');
    expect(six.workloadAt('', '10.0.0.9')?.name).toBe('mapped');
    expect(six.workloadAt('', '::ffff:10.0.0.9')?.name).toBe('mapped');
    expect(six.serviceAt('west', '2001:DB8:0::5:0')?.name).toBe('web');
  });

  it('does not find HostNetwork workloads by IP (facts section 2.3, notes)', () => {
    const host = new MeshState(mesh({ workloads: [pod('host', '10.0.0.1', { networkMode: 'HostNetwork' })] }));
    expect(host.workloadAt('', '10.0.0.1')).toBeUndefined();
    expect(host.workload('Kubernetes//Pod/default/host')).toBeDefined();
  });
});

describe('several workloads at one address (facts section 2.4)', () => {
  const pair = (uid: string, protocol: 'HBONE' | 'TCP') => pod(uid, '10.0.0.1', { uid, protocol });
  it.each([
    ['a pod with HBONE before a pod', 'c//Pod/x/1', 'HBONE', 'c//Pod/x/2', 'TCP'],
    ['a pod before other HBONE', 'c//Pod/x/1', 'TCP', 'c/networking.istio.io/WorkloadEntry/x/2', 'HBONE'],
    ['HBONE before the rest', 'c/networking.istio.io/WorkloadEntry/x/1', 'HBONE', 'c/other/2', 'TCP'],
  ] as const)('%s, whichever came first', (_name, betterUid, betterProtocol, worseUid, worseProtocol) => {
    const better = pair(betterUid, betterProtocol);
    const worse = pair(worseUid, worseProtocol);
    for (const workloads of [
      [better, worse],
      [worse, better],
    ]) {
      expect(new MeshState(mesh({ workloads })).workloadAt('', '10.0.0.1')?.uid).toBe(betterUid);
    }
  });

  it('falls back to the other one when the better one goes', () => {
    const state = new MeshState(mesh({ workloads: [pair('c//Pod/x/1', 'HBONE'), pair('c//Pod/x/2', 'TCP')] }));
    state.apply({ remove: { addresses: ['c//Pod/x/1'] } });
    expect(state.workloadAt('', '10.0.0.1')?.uid).toBe('c//Pod/x/2');
    state.apply({ remove: { addresses: ['c//Pod/x/2'] } });
    expect(state.workloadAt('', '10.0.0.1')).toBeUndefined();
  });
});

describe('several services at one address (facts section 2.4)', () => {
  const shared = (namespace: string, more: Partial<Parameters<typeof defineService>[0]> = {}) =>
    defineService({ name: namespace, namespace, hostname: 'shared.example', vips: ['/10.96.0.1'], ...more });
  const pick = (client: string | undefined, ...services: ReturnType<typeof shared>[]) => {
    const state = new MeshState(mesh({ services }));
    const byVip = state.serviceAt('', '10.96.0.1', client)?.name;
    expect(state.serviceByHostname('shared.example', client)?.name).toBe(byVip);
    return byVip;
  };

  it('client namespace > canonical > first seen', () => {
    expect(pick('b', shared('a', { canonical: true }), shared('b'))).toBe('b');
    expect(pick('x', shared('a'), shared('b', { canonical: true }))).toBe('b');
    expect(pick('x', shared('a'), shared('b'))).toBe('a');
    expect(pick(undefined, shared('a'), shared('b', { canonical: true }))).toBe('b');
  });

  it('hides Namespace visibility from other namespaces, but not from a client without one', () => {
    const hidden = shared('a', { visibility: 'Namespace', canonical: true });
    expect(pick('x', hidden, shared('b'))).toBe('b');
    expect(pick('x', hidden)).toBeUndefined();
    expect(pick('a', hidden)).toBe('a');
    expect(pick(undefined, hidden)).toBe('a');
  });
});

describe('CIDR VIPs (facts section 2.4)', () => {
  const range = (name: string, cidr: string, more: Partial<Parameters<typeof defineService>[0]> = {}) =>
    defineService({ name, namespace: name, cidrVips: [{ network: '', cidr }], ...more });

  it('prefers the longest prefix, the client namespace over it, and canonical last', () => {
    const state = new MeshState(
      mesh({
        services: [
          range('wide', '10.0.0.0/8', { canonical: true }),
          range('narrow', '10.1.0.0/16'),
          range('twin', '10.1.0.0/16', { canonical: true }),
        ],
      }),
    );
    expect(state.serviceAt('', '10.1.2.3', 'x')?.name).toBe('twin');
    expect(state.serviceAt('', '10.2.2.3', 'x')?.name).toBe('wide');
    expect(state.serviceAt('', '10.1.2.3', 'wide')?.name).toBe('wide');
    expect(state.serviceAt('', '11.0.0.1', 'x')).toBeUndefined();
    expect(state.serviceAt('west', '10.1.2.3', 'x')).toBeUndefined();
  });

  it('are asked only where no exact VIP is', () => {
    const state = new MeshState(
      mesh({
        services: [range('range', '10.0.0.0/8'), defineService({ name: 'exact', namespace: 'x', vips: ['/10.0.0.1'] })],
      }),
    );
    expect(state.serviceAt('', '10.0.0.1', 'range')?.name).toBe('exact');
    state.apply({ remove: { addresses: ['range/range.range.svc.cluster.local'] } });
    expect(state.serviceAt('', '10.0.0.2')).toBeUndefined();
  });
});

describe('endpoints', () => {
  const uids = (state: MeshState) => [...state.endpointsOf(webService()).keys()];

  it('wait for their service (facts section 4.6)', () => {
    const a = pod('a', '10.0.0.1', { services: { [web]: { 80: 8081 } } });
    const state = new MeshState(mesh({ workloads: [a] }));
    expect(uids(state)).toEqual([]);
    expect([...(state.stagedEndpoints().get(web)?.keys() ?? [])]).toEqual([a.uid]);
    state.apply({ upsert: { services: [webService()] } });
    expect(state.endpointsOf(webService()).get(a.uid)).toEqual({
      workloadUid: a.uid,
      port: { 80: 8081 },
      status: 'Healthy',
    });
    expect(state.stagedEndpoints().size).toBe(0);
  });

  it('that come after the endpoints were asked for are there', () => {
    const state = new MeshState(mesh({ services: [webService()] }));
    expect(uids(state)).toEqual([]);
    const a = pod('a', '10.0.0.1', { services: { [web]: {} } });
    state.apply({ upsert: { workloads: [a] } });
    expect(uids(state)).toEqual([a.uid]);
  });

  it('go with their workload, staged ones too', () => {
    const a = pod('a', '10.0.0.1', { services: { [web]: {} } });
    const state = new MeshState(mesh({ workloads: [a], services: [webService()] }));
    expect(uids(state)).toEqual([a.uid]);
    state.apply({ upsert: { workloads: [{ ...a, services: {} }] } });
    expect(uids(state)).toEqual([]);
    state.apply({ remove: { addresses: [web] }, upsert: { workloads: [a] } });
    expect(state.stagedEndpoints().size).toBe(1);
    state.apply({ remove: { addresses: [a.uid] } });
    expect(state.stagedEndpoints().size).toBe(0);
  });

  it('stay when their service is updated, and its health policy is asked anew', () => {
    const sick = pod('sick', '10.0.0.1', { status: 'Unhealthy', services: { [web]: {} } });
    const state = new MeshState(mesh({ workloads: [sick], services: [webService()] }));
    expect(uids(state)).toEqual([]);
    const loadBalancer = { routingPreferences: [], mode: 'Standard', healthPolicy: 'AllowAll' } as const;
    state.apply({ upsert: { services: [webService({ loadBalancer })] } });
    expect(uids(state)).toEqual([sick.uid]);
    state.apply({ upsert: { services: [webService()] } });
    expect(uids(state)).toEqual([]);
  });

  it('that a service names itself count, and what their workload says wins', () => {
    const a = pod('a', '10.0.0.1', { status: 'Unhealthy', services: { [web]: {} } });
    const named = { workloadUid: a.uid, port: { 80: 1 }, status: 'Healthy' } as const;
    const other = { workloadUid: 'other', port: { 80: 2 }, status: 'Healthy' } as const;
    const state = new MeshState(
      mesh({ workloads: [a], services: [webService({ endpoints: { [a.uid]: named, other } })] }),
    );
    expect(uids(state)).toEqual(['other']);
  });
});

describe('changes', () => {
  it('replace drops everything that was', () => {
    const state = new MeshState(
      mesh({
        workloads: [pod('a', '10.0.0.1', { hostname: 'a', services: { [web]: {}, 'x/y': {} } })],
        services: [webService({ cidrVips: [{ network: '', cidr: '10.0.0.0/8' }] })],
        policies: [policy('p')],
      }),
    );
    state.endpointsOf(webService());
    state.replace(mesh());
    expect(state.size).toEqual({ workloads: 0, services: 0, policies: 0 });
    expect(state.workloadAt('', '10.0.0.1')).toBeUndefined();
    expect(state.workloadByHostname('default', 'a')).toBeUndefined();
    expect(state.serviceAt('', '10.96.0.1')).toBeUndefined();
    expect(state.serviceAt('', '10.9.9.9')).toBeUndefined();
    expect(state.stagedEndpoints().size).toBe(0);
    expect(state.endpointsOf(webService()).size).toBe(0);
    expect(state.policies.size).toBe(0);
    expect(state.version).toBe(2);
  });

  it('an upsert moves a workload from its old address to its new one', () => {
    const state = new MeshState(mesh({ workloads: [pod('a', '10.0.0.1')] }));
    state.apply({ upsert: { workloads: [pod('a', '10.0.0.2')] } });
    expect(state.workloadAt('', '10.0.0.1')).toBeUndefined();
    expect(state.workloadAt('', '10.0.0.2')?.name).toBe('a');
    expect(state.size.workloads).toBe(1);
  });

  it('an address or a VIP that is listed twice goes as it came', () => {
    const state = new MeshState(
      mesh({
        workloads: [pod('a', '', { workloadIps: ['10.0.0.1', '10.0.0.1'] })],
        services: [webService({ vips: ['/10.96.0.1', '/10.96.0.1'] })],
      }),
    );
    expect(state.workloadAt('', '10.0.0.1')?.name).toBe('a');
    state.apply({ remove: { addresses: ['Kubernetes//Pod/default/a', web] } });
    expect(state.workloadAt('', '10.0.0.1')).toBeUndefined();
    expect(state.serviceAt('', '10.96.0.1')).toBeUndefined();
  });

  it('removes by uid before it thinks of services, then upserts (facts section 4.6)', () => {
    const odd = pod('odd', '10.0.0.7', { uid: web });
    const state = new MeshState(mesh({ workloads: [odd], services: [webService()], policies: [policy('p')] }));
    state.apply({ remove: { addresses: [web], policies: ['default/p', 'default/none'] } });
    expect(state.size).toEqual({ workloads: 0, services: 1, policies: 0 });
    state.apply({
      remove: { addresses: [web, 'nobody'] },
      upsert: { services: [webService({ vips: ['/10.96.0.2'] })] },
    });
    expect(state.serviceAt('', '10.96.0.1')).toBeUndefined();
    expect(state.serviceAt('', '10.96.0.2')?.name).toBe('web');
  });

  it('survives structuredClone on its way to a worker', () => {
    const snapshot = mesh({
      workloads: [pod('a', '10.0.0.1', { services: { [web]: { 80: 8080 } } })],
      services: [webService()],
      policies: [policy('p')],
    });
    const copy = new MeshState(structuredClone(new MeshState(snapshot).snapshot()));
    expect(copy.snapshot()).toEqual(snapshot);
    expect(copy.endpointsOf(webService()).size).toBe(1);
  });

  const bad: [string, string, () => MeshSnapshot][] = [
    [
      'workload without uid',
      'workloads[1].uid',
      () => mesh({ workloads: [pod('a', '10.0.0.1'), pod('b', '10.0.0.2', { uid: '' })] }),
    ],
    [
      'IP',
      'workloads[0].workloadIps[1]',
      () => mesh({ workloads: [pod('a', '', { workloadIps: ['10.0.0.1', '10.0.0.256'] })] }),
    ],
    [
      'service key',
      'workloads[0].services',
      () => mesh({ workloads: [pod('a', '10.0.0.1', { services: { web: {} } })] }),
    ],
    [
      'waypoint',
      'workloads[0].waypoint.destination',
      () => mesh({ workloads: [pod('a', '10.0.0.1', { waypoint: { destination: 'nowhere', hboneMtlsPort: 1 } })] }),
    ],
    ['VIP', 'services[0].vips[0]', () => mesh({ services: [webService({ vips: ['10.0.0.1'] })] })],
    [
      'CIDR VIP',
      'services[0].cidrVips[0].cidr',
      () => mesh({ services: [webService({ cidrVips: [{ network: '', cidr: '10.0.0.0' }] })] }),
    ],
    ['host name', 'services[0].hostname', () => mesh({ services: [webService({ hostname: 'a/b' })] })],
    [
      'weighted waypoint',
      'services[0].weightedWaypoints[0].destination.destination',
      () =>
        mesh({
          services: [
            webService({ weightedWaypoints: [{ destination: { destination: '', hboneMtlsPort: 1 }, weight: 1 }] }),
          ],
        }),
    ],
  ];
  it.each(bad)('refuses a bad %s by its path, and changes nothing', (_what, field, snapshot) => {
    const state = new MeshState(mesh({ workloads: [pod('kept', '10.0.0.9')] }));
    const refused = { name: 'DiscoveryInputError', code: 'ERR_DISCOVERY_INVALID', field };
    expect(() => state.replace(snapshot())).toThrow(expect.objectContaining(refused));
    expect(() => state.apply({ upsert: snapshot(), remove: { addresses: ['Kubernetes//Pod/default/kept'] } })).toThrow(
      expect.objectContaining({ ...refused, field: `upsert.${field}` }),
    );
    expect(state.snapshot().workloads.map((workload) => workload.name)).toEqual(['kept']);
    expect(state.version).toBe(1);
  });

  it('holds no more than maxEntries, counted as it would be after the change', () => {
    const state = new MeshState(mesh({ workloads: [pod('a', '10.0.0.1')], services: [webService()] }), {
      maxEntries: 2,
    });
    const limit = expect.objectContaining({ code: 'ERR_DISCOVERY_LIMIT' });
    expect(() => state.apply({ upsert: { policies: [policy('p')] } })).toThrow(limit);
    expect(() => state.replace(mesh({ policies: [policy('a'), policy('b'), policy('c')] }))).toThrow(limit);
    state.apply({ upsert: { workloads: [pod('a', '10.0.0.3')], services: [webService()] } });
    state.apply({ upsert: { policies: [policy('p')] }, remove: { addresses: [web] } });
    state.apply({
      upsert: { policies: [policy('p')], workloads: [pod('b', '10.0.0.2')] },
      remove: { addresses: ['Kubernetes//Pod/default/a'] },
    });
    expect(state.size).toEqual({ workloads: 1, services: 0, policies: 1 });
  });
});
