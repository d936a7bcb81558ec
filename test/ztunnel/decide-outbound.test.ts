import { describe, expect, it } from 'vitest';
import { defineService, defineWorkload, MeshState, type Service, type Workload } from '../../src/discovery/index.ts';
import { decideOutbound, type OutboundDecision } from '../../src/ztunnel/decide-outbound.ts';

const gateway = (destination: string, hboneMtlsPort = 15008) => ({ destination, hboneMtlsPort });
const hostnameOf = (name: string) => `${name}.default.svc.cluster.local`;
const backing = (name: string, ports: Record<number, number> = {}) => ({ [`default/${hostnameOf(name)}`]: ports });
const workload = (name: string, ip: string, more: Partial<Workload> = {}) =>
  defineWorkload({
    name,
    namespace: 'default',
    workloadIps: [ip],
    serviceAccount: name,
    protocol: 'HBONE',
    node: 'node-b',
    ...more,
  });
const service = (name: string, vip: string, more: Partial<Service> = {}) =>
  defineService({ name, namespace: 'default', vips: [`/${vip}`], ports: { 80: 8080 }, ...more });
const identityOf = (name: string) => `spiffe://cluster.local/ns/default/sa/${name}`;

const sleep = workload('sleep', '10.1.0.5', { node: 'node-a' });

function decide(
  destination: string,
  workloads: readonly Workload[] = [],
  services: readonly Service[] = [],
  { source = sleep, random = () => 0, network }: { source?: Workload; random?: () => number; network?: string } = {},
): OutboundDecision {
  const state = new MeshState({ workloads: [source, ...workloads], services, policies: [] });
  const colon = destination.lastIndexOf(':');
  const target = { ip: destination.slice(0, colon), port: Number(destination.slice(colon + 1)) };
  return decideOutbound(state, source, target, random, network === undefined ? {} : { network });
}

/** A decision in one line. */
function brief(decision: OutboundDecision): string {
  const where = ({ ip, port }: { ip: string; port: number }) => `${ip} ${port}`;
  switch (decision.kind) {
    case 'hbone':
      return `hbone ${decision.via} to ${where(decision.destinationAddress)} for ${decision.authority}`;
    case 'tcp':
      return `tcp ${decision.via} to ${where(decision.address)}`;
    case 'reject':
      return `reject ${decision.cause}: ${decision.reason}`;
  }
}

describe('step 0: calls to ourselves', () => {
  it.each([15001, 15006, 15008])('loopback port %d is dropped', (port) => {
    for (const ip of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1']) {
      expect(brief(decide(`${ip}:${port}`))).toBe('reject self-call: attempted recursive call to ourselves');
    }
  });

  it("other loopback ports, and those ports elsewhere, are nobody's business", () => {
    expect(brief(decide('127.0.0.1:8080'))).toBe('tcp passthrough to 127.0.0.1 8080');
    expect(brief(decide('10.9.9.9:15008'))).toBe('tcp passthrough to 10.9.9.9 15008');
  });

  it("the pod's own address on 15001 becomes HBONE to itself, for the inbound side to refuse (facts section 2.8)", () => {
    expect(brief(decide('10.1.0.5:15001'))).toBe('hbone direct to 10.1.0.5 15008 for 10.1.0.5:15001');
  });
});

describe('a destination that nobody knows', () => {
  it('is passed through', () => {
    expect(decide('1.2.3.4:443')).toEqual({
      kind: 'tcp',
      address: { ip: '1.2.3.4', port: 443 },
      via: 'passthrough',
      sameNode: false,
    });
  });

  it('is passed through in canonical text', () => {
    expect(brief(decide('::ffff:1.2.3.4:443'))).toBe('tcp passthrough to 1.2.3.4 443');
    expect(brief(decide('2001:DB8:0::1:443'))).toBe('tcp passthrough to 2001:db8::1 443');
  });

  it('is an error when it is no address at all', () => {
    expect(() => decide('httpbin:80')).toThrow(
      expect.objectContaining({ code: 'ERR_IP_ADDRESS', field: 'destination.ip' }),
    );
  });
});

describe('a workload by its address', () => {
  it('over HBONE: its 15008, the dialled address as authority, its identity expected', () => {
    const httpbin = workload('httpbin', '10.2.0.9');
    expect(decide('10.2.0.9:80', [httpbin])).toEqual({
      kind: 'hbone',
      destinationAddress: { ip: '10.2.0.9', port: 15008 },
      authority: '10.2.0.9:80',
      hboneAddress: { ip: '10.2.0.9', port: 80 },
      expectedIdentities: [identityOf('httpbin')],
      via: 'direct',
      sameNode: false,
      destinationWorkload: httpbin,
    });
  });

  it('puts IPv6 into brackets', () => {
    expect(brief(decide('2001:db8::9:80', [workload('six', '2001:db8::9')]))).toBe(
      'hbone direct to 2001:db8::9 15008 for [2001:db8::9]:80',
    );
  });

  it('plain where it speaks no HBONE', () => {
    expect(brief(decide('10.2.0.9:80', [workload('httpbin', '10.2.0.9', { protocol: 'TCP' })]))).toBe(
      'tcp direct to 10.2.0.9 80',
    );
  });

  it('unhealthy or not: nobody else was asked for', () => {
    expect(decide('10.2.0.9:80', [workload('httpbin', '10.2.0.9', { status: 'Unhealthy' })]).kind).toBe('hbone');
  });

  it('in host network: passed through (facts section 2.3, notes)', () => {
    expect(brief(decide('10.2.0.9:80', [workload('host', '10.2.0.9', { networkMode: 'HostNetwork' })]))).toBe(
      'tcp passthrough to 10.2.0.9 80',
    );
  });

  it('on another network: not reachable by address', () => {
    const remote = workload('remote', '10.2.0.9', { network: 'west' });
    expect(brief(decide('10.2.0.9:80', [remote]))).toBe('tcp passthrough to 10.2.0.9 80');
  });

  it('without an identity: nobody could prove to be it', () => {
    const nameless = workload('nameless', '10.2.0.9', { trustDomain: '', serviceAccount: '' });
    expect(decide('10.2.0.9:80', [nameless])).toMatchObject({ kind: 'reject', cause: 'no-identity' });
  });

  it('says whether it is on our node, so that it need not leave it', () => {
    const on = (node: string, more: Partial<Workload> = {}) => {
      const decision = decide('10.2.0.9:80', [workload('httpbin', '10.2.0.9', { node, ...more })]);
      return decision.kind !== 'reject' && decision.sameNode;
    };
    expect(on('node-a')).toBe(true);
    expect(on('node-a', { protocol: 'TCP' })).toBe(true);
    expect(on('node-b')).toBe(false);
    expect(on('node-a', { clusterId: 'other' })).toBe(false);
    const decision = decide('10.2.0.9:80', [workload('httpbin', '10.2.0.9', { node: '' })], [], {
      source: { ...sleep, node: '' },
    });
    expect(decision).toMatchObject({ kind: 'hbone', sameNode: false });
  });
});

describe('a service by its VIP', () => {
  const httpbin = workload('httpbin', '10.2.0.9', { services: backing('httpbin') });

  it('one of its endpoints, at the target port, with the names of the service accepted too', () => {
    const web = service('httpbin', '10.96.0.105', {
      subjectAltNames: ['spiffe://cluster.local/ns/default/sa/other', 'https://not.spiffe', identityOf('httpbin')],
    });
    expect(decide('10.96.0.105:80', [httpbin], [web])).toEqual({
      kind: 'hbone',
      destinationAddress: { ip: '10.2.0.9', port: 15008 },
      authority: '10.2.0.9:8080',
      hboneAddress: { ip: '10.2.0.9', port: 8080 },
      expectedIdentities: ['spiffe://cluster.local/ns/default/sa/other', identityOf('httpbin')],
      via: 'direct',
      sameNode: false,
      destinationWorkload: httpbin,
      destinationService: web,
    });
  });

  it('the port that the endpoint names itself', () => {
    const named = workload('httpbin', '10.2.0.9', { services: backing('httpbin', { 80: 9090 }) });
    expect(brief(decide('10.96.0.105:80', [named], [service('httpbin', '10.96.0.105', { ports: { 80: 0 } })]))).toBe(
      'hbone direct to 10.2.0.9 15008 for 10.2.0.9:9090',
    );
  });

  it('to a plain endpoint: load-balanced here, then plain', () => {
    const plain = { ...httpbin, protocol: 'TCP' } as const;
    expect(brief(decide('10.96.0.105:80', [plain], [service('httpbin', '10.96.0.105')]))).toBe(
      'tcp direct to 10.2.0.9 8080',
    );
  });

  it.each([
    ['no endpoint', [], 80],
    ['an unknown port', [httpbin], 81],
    ['unhealthy endpoints only', [{ ...httpbin, status: 'Unhealthy' as const }], 80],
  ])('%s: no healthy upstream', (_what, workloads, port) => {
    expect(brief(decide(`10.96.0.105:${port}`, workloads, [service('httpbin', '10.96.0.105')]))).toBe(
      `reject no-healthy-upstream: no healthy upstream: 10.96.0.105:${port}`,
    );
  });

  it('in Passthrough mode: where it was dialled, endpoints or not', () => {
    const loadBalancer = { routingPreferences: [], mode: 'Passthrough', healthPolicy: 'OnlyHealthy' } as const;
    const passthrough = service('httpbin', '10.96.0.105', { loadBalancer });
    for (const workloads of [[], [httpbin]]) {
      const decision = decide('10.96.0.105:80', workloads, [passthrough]);
      expect(brief(decision)).toBe('tcp passthrough to 10.96.0.105 80');
      expect(decision.destinationService).toBe(passthrough);
    }
  });

  it('through a CIDR VIP', () => {
    const range = service('httpbin', '10.96.0.105', { vips: [], cidrVips: [{ network: '', cidr: '10.96.0.0/16' }] });
    expect(brief(decide('10.96.7.7:80', [httpbin], [range]))).toBe('hbone direct to 10.2.0.9 15008 for 10.2.0.9:8080');
  });

  it('the address family that was dialled, where the endpoint has both (service_ip_families)', () => {
    const dual = { ...httpbin, workloadIps: ['10.2.0.9', '2001:db8::9'] };
    const both = service('httpbin', '10.96.0.105', { vips: ['/10.96.0.105', '/2001:db8:96::1'] });
    expect(brief(decide('2001:db8:96::1:80', [dual], [both]))).toBe(
      'hbone direct to 2001:db8::9 15008 for [2001:db8::9]:8080',
    );
    expect(brief(decide('2001:db8:96::1:80', [dual], [{ ...both, ipFamilies: 'IPv4' }]))).toBe(
      'hbone direct to 10.2.0.9 15008 for 10.2.0.9:8080',
    );
  });

  it('known by host name only: not supported yet, and said so', () => {
    const named = workload('httpbin', '', {
      workloadIps: [],
      hostname: 'httpbin.example',
      services: backing('httpbin'),
    });
    expect(decide('10.96.0.105:80', [named], [service('httpbin', '10.96.0.105')])).toMatchObject({
      kind: 'reject',
      cause: 'unsupported',
    });
  });

  it('hidden from our namespace: passed through', () => {
    const hidden = service('httpbin', '10.96.0.105', { namespace: 'other', visibility: 'Namespace' });
    expect(brief(decide('10.96.0.105:80', [], [hidden]))).toBe('tcp passthrough to 10.96.0.105 80');
  });

  it('spreads over its endpoints by chance', () => {
    const endpoints = [1, 2, 3, 4].map((n) => workload(`e${n}`, `10.2.0.${n}`, { services: backing('httpbin') }));
    const seen = [0, 0.25, 0.5, 0.75].map((chance) =>
      brief(decide('10.96.0.105:80', endpoints, [service('httpbin', '10.96.0.105')], { random: () => chance })),
    );
    expect(seen).toEqual([1, 2, 3, 4].map((n) => `hbone direct to 10.2.0.${n} 15008 for 10.2.0.${n}:8080`));
  });
});

describe('an address that is a workload and a VIP at once (facts section 2.3, steps 1 and 3)', () => {
  const other = workload('other', '10.2.0.9', { services: backing('web') });
  const both = workload('both', '10.96.0.1', {});

  it('is a workload to the waypoint question, a service to the upstream question', () => {
    const web = service('web', '10.96.0.1', { waypoint: gateway('/10.5.0.5') });
    const decision = decide('10.96.0.1:80', [both, other, workload('waypoint', '10.5.0.5')], [web]);
    expect(brief(decision)).toBe('hbone direct to 10.2.0.9 15008 for 10.2.0.9:8080');
  });

  it('without an endpoint is passed through, since a workload was addressed', () => {
    expect(brief(decide('10.96.0.1:80', [both], [service('web', '10.96.0.1')]))).toBe(
      'tcp passthrough to 10.96.0.1 80',
    );
  });
});

describe('a service with a waypoint (facts section 2.3 step 2)', () => {
  const waypoint = workload('waypoint', '10.5.0.5', { services: backing('waypoint'), node: 'node-a' });
  const waypointService = service('waypoint', '10.96.0.5', {
    ports: { 15008: 15009 },
    subjectAltNames: ['spiffe://cluster.local/ns/default/sa/waypoint-too'],
  });
  const httpbin = workload('httpbin', '10.2.0.9', { services: backing('httpbin') });
  const web = (destination: string, more: Partial<Service> = {}) =>
    service('httpbin', '10.96.0.105', { waypoint: gateway(destination), ...more });

  it('by host name: tunnel to its mapped port, the VIP stays the authority', () => {
    const dialled = web(`default/${hostnameOf('waypoint')}`);
    expect(decide('10.96.0.105:80', [waypoint, httpbin], [dialled, waypointService])).toEqual({
      kind: 'hbone',
      destinationAddress: { ip: '10.5.0.5', port: 15009 },
      authority: '10.96.0.105:80',
      hboneAddress: { ip: '10.96.0.105', port: 80 },
      expectedIdentities: ['spiffe://cluster.local/ns/default/sa/waypoint-too', identityOf('waypoint')],
      via: 'service-waypoint',
      sameNode: true,
      destinationWorkload: waypoint,
      destinationService: dialled,
    });
  });

  it.each([
    ['by workload address', '/10.5.0.5', '10.5.0.5 15008'],
    ['by VIP', '/10.96.0.5', '10.5.0.5 15009'],
  ])('%s', (_what, destination, hop) => {
    expect(brief(decide('10.96.0.105:80', [waypoint, httpbin], [web(destination), waypointService]))).toBe(
      `hbone service-waypoint to ${hop} for 10.96.0.105:80`,
    );
  });

  it('even for a port that the service does not have: the waypoint knows', () => {
    expect(brief(decide('10.96.0.105:81', [waypoint], [web('/10.5.0.5')]))).toBe(
      'hbone service-waypoint to 10.5.0.5 15008 for 10.96.0.105:81',
    );
  });

  it('even from the waypoint itself: no check is made here', () => {
    expect(brief(decide('10.96.0.105:80', [httpbin], [web('/10.5.0.5')], { source: waypoint }))).toBe(
      'hbone service-waypoint to 10.5.0.5 15008 for 10.96.0.105:80',
    );
  });

  it('that nobody knows: the connection fails, and never goes direct', () => {
    for (const destination of ['/10.5.0.6', 'default/gone.example', `default/${hostnameOf('waypoint')}`]) {
      expect(brief(decide('10.96.0.105:80', [httpbin], [web(destination), waypointService]))).toBe(
        `reject unknown-waypoint: unknown waypoint: ${destination}`,
      );
    }
  });

  it('weighted: sampled, or the plain one where no weight can be used', () => {
    const weightedWaypoints = [
      { destination: gateway('/10.5.0.5'), weight: 1 },
      { destination: gateway('/10.5.0.6'), weight: 1 },
    ];
    const workloads = [waypoint, workload('waypoint2', '10.5.0.6'), workload('waypoint3', '10.5.0.7')];
    const hop = (chance: number, more: Partial<Service>) =>
      brief(decide('10.96.0.105:80', workloads, [web('/10.5.0.7', more)], { random: () => chance }));
    expect(hop(0.4, { weightedWaypoints })).toContain('to 10.5.0.5 15008');
    expect(hop(0.6, { weightedWaypoints })).toContain('to 10.5.0.6 15008');
    expect(hop(0.6, { weightedWaypoints: weightedWaypoints.map((w) => ({ ...w, weight: 0 })) })).toContain(
      'to 10.5.0.7 15008',
    );
  });

  it('on another network: two tunnels, not supported yet, and said so', () => {
    const far = { ...waypoint, network: 'west', networkGateway: gateway('west/1.1.1.1', 15443) };
    const decision = decide('10.96.0.105:80', [far], [web(`default/${hostnameOf('waypoint')}`), waypointService]);
    expect(decision).toMatchObject({
      kind: 'reject',
      cause: 'unsupported',
      reason: expect.stringContaining('double HBONE is not supported yet'),
    });
  });
});

describe('a workload with a waypoint (facts section 2.3 step 5)', () => {
  const waypoint = workload('waypoint', '10.5.0.5', { services: backing('waypoint') });
  const waypointService = service('waypoint', '10.96.0.5', { ports: { 15008: 15008 } });
  const httpbin = workload('httpbin', '10.2.0.9', {
    waypoint: gateway(`default/${hostnameOf('waypoint')}`),
    services: backing('httpbin'),
  });

  it('addressed itself: tunnel to the waypoint, the pod stays the authority', () => {
    const decision = decide('10.2.0.9:80', [waypoint, httpbin], [waypointService]);
    expect(brief(decision)).toBe('hbone workload-waypoint to 10.5.0.5 15008 for 10.2.0.9:80');
    expect(decision.destinationWorkload).toBe(waypoint);
  });

  it('addressed through a service: direct', () => {
    const decision = decide(
      '10.96.0.105:80',
      [waypoint, httpbin],
      [waypointService, service('httpbin', '10.96.0.105')],
    );
    expect(brief(decision)).toBe('hbone direct to 10.2.0.9 15008 for 10.2.0.9:8080');
  });

  it('addressed by the waypoint: direct', () => {
    expect(brief(decide('10.2.0.9:80', [httpbin], [waypointService], { source: waypoint }))).toBe(
      'hbone direct to 10.2.0.9 15008 for 10.2.0.9:80',
    );
  });

  it.each([
    ["the waypoint's identity at another address", { workloadIps: ['10.5.0.6'], uid: 'impostor' }],
    ["the waypoint's address with another identity", { serviceAccount: 'sleep', uid: 'impostor', services: {} }],
  ])('addressed with %s: through the waypoint', (_what, difference) => {
    const source = { ...waypoint, services: {}, ...difference };
    expect(brief(decide('10.2.0.9:80', [waypoint, httpbin], [waypointService], { source }))).toBe(
      'hbone workload-waypoint to 10.5.0.5 15008 for 10.2.0.9:80',
    );
  });

  it("addressed with the waypoint's identity and address, but on another network than the waypoint", () => {
    const far = { ...waypoint, network: 'west', networkGateway: gateway('west/1.1.1.1') };
    const source = { ...waypoint, uid: 'impostor', services: {} };
    expect(decide('10.2.0.9:80', [far, httpbin], [waypointService], { source })).toMatchObject({
      cause: 'unsupported',
    });
  });

  it('that nobody knows: the connection fails', () => {
    expect(brief(decide('10.2.0.9:80', [httpbin]))).toBe(
      `reject unknown-waypoint: unknown waypoint: default/${hostnameOf('waypoint')}`,
    );
  });
});

describe('an endpoint on another network (facts section 2.3 step 4)', () => {
  const remote = (more: Partial<Workload> = {}) =>
    workload('remote', '10.2.0.9', { network: 'west', services: backing('web'), ...more });

  it('behind a gateway: two tunnels, not supported yet, and said so', () => {
    const behind = remote({ workloadIps: [], networkGateway: gateway('west/1.1.1.1', 15443) });
    const decision = decide('10.96.0.1:80', [behind], [service('web', '10.96.0.1')]);
    expect(decision).toMatchObject({ kind: 'reject', cause: 'unsupported', destinationWorkload: behind });
    expect(brief(decision)).toContain('on network "west": double HBONE is not supported yet');
  });

  it('without a gateway fails', () => {
    expect(decide('10.96.0.1:80', [remote()], [service('web', '10.96.0.1')])).toMatchObject({
      kind: 'reject',
      cause: 'unknown-network-gateway',
      reason: expect.stringContaining('unknown network gateway: '),
    });
  });

  it('gives way to one on our own, where the service prefers networks', () => {
    const local = workload('local', '10.1.0.9', { services: backing('web') });
    const loadBalancer = { routingPreferences: ['Network'], mode: 'Failover', healthPolicy: 'OnlyHealthy' } as const;
    const web = service('web', '10.96.0.1', { loadBalancer });
    expect(brief(decide('10.96.0.1:80', [remote({ networkGateway: gateway('west/1.1.1.1') }), local], [web]))).toBe(
      'hbone direct to 10.1.0.9 15008 for 10.1.0.9:8080',
    );
  });

  it("the proxy's own NETWORK is where the waypoint question is asked, the source's network where the upstream is", () => {
    const web = service('web', '10.96.0.1', { vips: ['west/10.96.0.1'], waypoint: gateway('west/10.2.0.9') });
    const source = { ...sleep, network: 'west' };
    expect(brief(decide('10.96.0.1:80', [remote()], [web], { source }))).toBe(
      'hbone service-waypoint to 10.2.0.9 15008 for 10.96.0.1:80',
    );
    expect(brief(decide('10.96.0.1:80', [remote()], [web], { source, network: 'east' }))).toBe(
      'hbone direct to 10.2.0.9 15008 for 10.2.0.9:8080',
    );
  });
});
