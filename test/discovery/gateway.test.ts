import { describe, expect, it } from 'vitest';
import {
  defineService,
  defineWorkload,
  MeshState,
  resolveGateway,
  someGatewayWorkload,
  waypointOf,
} from '../../src/discovery/index.ts';

const gateway = (destination: string, hboneMtlsPort = 15008) => ({ destination, hboneMtlsPort });
const source = defineWorkload({ name: 'client', namespace: 'default', workloadIps: ['10.0.1.1'] });
const key = 'default/waypoint.default.svc.cluster.local';
const waypoint = defineWorkload({
  name: 'waypoint-1',
  namespace: 'default',
  workloadIps: ['10.0.0.5', 'fd00::5'],
  hostname: 'waypoint-1.example',
  services: { [key]: { 15008: 15009 } },
});
const service = defineService({
  name: 'waypoint',
  namespace: 'default',
  vips: ['/10.96.0.5'],
  ports: { 15008: 15008 },
});
const state = new MeshState({ workloads: [source, waypoint], services: [service], policies: [] });

describe('waypointOf (facts section 2.3 step 2)', () => {
  const weighted = (...weights: number[]) =>
    weights.map((weight, at) => ({ destination: gateway(`/10.0.0.${at}`), weight }));
  const pick = (chance: number, ...weights: number[]) =>
    waypointOf({ ...service, waypoint: gateway(key), weightedWaypoints: weighted(...weights) }, () => chance)
      ?.destination;

  it('samples the weighted ones by weight', () => {
    expect(pick(0.24, 1, 3)).toBe('/10.0.0.0');
    expect(pick(0.25, 1, 3)).toBe('/10.0.0.1');
    expect(pick(0.99, 1, 3)).toBe('/10.0.0.1');
    expect(pick(0, 0, 1)).toBe('/10.0.0.1');
  });

  it('falls back to the one waypoint when no weight can be used', () => {
    expect(pick(0.5, 0, 0)).toBe(key);
    expect(pick(0.5)).toBe(key);
    expect(waypointOf(service, () => 0)).toBeUndefined();
  });
});

describe('resolveGateway', () => {
  const resolve = (destination: string, port?: number) =>
    resolveGateway(state, gateway(destination, port), source, () => 0);

  it('by service host name and by VIP: the port goes through the endpoint map', () => {
    expect(resolve(key)).toEqual({ workload: waypoint, ip: '10.0.0.5', port: 15009, service });
    expect(resolve('/10.96.0.5')).toEqual({ workload: waypoint, ip: '10.0.0.5', port: 15009, service });
  });

  it('by workload address and by workload host name: the port as it stands', () => {
    expect(resolve('/fd00::5')).toEqual({ workload: waypoint, ip: 'fd00::5', port: 15008 });
    expect(resolve('default/waypoint-1.example', 15010)).toEqual({ workload: waypoint, ip: '10.0.0.5', port: 15010 });
  });

  it('gives nothing for what is not known, or has no endpoint for the port', () => {
    expect(resolve('/10.9.9.9')).toBeUndefined();
    expect(resolve('west/10.0.0.5')).toBeUndefined();
    expect(resolve('default/nobody.example')).toBeUndefined();
    expect(resolve(key, 15010)).toBeUndefined();
  });
});

describe('someGatewayWorkload', () => {
  it('looks at each workload behind the address', () => {
    for (const destination of [key, '/10.96.0.5', '/10.0.0.5', 'default/waypoint-1.example']) {
      expect(someGatewayWorkload(state, gateway(destination), undefined, (w) => w === waypoint)).toBe(true);
      expect(someGatewayWorkload(state, gateway(destination), undefined, (w) => w !== waypoint)).toBe(false);
    }
    expect(someGatewayWorkload(state, gateway('/10.9.9.9'), undefined, () => true)).toBe(false);
  });
});
