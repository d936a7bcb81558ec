import { describe, expect, it } from 'vitest';
import { defineService, defineWorkload, MeshState, type Service, type Workload } from '../../src/discovery/index.ts';
import {
  decideInbound,
  decideInboundPlaintext,
  type InboundDecision,
  type InboundRequest,
} from '../../src/ztunnel/decide-inbound.ts';

const key = (name: string) => `default/${name}.default.svc.cluster.local`;
const host = (name: string) => `${name}.default.svc.cluster.local`;
const workload = (name: string, ip: string, more: Partial<Workload> = {}) =>
  defineWorkload({ name, namespace: 'default', workloadIps: [ip], protocol: 'HBONE', ...more });
const service = (name: string, vip: string, more: Partial<Service> = {}) =>
  defineService({ name, namespace: 'default', vips: vip === '' ? [] : [`/${vip}`], ports: { 80: 8080 }, ...more });

const sleep = workload('sleep', '10.1.0.5');
const httpbin = workload('httpbin', '10.2.0.9', { services: { [key('httpbin')]: { 80: 9090 }, [key('other')]: {} } });
const services = [service('httpbin', '10.96.0.105'), service('other', '10.96.0.106', { ports: { 81: 8181 } })];

function decide(
  authority: string,
  {
    local = httpbin as Workload,
    others = [] as readonly Workload[],
    more = [] as readonly Service[],
    request = {} as Partial<InboundRequest>,
    destinationIp = undefined as string | undefined,
    sourceIp = '10.1.0.5',
  } = {},
): InboundDecision {
  const state = new MeshState({ workloads: [sleep, local, ...others], services: [...services, ...more], policies: [] });
  return decideInbound(
    state,
    local,
    { sourceIp, destinationIp: destinationIp ?? local.workloadIps[0]! },
    { method: 'CONNECT', authority, ...request },
  );
}
const brief = (decision: InboundDecision) =>
  decision.kind === 'accept'
    ? `${decision.target.ip} ${decision.target.port}`
    : `${decision.status} ${decision.reason}`;

describe('what is no CONNECT (facts section 1.3)', () => {
  it.each(['GET', 'connect', ''])('method %j is 400', (method) => {
    expect(brief(decide('10.2.0.9:80', { request: { method } }))).toBe(
      `400 method is ${JSON.stringify(method)}, not CONNECT`,
    );
  });

  it.each([
    '',
    '10.2.0.9',
    'httpbin',
    'httpbin:',
    ':80',
    'httpbin:http',
    '10.2.0.9:65536',
    '10.2.0.9:0',
    'user@httpbin:80',
    '[httpbin]:80',
    '10.2.0.300:80',
    'a b:80',
    'http://a:80',
  ])('authority %j is 400', (authority) => {
    expect(brief(decide(authority))).toBe(`400 invalid authority: ${JSON.stringify(authority)}`);
  });

  it('a local workload that is not known is 503', () => {
    const decision = decideInbound(
      new MeshState(),
      undefined,
      { sourceIp: '10.1.0.5', destinationIp: '10.2.0.9' },
      { method: 'CONNECT', authority: '10.2.0.9:80' },
    );
    expect(brief(decision)).toBe('503 the local workload is not known');
  });
});

describe('step 1: which authority a peer may name (facts section 2.6)', () => {
  const waypointFor = (destination: string) => ({ waypoint: { destination, hboneMtlsPort: 15008 } });
  const waypoint = workload('waypoint', '10.5.0.5', { services: { [key('waypoint')]: {} } });
  const waypointService = service('waypoint', '10.96.0.5', { ports: { 15008: 15008 } });

  it('the address that was connected to', () => {
    expect(decide('10.2.0.9:80')).toMatchObject({
      kind: 'accept',
      target: { ip: '10.2.0.9', port: 80 },
      sourceWorkload: sleep,
    });
    expect(brief(decide('[::ffff:10.2.0.9]:80', { destinationIp: '::ffff:10.2.0.9' }))).toBe('10.2.0.9 80');
    const six = workload('six', '2001:db8::9');
    expect(brief(decide('[2001:DB8:0::9]:80', { local: six }))).toBe('2001:db8::9 80');
  });

  it('no other address (hbone_ip_mismatch)', () => {
    expect(brief(decide('10.2.0.10:80'))).toBe('400 ip mismatch: 10.2.0.9 != 10.2.0.10');
    expect(brief(decide('10.96.0.105:80'))).toBe('400 ip mismatch: 10.2.0.9 != 10.96.0.105');
    expect(brief(decide('10.2.0.10:80', { others: [workload('neighbour', '10.2.0.10')] }))).toBe(
      '400 ip mismatch: 10.2.0.9 != 10.2.0.10',
    );
  });

  it.each([
    ['by host name', key('waypoint')],
    ['by VIP', '/10.96.0.5'],
    ['by address', '/10.5.0.5'],
  ])('the address of a service whose waypoint we are, %s', (_what, destination) => {
    const served = service('served', '10.96.0.200', waypointFor(destination));
    const decision = decide('10.96.0.200:80', { local: waypoint, more: [served, waypointService] });
    expect(brief(decision)).toBe('10.5.0.5 80');
  });

  it('the address of a service one of whose weighted waypoints we are', () => {
    const weightedWaypoints = [{ destination: { destination: '/10.5.0.5', hboneMtlsPort: 15008 }, weight: 1 }];
    const served = service('served', '10.96.0.200', { weightedWaypoints });
    expect(brief(decide('10.96.0.200:80', { local: waypoint, more: [served] }))).toBe('10.5.0.5 80');
  });

  it('the address of a workload whose waypoint we are', () => {
    const served = workload('served', '10.2.0.20', waypointFor(key('waypoint')));
    expect(brief(decide('10.2.0.20:80', { local: waypoint, others: [served], more: [waypointService] }))).toBe(
      '10.5.0.5 80',
    );
  });

  it('us as an endpoint of the waypoint service, whatever our address; us at the address of the waypoint, whatever our uid', () => {
    const byService = workload('served', '10.2.0.20', waypointFor(key('waypoint')));
    const hostNetwork = { ...waypoint, workloadIps: [] };
    const options = { local: hostNetwork, destinationIp: '192.0.2.7', more: [waypointService] };
    expect(brief(decide('10.2.0.20:80', { ...options, others: [byService] }))).toBe('192.0.2.7 80');
    const byAddress = workload('served', '10.2.0.20', waypointFor('/10.5.0.5'));
    const twin = { ...waypoint, uid: 'entry', protocol: 'TCP' } as const;
    expect(brief(decide('10.2.0.20:80', { local: twin, others: [byAddress, waypoint] }))).toBe('10.5.0.5 80');
  });

  it('but not the address of one that has another waypoint', () => {
    const served = workload('served', '10.2.0.20', waypointFor('/10.5.0.6'));
    const others = [served, workload('waypoint2', '10.5.0.6')];
    expect(brief(decide('10.2.0.20:80', { local: waypoint, others }))).toBe('400 ip mismatch: 10.5.0.5 != 10.2.0.20');
  });

  it('any address, where an application tunnel takes it', () => {
    const local = workload('sandwich', '10.5.0.5', { applicationTunnel: { protocol: 'NONE' } });
    expect(brief(decide('10.96.0.200:80', { local }))).toBe('10.5.0.5 80');
  });
});

describe('step 2: what is dialled (facts section 2.6)', () => {
  it("a host name: the endpoint's port before the service's (test_svc_hostname_port)", () => {
    expect(brief(decide(`${host('httpbin')}:80`))).toBe('10.2.0.9 9090');
    expect(brief(decide(`${host('other')}:81`))).toBe('10.2.0.9 8181');
    expect(decide(`${host('httpbin')}:80`)).toMatchObject({ destinationService: services[0] });
  });

  it('a host name with a named target port: the endpoint says it (test_svc_hostname_named_port)', () => {
    const named = workload('named', '10.2.0.9', { services: { [key('named')]: { 80: 7070 } } });
    expect(
      brief(decide(`${host('named')}:80`, { local: named, more: [service('named', '', { ports: { 80: 0 } })] })),
    ).toBe('10.2.0.9 7070');
  });

  it('a host name without a port for it: 503', () => {
    expect(brief(decide(`${host('httpbin')}:443`))).toBe(`503 no port mapping for ${host('httpbin')}:443`);
    const named = workload('named', '10.2.0.9', { services: { [key('named')]: {} } });
    expect(
      brief(decide(`${host('named')}:80`, { local: named, more: [service('named', '', { ports: { 80: 0 } })] })),
    ).toBe(`503 no port mapping for ${host('named')}:80`);
  });

  it('a host name of a workload: the port as it stands', () => {
    const local = workload('vm', '10.2.0.9', { hostname: 'vm.example' });
    expect(brief(decide('vm.example:80', { local }))).toBe('10.2.0.9 80');
  });

  it('a host name that nobody has: 503', () => {
    expect(brief(decide('nobody.example:80'))).toBe('503 no service or workload for hostname: nobody.example');
  });

  it.each([15001, 15006, 15008])('port %d would be a call to ourselves: 503', (port) => {
    expect(brief(decide(`10.2.0.9:${port}`))).toBe('503 attempted recursive call to ourselves');
    const looping = workload('loop', '10.2.0.9', { services: { [key('httpbin')]: { 80: port } } });
    expect(brief(decide(`${host('httpbin')}:80`, { local: looping }))).toBe(
      '503 attempted recursive call to ourselves',
    );
  });

  describe('an application tunnel (facts section 1.12)', () => {
    const sandwich = (protocol: 'NONE' | 'PROXY', port?: number) =>
      workload('sandwich', '10.5.0.5', { applicationTunnel: port === undefined ? { protocol } : { protocol, port } });

    it('replaces the port, and announces the dialled address when it is PROXY', () => {
      expect(decide('10.96.0.105:80', { local: sandwich('PROXY', 15088) })).toMatchObject({
        target: { ip: '10.5.0.5', port: 15088 },
        proxyProtocol: { destination: { ip: '10.96.0.105', port: 80 } },
      });
      expect(decide('10.96.0.105:80', { local: sandwich('PROXY') })).toMatchObject({
        target: { ip: '10.5.0.5', port: 80 },
      });
      expect(decide('10.96.0.105:80', { local: sandwich('NONE', 15088) })).not.toHaveProperty('proxyProtocol');
    });

    it('announces a VIP for a host name: own network first, then IPv4', () => {
      const vips = ['west/10.0.0.1', '/2001:db8::1', '/10.96.0.1'];
      const local = sandwich('PROXY', 15088);
      const announced = (listed: readonly string[]) => {
        const decision = decide(`${host('many')}:80`, { local, more: [service('many', '', { vips: listed })] });
        return decision.kind === 'accept' ? decision.proxyProtocol?.destination : brief(decision);
      };
      expect(announced(vips)).toEqual({ ip: '10.96.0.1', port: 80 });
      expect(announced(vips.slice(0, 2))).toEqual({ ip: '2001:db8::1', port: 80 });
      expect(announced(vips.slice(0, 1))).toEqual({ ip: '10.0.0.1', port: 80 });
      expect(announced([])).toBe(`503 no service address for hostname: ${host('many')}:80`);
    });
  });
});

describe('who is named in the log', () => {
  const serviceOf = (decision: InboundDecision) =>
    decision.kind === 'accept' ? decision.destinationService?.name : 'rejected';

  it('the service the client names, among those the workload backs', () => {
    expect(serviceOf(decide('10.2.0.9:80', { request: { forwardedHost: host('other') } }))).toBe('other');
    const foreign = service('foreign', '10.96.0.107');
    expect(
      serviceOf(decide('10.2.0.9:80', { more: [foreign], request: { forwardedHost: host('foreign') } })),
    ).toBeUndefined();
  });

  it('else the one whose VIP is the authority', () => {
    const local = workload('sandwich', '10.5.0.5', {
      applicationTunnel: { protocol: 'NONE' },
      services: { [key('httpbin')]: { 80: 80 }, [key('other')]: { 81: 80 } },
    });
    expect(serviceOf(decide('10.96.0.106:80', { local }))).toBe('other');
    expect(serviceOf(decide('10.96.0.200:80', { local }))).toBeUndefined();
  });

  it('else the only service that leads to the port', () => {
    expect(serviceOf(decide('10.2.0.9:9090'))).toBe('httpbin');
    expect(serviceOf(decide('10.2.0.9:8181'))).toBe('other');
    expect(serviceOf(decide('10.2.0.9:1'))).toBeUndefined();
    const local = workload('two', '10.2.0.9', { services: { [key('a')]: {}, [key('b')]: {} } });
    expect(serviceOf(decide('10.2.0.9:8080', { local, more: [service('a', ''), service('b', '')] }))).toBeUndefined();
  });

  it("the source by its address, unless it came over another network's gateway", () => {
    const sourceOf = (forwardedNetwork?: string) => {
      const local = { ...httpbin, network: 'East' };
      const others = [{ ...sleep, uid: 'sleep-east', network: 'East' }];
      const decision = decide('10.2.0.9:80', { local, others, request: { forwardedNetwork } });
      return decision.kind === 'accept' && decision.sourceWorkload?.uid;
    };
    expect(sourceOf()).toBe('sleep-east');
    expect(sourceOf('EAST')).toBe('sleep-east');
    expect(sourceOf('west')).toBeUndefined();
    expect(sourceOf('')).toBeUndefined();
  });
});

describe('decideInboundPlaintext (facts section 2.7)', () => {
  const state = new MeshState({ workloads: [sleep, httpbin], services, policies: [] });
  const plaintext = (ip: string, port: number, sourceIp = '10.1.0.5') =>
    decideInboundPlaintext(state, httpbin, { sourceIp, destination: { ip, port } });

  it('goes where it was meant to go', () => {
    expect(plaintext('10.2.0.9', 8080)).toEqual({
      kind: 'accept',
      target: { ip: '10.2.0.9', port: 8080 },
      sourceWorkload: sleep,
    });
    expect(plaintext('::ffff:10.2.0.9', 8080, '192.0.2.1')).toEqual({
      kind: 'accept',
      target: { ip: '10.2.0.9', port: 8080 },
    });
  });

  it.each([15001, 15006, 15008])('port %d is refused', (port) => {
    expect(plaintext('10.2.0.9', port)).toEqual({ kind: 'reject', reason: 'attempted recursive call to ourselves' });
  });

  it('an address that is none is an error that names it', () => {
    expect(() => plaintext('', 80)).toThrow(expect.objectContaining({ field: 'connection.destination.ip' }));
    expect(() => plaintext('10.2.0.9', 80, 'x')).toThrow(expect.objectContaining({ field: 'connection.sourceIp' }));
  });
});
