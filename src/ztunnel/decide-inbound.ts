import { type MeshState, type Service, someGatewayWorkload, type Workload } from '../discovery/index.ts';
import { type Authority, parseAuthority } from '../hbone/authority.ts';
import { canonicalIp, type SocketAddress } from '../ip/index.ts';
import { ILLEGAL_PORTS, SELF_CALL } from './illegal-ports.ts';

/** The tunnel's TCP connection: its peer, and the local pod it reached. */
export interface InboundConnection {
  readonly sourceIp: string;
  readonly destinationIp: string;
}

/** What is read of a CONNECT (facts section 1.3). `forwarded: for=` is not: any peer could lie in it. */
export interface InboundRequest {
  /** `:method`. */
  readonly method: string;
  /** `:authority`. */
  readonly authority: string;
  /** `host=` of the `forwarded` header (`parseForwarded` of `ambient-kit/hbone`): which service the client meant. */
  readonly forwardedHost?: string | undefined;
  /** `x-forwarded-network`: the request came over a gateway of that network, so that its source IP says nothing. */
  readonly forwardedNetwork?: string | undefined;
}

/** Check RBAC against `target`, dial it, and answer 200 once it is connected. */
export interface InboundAcceptance {
  readonly kind: 'accept';
  /** The local pod, and the port to dial there. RBAC judges this address. */
  readonly target: SocketAddress;
  /** For the log and the metrics: only a service that the local workload backs. */
  readonly destinationService?: Service;
  /** Who has the source's address, unless the request came over a gateway. For the log; no statement of identity. */
  readonly sourceWorkload?: Workload;
  /** Write a PROXY protocol v2 header first, with this destination (facts section 1.12). */
  readonly proxyProtocol?: { readonly destination: SocketAddress };
}

/** Answer with `status`, END_STREAM, no body. */
export interface InboundRejection {
  readonly kind: 'reject';
  readonly status: 400 | 503;
  /** In the words of facts section 11.5. */
  readonly reason: string;
}

export type InboundDecision = InboundAcceptance | InboundRejection;

export interface DecideInboundOptions {
  /** The proxy's NETWORK. Default: the local workload's. */
  readonly network?: string;
  /** Default {@link ILLEGAL_PORTS}. */
  readonly illegalPorts?: ReadonlySet<number>;
}

/**
 * What becomes of one CONNECT on port 15008: facts section 2.6, steps 1 and 2. Pure; RBAC is the caller's, against `target`.
 *
 * @param localWorkload - whose listener it is; undefined (not known yet) is a 503
 * @throws `InvalidIpError` ERR_IP_ADDRESS when an address of `connection` is none
 */
export function decideInbound(
  state: MeshState,
  localWorkload: Workload | undefined,
  connection: InboundConnection,
  request: InboundRequest,
  options: DecideInboundOptions = {},
): InboundDecision {
  if (request.method !== 'CONNECT')
    return reject(400, `method is ${JSON.stringify(request.method.slice(0, 32))}, not CONNECT`);
  const authority = parseAuthority(request.authority);
  if (authority === undefined)
    return reject(400, `invalid authority: ${JSON.stringify(request.authority.slice(0, 300))}`);
  if (localWorkload === undefined) return reject(503, 'the local workload is not known');
  const localIp = canonicalIp(connection.destinationIp, 'connection.destinationIp');
  const network = options.network ?? localWorkload.network;

  if (authority.kind === 'address' && !mayCarry(state, localWorkload, network, localIp, authority.ip)) {
    return reject(400, `ip mismatch: ${localIp} != ${authority.ip}`);
  }

  let port = authority.port;
  let service: Service | undefined;
  if (authority.kind === 'hostname') {
    service = namedService(state, localWorkload, authority.hostname);
    if (service !== undefined) {
      const mapped = servedPort(state, service, localWorkload, port);
      if (mapped === undefined) return reject(503, `no port mapping for ${authority.hostname}:${port}`);
      port = mapped;
    } else if (state.workloadByHostname(localWorkload.namespace, authority.hostname) === undefined) {
      return reject(503, `no service or workload for hostname: ${authority.hostname}`);
    }
  }
  const tunnel = localWorkload.applicationTunnel;
  port = tunnel?.port ?? port;
  if ((options.illegalPorts ?? ILLEGAL_PORTS).has(port)) return reject(503, SELF_CALL);

  let proxyProtocol: InboundAcceptance['proxyProtocol'];
  if (tunnel?.protocol === 'PROXY') {
    const destination = proxyDestination(authority, service, network);
    if (destination === undefined) return reject(503, `no service address for hostname: ${request.authority}`);
    proxyProtocol = { destination };
  }
  const sourceWorkload = fromGateway(request, network)
    ? undefined
    : state.workloadAt(network, canonicalIp(connection.sourceIp, 'connection.sourceIp'));
  const destinationService =
    authority.kind === 'hostname' ? service : meantService(state, localWorkload, authority, request.forwardedHost);
  return {
    kind: 'accept',
    target: { ip: localIp, port },
    ...(destinationService && { destinationService }),
    ...(sourceWorkload && { sourceWorkload }),
    ...(proxyProtocol && { proxyProtocol }),
  };
}

/** Facts section 2.6 step 1: which authority a peer may name to reach this pod. */
function mayCarry(state: MeshState, local: Workload, network: string, localIp: string, authorityIp: string): boolean {
  if (authorityIp === localIp || local.applicationTunnel !== undefined) return true;
  const workload = state.workloadAt(network, authorityIp);
  const service = workload === undefined ? state.serviceAt(network, authorityIp) : undefined;
  const waypoints = service?.weightedWaypoints.map((weighted) => weighted.destination) ?? [];
  const waypoint = (workload ?? service)?.waypoint;
  if (waypoint !== undefined) waypoints.push(waypoint);
  return waypoints.some((gateway) =>
    someGatewayWorkload(
      state,
      gateway,
      undefined,
      (member) => member.uid === local.uid || (member.network === network && member.workloadIps.includes(localIp)),
    ),
  );
}

function namedService(state: MeshState, local: Workload, hostname: string): Service | undefined {
  const backed = state.servicesOf(local).find((service) => service.hostname === hostname);
  return backed ?? state.serviceByHostname(hostname);
}

/** The port this workload serves a service port on: its own word, else the service's. */
function servedPort(state: MeshState, service: Service, local: Workload, port: number): number | undefined {
  const own = state.endpointsOf(service).get(local.uid)?.port[port];
  return own || service.ports[port] || undefined;
}

/** The service a connection to an address was meant for, as far as that can be told (facts section 1.3, `forwarded`). */
function meantService(
  state: MeshState,
  local: Workload,
  { ip, port }: SocketAddress,
  forwardedHost: string | undefined,
): Service | undefined {
  const backed = state.servicesOf(local);
  const named = forwardedHost === undefined ? undefined : backed.find((service) => service.hostname === forwardedHost);
  if (named !== undefined) return named;
  const suffix = `/${ip}`;
  const dialled = backed.find((service) => service.vips.some((vip) => vip.endsWith(suffix)));
  if (dialled !== undefined) return dialled;
  const serving = backed.filter((service) =>
    Object.keys(service.ports).some((servicePort) => servedPort(state, service, local, Number(servicePort)) === port),
  );
  return serving.length === 1 ? serving[0] : undefined;
}

/** Facts section 1.12: the address the client dialled; for a name, a VIP of its service, own network and IPv4 first. */
function proxyDestination(
  authority: Authority,
  service: Service | undefined,
  network: string,
): SocketAddress | undefined {
  if (authority.kind === 'address') return { ip: authority.ip, port: authority.port };
  let best: string | undefined;
  let bestRank = -1;
  for (const vip of service?.vips ?? []) {
    const slash = vip.indexOf('/');
    const ip = vip.slice(slash + 1);
    const rank = (vip.slice(0, slash) === network ? 2 : 0) + (ip.includes(':') ? 0 : 1);
    if (rank > bestRank) {
      best = ip;
      bestRank = rank;
    }
  }
  return best === undefined ? undefined : { ip: best, port: authority.port };
}

function fromGateway({ forwardedNetwork }: InboundRequest, network: string): boolean {
  return forwardedNetwork !== undefined && forwardedNetwork.toLowerCase() !== network.toLowerCase();
}

function reject(status: 400 | 503, reason: string): InboundRejection {
  return { kind: 'reject', status, reason };
}

/** A captured plaintext connection (15006): dial `target`, or close without a byte. */
export type InboundPlaintextDecision =
  | { readonly kind: 'accept'; readonly target: SocketAddress; readonly sourceWorkload?: Workload }
  | { readonly kind: 'reject'; readonly reason: string };

/**
 * What becomes of a plaintext connection that was captured on its way into a pod: facts section 2.7. RBAC, without an identity,
 * is the caller's.
 *
 * @param connection - the peer, and the original destination
 * @throws `InvalidIpError` ERR_IP_ADDRESS when an address is none
 */
export function decideInboundPlaintext(
  state: MeshState,
  localWorkload: Workload,
  connection: { readonly sourceIp: string; readonly destination: SocketAddress },
  options: DecideInboundOptions = {},
): InboundPlaintextDecision {
  const target: SocketAddress = {
    ip: canonicalIp(connection.destination.ip, 'connection.destination.ip'),
    port: connection.destination.port,
  };
  if ((options.illegalPorts ?? ILLEGAL_PORTS).has(target.port)) return { kind: 'reject', reason: SELF_CALL };
  const network = options.network ?? localWorkload.network;
  const sourceWorkload = state.workloadAt(network, canonicalIp(connection.sourceIp, 'connection.sourceIp'));
  return { kind: 'accept', target, ...(sourceWorkload && { sourceWorkload }) };
}
