import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chooseIp,
  defineService,
  defineWorkload,
  MeshState,
  pickByWeight,
  preferenceRank,
  type RoutingPreference,
  type Service,
  selectEndpoint,
  type Workload,
} from '../../src/discovery/index.ts';

const webKey = 'default/web.default.svc.cluster.local';
const at = (region: string, zone: string, more: Partial<Workload> = {}) =>
  defineWorkload({
    name: `${region}-${zone}`,
    namespace: 'default',
    workloadIps: ['10.0.0.1'],
    locality: { region, zone, subzone: '' },
    ...more,
  });
const backend = (name: string, more: Partial<Workload> = {}) =>
  defineWorkload({ name, namespace: 'default', workloadIps: ['10.0.0.1'], services: { [webKey]: {} }, ...more });
const web = (more: Partial<Service> = {}) =>
  defineService({ name: 'web', namespace: 'default', vips: ['/10.96.0.1'], ports: { 80: 8080 }, ...more });
const client = defineWorkload({ name: 'client', namespace: 'default', workloadIps: ['10.0.1.1'], node: 'n1' });

const first = () => 0;
function select(
  workloads: readonly Workload[],
  service: Service,
  query: { port?: number; destinationIp?: string; purpose?: 'waypoint'; random?: () => number } = {},
) {
  const state = new MeshState({ workloads, services: [service], policies: [] });
  return selectEndpoint(state, { service, source: client, port: 80, random: first, ...query });
}

describe('preferenceRank (facts section 11.3)', () => {
  const source = at('r1', 'z1', { network: 'n1' });
  const P: RoutingPreference[] = ['Network', 'Region', 'Zone'];
  it.each([
    ['same network, region and zone', at('r1', 'z1', { network: 'n1' }), 5],
    ['same network and region', at('r1', 'z2', { network: 'n1' }), 4],
    ['same network only', at('r2', 'z2', { network: 'n1' }), 3],
    ['other network, same region and zone', at('r1', 'z1', { network: 'n2' }), 2],
    ['other network, same region', at('r1', 'z2', { network: 'n2' }), 1],
    ['nothing the same', at('r2', 'z2', { network: 'n2' }), 0],
    ['same network, other region, same zone name', at('r2', 'z1', { network: 'n1' }), 3],
  ])('%s', (_name, workload, rank) => {
    expect(preferenceRank(P, 'Failover', source, workload)).toBe(rank);
  });

  it('Strict drops whatever does not match all of them', () => {
    expect(preferenceRank(P, 'Strict', source, at('r1', 'z1', { network: 'n1' }))).toBe(5);
    expect(preferenceRank(P, 'Strict', source, at('r1', 'z2', { network: 'n1' }))).toBe(-1);
    expect(preferenceRank(P, 'Strict', source, at('r1', 'z1', { network: 'n2' }))).toBe(-1);
    expect(preferenceRank([], 'Strict', source, at('x', 'x'))).toBe(0);
  });

  it('compares each scope with the field it is named after', () => {
    const here = at('r', 'z', {
      node: 'n',
      clusterId: 'c',
      network: 'w',
      locality: { region: 'r', zone: 'z', subzone: 's' },
    });
    const other: [RoutingPreference, Partial<Workload>][] = [
      ['Region', { locality: { ...here.locality, region: 'x' } }],
      ['Zone', { locality: { ...here.locality, zone: 'x' } }],
      ['Subzone', { locality: { ...here.locality, subzone: 'x' } }],
      ['Node', { node: 'x' }],
      ['Cluster', { clusterId: 'x' }],
      ['Network', { network: 'x' }],
    ];
    for (const [scope, difference] of other) {
      expect(preferenceRank([scope], 'Failover', here, { ...here })).toBe(1);
      expect(preferenceRank([scope], 'Failover', here, { ...here, ...difference })).toBe(0);
    }
  });
});

describe('selectEndpoint: who is eligible (facts section 2.4)', () => {
  it('needs a known workload', () => {
    const endpoints = { gone: { workloadUid: 'gone', port: {}, status: 'Healthy' } } as const;
    expect(select([], web({ endpoints }))).toBeUndefined();
  });

  it('needs an address, a host name, or a gateway to another network', () => {
    expect(select([backend('a', { workloadIps: [] })], web())).toBeUndefined();
    const named = backend('a', { workloadIps: [], hostname: 'a.example' });
    expect(select([named], web())).toEqual({ workload: named, port: 8080, service: web() });
    const networkGateway = { destination: 'west/1.1.1.1', hboneMtlsPort: 15008 };
    expect(select([backend('a', { workloadIps: [], networkGateway })], web())).toBeUndefined();
    const remote = backend('a', { workloadIps: [], networkGateway, network: 'west' });
    expect(select([remote], web())).toEqual({ workload: remote, port: 8080, service: web() });
  });

  it('needs the dialled port in the service', () => {
    expect(select([backend('a')], web(), { port: 81 })).toBeUndefined();
  });

  it('takes the port from the endpoint, then from the service, and needs one', () => {
    expect(select([backend('a', { services: { [webKey]: { 80: 9090 } } })], web())?.port).toBe(9090);
    expect(select([backend('a')], web())?.port).toBe(8080);
    expect(select([backend('a', { services: { [webKey]: { 80: 0 } } })], web())?.port).toBe(8080);
    expect(select([backend('a')], web({ ports: { 80: 0 } }))).toBeUndefined();
    expect(select([backend('a', { services: { [webKey]: { 80: 9090 } } })], web({ ports: { 80: 0 } }))?.port).toBe(
      9090,
    );
  });

  it('lets a waypoint with an application tunnel go without the port', () => {
    const applicationTunnel = { protocol: 'PROXY', port: 15088 } as const;
    const tunnelled = backend('a', { applicationTunnel });
    expect(select([tunnelled], web(), { port: 15008, purpose: 'waypoint' })?.port).toBe(15008);
    expect(select([tunnelled], web(), { port: 15008 })).toBeUndefined();
    expect(select([backend('a')], web(), { port: 15008, purpose: 'waypoint' })).toBeUndefined();
    const portless = backend('a', { applicationTunnel: { protocol: 'NONE' } });
    expect(select([portless], web(), { port: 15008, purpose: 'waypoint' })).toBeUndefined();
  });
});

describe('selectEndpoint: which one', () => {
  const near = backend('near', { node: 'n1', workloadIps: ['10.0.0.1'] });
  const far = backend('far', { node: 'n2', workloadIps: ['10.0.0.2'] });
  const loadBalancer = (mode: 'Standard' | 'Strict' | 'Failover') =>
    ({ routingPreferences: ['Node'], mode, healthPolicy: 'OnlyHealthy' }) as const;

  it('internalTrafficPolicy Local (Strict [Node]) stays on the node or fails', () => {
    expect(select([far, near], web({ loadBalancer: loadBalancer('Strict') }))?.workload).toBe(near);
    expect(select([far], web({ loadBalancer: loadBalancer('Strict') }))).toBeUndefined();
  });

  it('Failover prefers, and falls back', () => {
    expect(select([far, near], web({ loadBalancer: loadBalancer('Failover') }))?.workload).toBe(near);
    expect(select([far], web({ loadBalancer: loadBalancer('Failover') }))?.workload).toBe(far);
  });

  it('Standard looks at no preference', () => {
    expect(select([far, near], web({ loadBalancer: loadBalancer('Standard') }))?.workload).toBe(far);
  });

  it('shares by capacity, and a capacity of 0 gets nothing', () => {
    const counts = new Map<string, number>();
    const workloads = [
      backend('one', { capacity: 1 }),
      backend('none', { capacity: 0 }),
      backend('three', { capacity: 3 }),
    ];
    for (let step = 0; step < 400; step++) {
      const name = select(workloads, web(), { random: () => step / 400 })!.workload.name;
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    expect(Object.fromEntries(counts)).toEqual({ one: 100, three: 300 });
    expect(select([backend('none', { capacity: 0 })], web())).toBeUndefined();
  });

  it('asks chance only where there is a choice', () => {
    const random = () => {
      throw new Error('nothing to choose');
    };
    expect(select([near], web(), { random })?.workload).toBe(near);
  });
});

describe('chooseIp (facts section 2.4)', () => {
  const dual = at('r', 'z', { workloadIps: ['10.0.0.1', '10.0.0.2', 'fd00::1'] });
  it.each([
    ['the dialled one if it is its own', dual, undefined, '10.0.0.2', '10.0.0.2'],
    ['the first of the dialled family', dual, 'Dual', '10.96.0.1', '10.0.0.1'],
    ['the first of the dialled family, v6', dual, undefined, 'fd00:96::1', 'fd00::1'],
    ['what the service allows before the dialled family', dual, 'IPv6', '10.96.0.1', 'fd00::1'],
    ['what the service allows, v4', dual, 'IPv4', 'fd00:96::1', '10.0.0.1'],
    ['the first without a dialled one', dual, undefined, undefined, '10.0.0.1'],
    [
      'another family than dialled rather than none',
      at('r', 'z', { workloadIps: ['fd00::1'] }),
      undefined,
      '10.96.0.1',
      'fd00::1',
    ],
    [
      'none when the service allows none of them',
      at('r', 'z', { workloadIps: ['fd00::1'] }),
      'IPv4',
      '10.96.0.1',
      undefined,
    ],
    ['none without addresses', at('r', 'z', { workloadIps: [] }), undefined, '10.96.0.1', undefined],
  ] as const)('%s', (_name, workload, families, dialled, expected) => {
    expect(chooseIp(workload, families, dialled)).toBe(expected);
  });
});

describe('pickByWeight', () => {
  it('property: never an item without weight, always one where there is weight', () => {
    const items = fc.array(fc.nat({ max: 5 }), { maxLength: 8 });
    fc.assert(
      fc.property(items, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (weights, chance) => {
        const picked = pickByWeight(
          weights.map((weight) => ({ weight })),
          (item) => item.weight,
          () => chance,
        );
        if (weights.some((weight) => weight > 0)) expect(picked!.weight).toBeGreaterThan(0);
        else expect(picked).toBeUndefined();
      }),
    );
  });

  it('gives the crumb of a rounding to the last item with a weight', () => {
    const items = [{ weight: 1 }, { weight: 2 }, { weight: 0 }];
    expect(
      pickByWeight(
        items,
        (item) => item.weight,
        () => 1,
      ),
    ).toBe(items[1]);
  });
});
