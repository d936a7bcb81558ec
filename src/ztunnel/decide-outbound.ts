import {
  type GatewayAddress,
  type MeshState,
  type Random,
  resolveGateway,
  type Service,
  selectEndpoint,
  someGatewayWorkload,
  type Upstream,
  type Workload,
  waypointOf,
  workloadIdentity,
} from '../discovery/index.ts';
import { type SpiffeId, tryParseSpiffeId } from '../identity/spiffe-id.ts';
import { canonicalIp, formatSocketAddress, type SocketAddress } from '../ip/index.ts';
import { ILLEGAL_PORTS, INBOUND_HBONE_PORT, SELF_CALL } from './illegal-ports.ts';

/** What is known of the other end, in every decision that has one. */
interface Destination {
  /** Who answers the dialled address: the destination itself, or the waypoint before it. */
  readonly destinationWorkload?: Workload;
  /** The service that was addressed, or whose endpoint was picked. */
  readonly destinationService?: Service;
}

/** Open a CONNECT stream on a tunnel to `destinationAddress`. */
export interface HboneDecision extends Destination {
  readonly kind: 'hbone';
  /** The next hop: a workload's IP and its HBONE port. */
  readonly destinationAddress: SocketAddress;
  /** `:authority` of the CONNECT: `ip:port`, IPv6 in brackets (facts section 1.2). */
  readonly authority: string;
  /** `authority` as an address: what the application is to be connected to. */
  readonly hboneAddress: SocketAddress;
  readonly destinationWorkload: Workload;
  /** One of these the peer's certificate must carry (facts section 1.6). Never empty. */
  readonly expectedIdentities: readonly SpiffeId[];
  readonly via: 'direct' | 'service-waypoint' | 'workload-waypoint';
  /** True when the next hop runs on the source's node, so that it can be handed over inside the proxy. */
  readonly sameNode: boolean;
}

/** Relay plain TCP to `address`. */
export interface TcpDecision extends Destination {
  readonly kind: 'tcp';
  readonly address: SocketAddress;
  /** `passthrough`: nobody the mesh knows; `direct`: a workload that takes plain TCP. */
  readonly via: 'passthrough' | 'direct';
  readonly sameNode: boolean;
}

/** Drop the connection. */
export interface OutboundRejection extends Destination {
  readonly kind: 'reject';
  readonly cause:
    | 'self-call'
    | 'unknown-waypoint'
    | 'no-healthy-upstream'
    | 'unknown-network-gateway'
    | 'no-identity'
    | 'unsupported';
  /** In the words of facts section 11.5. */
  readonly reason: string;
}

export type OutboundDecision = HboneDecision | TcpDecision | OutboundRejection;

export interface DecideOutboundOptions {
  /** The proxy's NETWORK. Default: the source's. */
  readonly network?: string;
  /** Ports that are refused on loopback. Default {@link ILLEGAL_PORTS}. */
  readonly illegalPorts?: ReadonlySet<number>;
  /** The port that workloads take HBONE on. Default {@link INBOUND_HBONE_PORT}. */
  readonly hbonePort?: number;
}

/**
 * Where a connection that `source` opened to `destination` goes: the algorithm of facts section 2.3, in its order. Pure but
 * for `random`, asked for weighted waypoints and endpoints. Paths that take two tunnels (another network) are rejected with
 * cause `unsupported`.
 *
 * @param destination - the original destination, as the application dialled it
 * @throws `InvalidIpError` ERR_IP_ADDRESS when `destination.ip` is no address
 */
export function decideOutbound(
  state: MeshState,
  source: Workload,
  destination: SocketAddress,
  random: Random,
  options: DecideOutboundOptions = {},
): OutboundDecision {
  const network = options.network ?? source.network;
  const target: SocketAddress = { ip: canonicalIp(destination.ip, 'destination.ip'), port: destination.port };
  const query: Query = { state, source, target, random };

  if (isLoopback(target.ip) && (options.illegalPorts ?? ILLEGAL_PORTS).has(target.port))
    return reject('self-call', SELF_CALL);

  const addressedWorkload = state.workloadAt(network, target.ip);
  const addressedService = addressedWorkload ? undefined : state.serviceAt(network, target.ip, source.namespace);
  if (addressedService !== undefined) {
    const waypoint = waypointOf(addressedService, random);
    if (waypoint !== undefined) return throughWaypoint(query, 'service-waypoint', waypoint, addressedService);
  }

  const upstream = findUpstream(query);
  if (upstream === undefined) return withoutUpstream(target, addressedService);
  if (upstream.workload.network !== source.network) {
    return acrossNetworks(upstream, parties(upstream.workload, upstream.service));
  }

  const waypoint = upstream.workload.waypoint;
  if (waypoint !== undefined && addressedService === undefined && !comesFromWaypoint(state, source, waypoint)) {
    return throughWaypoint(query, 'workload-waypoint', waypoint, upstream.service);
  }
  return direct(query, upstream, options.hbonePort ?? INBOUND_HBONE_PORT);
}

/** One question, as every step of the answer needs it. */
interface Query {
  readonly state: MeshState;
  readonly source: Workload;
  readonly target: SocketAddress;
  readonly random: Random;
}

/** Facts section 2.3 step 3, the end of it: what the mesh does not know is none of its business, unless it is a service. */
function withoutUpstream(target: SocketAddress, service: Service | undefined): OutboundDecision {
  if (service === undefined) return { kind: 'tcp', address: target, via: 'passthrough', sameNode: false };
  if (service.loadBalancer?.mode === 'Passthrough') {
    return { kind: 'tcp', address: target, via: 'passthrough', sameNode: false, destinationService: service };
  }
  const reason = `no healthy upstream: ${formatSocketAddress(target.ip, target.port)}`;
  return reject('no-healthy-upstream', reason, { destinationService: service });
}

/** Facts section 2.3 step 6. */
function direct({ source }: Query, { workload, service, ip, port }: Upstream, hbonePort: number): OutboundDecision {
  if (ip === undefined) {
    const reason = `no healthy upstream: ${workload.uid} is known by host name only, and resolving it is not supported yet`;
    return reject('unsupported', reason, parties(workload, service));
  }
  const address: SocketAddress = { ip, port };
  if (workload.protocol === 'TCP') {
    return {
      kind: 'tcp',
      address,
      via: 'direct',
      sameNode: onSameNode(source, workload),
      ...parties(workload, service),
    };
  }
  return tunnel(source, 'direct', { workload, ip, port: hbonePort, service }, address, service);
}

/** The tunnel ends at the gateway, and the gateway is told what the application dialled. */
function throughWaypoint(
  { state, source, target, random }: Query,
  via: 'service-waypoint' | 'workload-waypoint',
  gateway: GatewayAddress,
  service: Service | undefined,
): OutboundDecision {
  const next = resolveGateway(state, gateway, source, random);
  if (next === undefined) {
    return reject('unknown-waypoint', `unknown waypoint: ${gateway.destination}`, parties(undefined, service));
  }
  if (next.workload.network !== source.network) return acrossNetworks(next, parties(next.workload, service));
  if (next.ip === undefined) {
    const reason = `unknown waypoint: ${gateway.destination} is known by host name only, and resolving it is not supported yet`;
    return reject('unsupported', reason, parties(next.workload, service));
  }
  return tunnel(
    source,
    via,
    { workload: next.workload, ip: next.ip, port: next.port, service: next.service },
    target,
    service,
  );
}

/** Where the tunnel's TCP connection goes. Its `service` is the one whose alternate names the peer may present. */
interface NextHop {
  readonly workload: Workload;
  readonly ip: string;
  readonly port: number;
  readonly service: Service | undefined;
}

function tunnel(
  source: Workload,
  via: HboneDecision['via'],
  next: NextHop,
  hboneAddress: SocketAddress,
  service: Service | undefined,
): OutboundDecision {
  const { workload } = next;
  const expectedIdentities = identitiesOf(workload, next.service);
  if (expectedIdentities.length === 0) {
    const reason = `workload ${workload.uid} has no SPIFFE identity that a certificate could show`;
    return reject('no-identity', reason, parties(workload, service));
  }
  return {
    kind: 'hbone',
    destinationAddress: { ip: next.ip, port: next.port },
    authority: formatSocketAddress(hboneAddress.ip, hboneAddress.port),
    hboneAddress,
    expectedIdentities,
    via,
    sameNode: onSameNode(source, workload),
    destinationWorkload: workload,
    ...(service && { destinationService: service }),
  };
}

/** Facts section 2.3 step 3: the service first, then the workload; the other way round from the address lookup. */
function findUpstream({ state, source, target: { ip, port }, random }: Query): Upstream | undefined {
  const service = state.serviceAt(source.network, ip, source.namespace);
  if (service !== undefined) {
    if (service.loadBalancer?.mode === 'Passthrough') return undefined;
    return selectEndpoint(state, { service, source, port, destinationIp: ip, random });
  }
  const workload = state.workloadAt(source.network, ip);
  return workload && { workload, ip, port };
}

/** Facts section 2.5, as far as it goes today: says what would be needed. */
function acrossNetworks({ workload, service }: Upstream, known: Destination): OutboundRejection {
  if (service !== undefined && workload.networkGateway === undefined) {
    return reject('unknown-network-gateway', `unknown network gateway: ${workload.uid} has none`, known);
  }
  const why =
    service === undefined ? 'only a service can be reached on another network' : 'double HBONE is not supported yet';
  return reject('unsupported', `${workload.uid} is on network "${workload.network}": ${why}`, known);
}

/** Facts section 2.3 step 5: the source is the destination's own waypoint, by identity and by address. */
function comesFromWaypoint(state: MeshState, source: Workload, waypoint: GatewayAddress): boolean {
  const identity = workloadIdentity(source);
  if (identity === undefined) return false;
  return someGatewayWorkload(
    state,
    waypoint,
    source.namespace,
    (member) =>
      member.network === source.network &&
      workloadIdentity(member) === identity &&
      member.workloadIps.some((ip) => source.workloadIps.includes(ip)),
  );
}

function identitiesOf(workload: Workload, service: Service | undefined): SpiffeId[] {
  const identities: SpiffeId[] = [];
  for (const name of service?.subjectAltNames ?? []) {
    const parsed = tryParseSpiffeId(name);
    if (parsed !== undefined && !identities.includes(parsed.id)) identities.push(parsed.id);
  }
  const own = workloadIdentity(workload);
  if (own !== undefined && !identities.includes(own)) identities.push(own);
  return identities;
}

function parties(workload: Workload | undefined, service: Service | undefined): Destination {
  return { ...(workload && { destinationWorkload: workload }), ...(service && { destinationService: service }) };
}

function onSameNode(source: Workload, workload: Workload): boolean {
  return source.node !== '' && source.node === workload.node && source.clusterId === workload.clusterId;
}

function isLoopback(ip: string): boolean {
  return ip === '::1' || ip.startsWith('127.');
}

function reject(cause: OutboundRejection['cause'], reason: string, known?: Destination): OutboundRejection {
  return { kind: 'reject', cause, reason, ...known };
}
