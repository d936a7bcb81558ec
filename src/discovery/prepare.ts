import { quoteInput } from '../ip/address.ts';
import { type Cidr, formatIp, tryParseCidr, tryParseIp } from '../ip/index.ts';
import { DiscoveryInputError } from './errors.ts';
import type { GatewayAddress, Service, WeightedGateway, Workload } from './model.ts';
import {
  canonicalNetworkAddress,
  formatNamespacedHostname,
  formatNetworkAddress,
  isNamespacedHostname,
  parseDestination,
} from './network-address.ts';

/** A service with what the indexes need of it. */
export interface PreparedService {
  readonly key: string;
  readonly service: Service;
  readonly cidrVips: readonly { readonly network: string; readonly cidr: Cidr }[];
}

/**
 * Checks what the store relies on and puts every address into canonical text; the object itself comes back when there was
 * nothing to change.
 * @param field - path of the workload in the caller's value
 * @throws {@link DiscoveryInputError} ERR_DISCOVERY_INVALID
 */
export function prepareWorkload(workload: Workload, field: string): Workload {
  if (workload.uid === '') invalid(`${field}.uid`, 'a workload needs a uid');
  let changed = false;
  const workloadIps = workload.workloadIps.map((text, at) => {
    const ip = tryParseIp(text);
    if (ip === undefined) return invalid(`${field}.workloadIps[${at}]`, `${quoteInput(text)} is no IP address`);
    const canonical = formatIp(ip);
    changed ||= canonical !== text;
    return canonical;
  });
  for (const key of Object.keys(workload.services)) {
    if (!isNamespacedHostname(key)) invalid(`${field}.services`, `${quoteInput(key)} is no namespace/hostname`);
  }
  const waypoint = gateway(workload.waypoint, `${field}.waypoint`);
  const networkGateway = gateway(workload.networkGateway, `${field}.networkGateway`);
  changed ||= waypoint !== workload.waypoint || networkGateway !== workload.networkGateway;
  if (!changed) return workload;
  return { ...workload, workloadIps, ...(waypoint && { waypoint }), ...(networkGateway && { networkGateway }) };
}

/** As {@link prepareWorkload}, for a service. @throws {@link DiscoveryInputError} ERR_DISCOVERY_INVALID */
export function prepareService(service: Service, field: string): PreparedService {
  const key = formatNamespacedHostname(service.namespace, service.hostname);
  if (!isNamespacedHostname(key)) invalid(`${field}.hostname`, `${quoteInput(key)} is no namespace/hostname`);
  let changed = false;
  const vips = service.vips.map((text, at) => {
    const canonical = canonicalNetworkAddress(text);
    if (canonical === undefined) return invalid(`${field}.vips[${at}]`, `${quoteInput(text)} is no network/ip`);
    changed ||= canonical !== text;
    return canonical;
  });
  const cidrVips = service.cidrVips.map((vip, at) => {
    const cidr = tryParseCidr(vip.cidr);
    if (cidr === undefined) return invalid(`${field}.cidrVips[${at}].cidr`, `${quoteInput(vip.cidr)} is no CIDR`);
    return { network: vip.network, cidr };
  });
  const waypoint = gateway(service.waypoint, `${field}.waypoint`);
  const weightedWaypoints = service.weightedWaypoints.map((weighted, at): WeightedGateway => {
    const destination = gateway(weighted.destination, `${field}.weightedWaypoints[${at}].destination`)!;
    changed ||= destination !== weighted.destination;
    return destination === weighted.destination ? weighted : { ...weighted, destination };
  });
  changed ||= waypoint !== service.waypoint;
  const prepared = changed ? { ...service, vips, weightedWaypoints, ...(waypoint && { waypoint }) } : service;
  return { key, service: prepared, cidrVips };
}

function gateway(address: GatewayAddress | undefined, field: string): GatewayAddress | undefined {
  if (address === undefined) return undefined;
  const parts = parseDestination(address.destination);
  if (parts === undefined) {
    return invalid(
      `${field}.destination`,
      `${quoteInput(address.destination)} is neither network/ip nor namespace/hostname`,
    );
  }
  if (parts.kind === 'hostname') return address;
  const destination = formatNetworkAddress(parts.network, parts.ip);
  return destination === address.destination ? address : { ...address, destination };
}

function invalid(field: string, message: string): never {
  throw new DiscoveryInputError({ code: 'ERR_DISCOVERY_INVALID', op: 'discovery.store', field, message });
}
