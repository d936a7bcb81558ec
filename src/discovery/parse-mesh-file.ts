import { quoteInput } from '../ip/address.ts';
import { formatIp, tryParseCidr, tryParseIp } from '../ip/index.ts';
import { MeshFileError } from './errors.ts';
import type {
  Endpoint,
  GatewayAddress,
  HealthStatus,
  LoadBalancer,
  Locality,
  MeshSnapshot,
  PortMap,
  Service,
  Workload,
} from './model.ts';
import {
  canonicalNetworkAddress,
  formatNamespacedHostname,
  isNamespacedHostname,
  parseDestination,
} from './network-address.ts';
import { parsePolicy } from './parse-policy.ts';
import { openYaml, type YamlCursor } from './yaml-cursor.ts';

export interface MeshFileLimits {
  /** Most workloads, services and policies together. Default 100,000. */
  readonly maxEntries?: number;
  /** Most YAML values read, those behind an alias once per use, so that a file cannot unfold into more than memory holds. Default 4,000,000. */
  readonly maxValues?: number;
}

/**
 * Reads a mesh in the form of facts section 4.10: YAML, camelCase, unknown keys refused. What the file leaves out is empty,
 * not what a control plane would have put there. A workload without a `uid` gets one made of network, namespace and name.
 *
 * @param path - for error messages only
 * @throws {@link MeshFileError} ERR_DISCOVERY_FILE_CONTENT, ERR_DISCOVERY_FILE_LIMIT, with line, column and field path
 */
export function parseMeshFile(path: string, text: string, limits: MeshFileLimits = {}): MeshSnapshot {
  try {
    return readMesh(
      openYaml(path, text, { maxValues: limits.maxValues ?? 4_000_000 }),
      limits.maxEntries ?? 100_000,
      path,
    );
  } catch (cause) {
    // An alias can stand for a nesting that was parsed, yet is too deep for what walks it.
    if (!(cause instanceof RangeError)) throw cause;
    throw new MeshFileError({ code: 'ERR_DISCOVERY_FILE_CONTENT', path, message: 'nested too deeply', cause });
  }
}

function readMesh(cursor: YamlCursor, maxEntries: number, path: string): MeshSnapshot {
  const top = cursor.mapping(['workloads', 'services', 'policies']);
  let entries = 0;
  const counted =
    <T>(read: (item: YamlCursor) => T) =>
    (item: YamlCursor): T => {
      if (++entries <= maxEntries) return read(item);
      throw new MeshFileError({
        code: 'ERR_DISCOVERY_FILE_LIMIT',
        path,
        field: item.field,
        message: `more than ${maxEntries} workloads, services and policies`,
      });
    };
  const uids = new Set<string>();
  const hostnames = new Set<string>();
  const policies = new Set<string>();
  return {
    workloads:
      top.given('workloads')?.list(counted((item) => once(item, uids, parseWorkload(item), (w) => w.uid))) ?? [],
    services:
      top
        .given('services')
        ?.list(
          counted((item) =>
            once(item, hostnames, parseService(item), (s) => formatNamespacedHostname(s.namespace, s.hostname)),
          ),
        ) ?? [],
    policies:
      top
        .given('policies')
        ?.list(counted((item) => once(item, policies, parsePolicy(item), (p) => `${p.namespace}/${p.name}`))) ?? [],
  };
}

function once<T>(item: YamlCursor, seen: Set<string>, value: T, keyOf: (value: T) => string): T {
  const key = keyOf(value);
  if (seen.has(key)) item.fail(`a second one of ${quoteInput(key)}`);
  seen.add(key);
  return value;
}

function parseWorkload(cursor: YamlCursor): Workload {
  const map = cursor.mapping([
    'workloadIps',
    'namespace',
    'services',
    'uid',
    'name',
    'network',
    'trustDomain',
    'serviceAccount',
    'workloadName',
    'workloadType',
    'canonicalName',
    'canonicalRevision',
    'hostname',
    'node',
    'protocol',
    'networkMode',
    'waypoint',
    'networkGateway',
    'applicationTunnel',
    'authorizationPolicies',
    'status',
    'clusterId',
    'locality',
    'capacity',
    'nativeTunnel',
  ]);
  const text = (key: Parameters<typeof map.optional>[0]) => map.optional(key, readText, '');
  const workloadIps = map.required('workloadIps').list(readIp);
  const namespace = map.required('namespace').nonEmptyText();
  const network = text('network');
  const name = text('name');
  const waypoint = map.optional('waypoint', readGateway);
  const networkGateway = map.optional('networkGateway', readGateway);
  const applicationTunnel = map.optional('applicationTunnel', (value) => {
    const tunnel = value.mapping(['protocol', 'port']);
    const protocol = tunnel.required('protocol').oneOf(['NONE', 'PROXY'] as const);
    const port = tunnel.optional('port', readPort);
    return port === undefined ? { protocol } : { protocol, port };
  });
  return {
    uid: text('uid') || `local/${network}/${namespace}/${name || (workloadIps[0] ?? '')}`,
    name,
    namespace,
    workloadIps,
    network,
    protocol: map.optional('protocol', (value) => value.oneOf(['HBONE', 'TCP']), 'TCP'),
    networkMode: map.optional('networkMode', (value) => value.oneOf(['Standard', 'HostNetwork']), 'Standard'),
    trustDomain: text('trustDomain'),
    serviceAccount: text('serviceAccount'),
    workloadName: text('workloadName'),
    workloadType: text('workloadType'),
    canonicalName: text('canonicalName'),
    canonicalRevision: text('canonicalRevision'),
    hostname: text('hostname'),
    node: text('node'),
    clusterId: text('clusterId'),
    status: map.optional('status', readStatus, 'Healthy'),
    locality: map.optional('locality', readLocality, { region: '', zone: '', subzone: '' }),
    capacity: map.optional('capacity', readUint32, 1),
    nativeTunnel: map.optional('nativeTunnel', (value) => value.boolean(), false),
    authorizationPolicies: map.optional('authorizationPolicies', (value) => value.list(readText), []),
    services: Object.fromEntries(
      map
        .required('services')
        .entries()
        .map(({ key, value }) => {
          if (!isNamespacedHostname(key)) value.failAtKey(`the key ${quoteInput(key)} is no namespace/hostname`);
          return [key, readPortMap(value)];
        }),
    ),
    ...(waypoint && { waypoint }),
    ...(networkGateway && { networkGateway }),
    ...(applicationTunnel && { applicationTunnel }),
  };
}

function parseService(cursor: YamlCursor): Service {
  const map = cursor.mapping([
    'name',
    'namespace',
    'hostname',
    'vips',
    'cidrVips',
    'ports',
    'endpoints',
    'subjectAltNames',
    'waypoint',
    'weightedWaypoints',
    'loadBalancer',
    'ipFamilies',
    'canonical',
    'visibility',
  ]);
  const waypoint = map.optional('waypoint', readGateway);
  const loadBalancer = map.optional('loadBalancer', readLoadBalancer);
  const ipFamilies = map.optional('ipFamilies', (value) => value.oneOf(['Dual', 'IPv4', 'IPv6'] as const));
  const namespace = map.required('namespace').nonEmptyText();
  const hostname = map.required('hostname').nonEmptyText();
  if (!isNamespacedHostname(formatNamespacedHostname(namespace, hostname))) {
    map.required('hostname').fail('namespace and hostname must not contain a slash');
  }
  return {
    name: map.required('name').nonEmptyText(),
    namespace,
    hostname,
    vips: map.required('vips').list(readNetworkAddress),
    cidrVips: map.optional('cidrVips', (value) => value.list(readCidrVip), []),
    ports: readPortMap(map.required('ports')),
    endpoints: map.optional('endpoints', readEndpoints, {}),
    subjectAltNames: map.optional('subjectAltNames', (value) => value.list(readText), []),
    weightedWaypoints: map.optional(
      'weightedWaypoints',
      (value) =>
        value.list((item) => {
          const weighted = item.mapping(['destination', 'weight']);
          return {
            destination: readGateway(weighted.required('destination')),
            weight: readUint32(weighted.required('weight')),
          };
        }),
      [],
    ),
    canonical: map.optional('canonical', (value) => value.boolean(), false),
    visibility: map.optional('visibility', (value) => value.oneOf(['Public', 'Namespace']), 'Public'),
    ...(waypoint && { waypoint }),
    ...(loadBalancer && { loadBalancer }),
    ...(ipFamilies && { ipFamilies }),
  };
}

function readLoadBalancer(cursor: YamlCursor): LoadBalancer {
  const map = cursor.mapping(['routingPreferences', 'mode', 'healthPolicy']);
  return {
    routingPreferences: map.optional(
      'routingPreferences',
      (value) => value.list((item) => item.oneOf(['Region', 'Zone', 'Subzone', 'Node', 'Cluster', 'Network'] as const)),
      [],
    ),
    mode: map.required('mode').oneOf(['Standard', 'Strict', 'Failover', 'Passthrough']),
    healthPolicy: map.optional('healthPolicy', (value) => value.oneOf(['OnlyHealthy', 'AllowAll']), 'OnlyHealthy'),
  };
}

function readEndpoints(cursor: YamlCursor): Record<string, Endpoint> {
  return Object.fromEntries(
    cursor.entries().map(({ key, value }) => {
      const map = value.mapping(['workloadUid', 'port', 'status']);
      const workloadUid = map.optional('workloadUid', (uid) => uid.nonEmptyText(), key);
      if (workloadUid !== key)
        map.required('workloadUid').fail(`differs from the key ${quoteInput(key)} it stands under`);
      const port = map.optional('port', readPortMap, {});
      return [key, { workloadUid, port, status: map.optional('status', readStatus, 'Healthy') }];
    }),
  );
}

function readGateway(cursor: YamlCursor): GatewayAddress {
  const map = cursor.mapping(['destination', 'hboneMtlsPort']);
  const destination = map.required('destination');
  const parts = parseDestination(destination.text());
  if (parts === undefined)
    return destination.fail(`${quoteInput(destination.text())} is neither network/ip nor namespace/hostname`);
  return {
    destination: parts.kind === 'address' ? `${parts.network}/${parts.ip}` : destination.text(),
    hboneMtlsPort: readPort(map.required('hboneMtlsPort')),
  };
}

function readCidrVip(cursor: YamlCursor): { network: string; cidr: string } {
  const map = cursor.mapping(['network', 'cidr']);
  const cidr = map.required('cidr');
  const parsed = tryParseCidr(cidr.text());
  return {
    network: map.optional('network', readText, ''),
    cidr: parsed?.text ?? cidr.fail(`${quoteInput(cidr.text())} is no address/prefix`),
  };
}

function readLocality(cursor: YamlCursor): Locality {
  const map = cursor.mapping(['region', 'zone', 'subzone']);
  return {
    region: map.optional('region', readText, ''),
    zone: map.optional('zone', readText, ''),
    subzone: map.optional('subzone', readText, ''),
  };
}

function readPortMap(cursor: YamlCursor): PortMap {
  return Object.fromEntries(
    cursor.entries().map(({ key, value }) => {
      if (!/^[1-9]\d{0,4}$/.test(key) || Number(key) > 65535) value.failAtKey(`the key ${quoteInput(key)} is no port`);
      return [Number(key), value.integer(0, 65535)];
    }),
  );
}

function readNetworkAddress(cursor: YamlCursor): string {
  const text = cursor.text();
  return (
    canonicalNetworkAddress(text) ?? cursor.fail(`${quoteInput(text)} is no network/ip (the default network: "/ip")`)
  );
}

function readIp(cursor: YamlCursor): string {
  const text = cursor.text();
  const ip = tryParseIp(text);
  return ip === undefined ? cursor.fail(`${quoteInput(text)} is no IP address`) : formatIp(ip);
}

function readStatus(cursor: YamlCursor): HealthStatus {
  return cursor.oneOf(['Healthy', 'Unhealthy']);
}

function readPort(cursor: YamlCursor): number {
  return cursor.integer(1, 65535);
}

function readUint32(cursor: YamlCursor): number {
  return cursor.integer(0, 0xffff_ffff);
}

function readText(cursor: YamlCursor): string {
  return cursor.text();
}
