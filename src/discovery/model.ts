import type { Policy } from '../rbac/index.ts';

/**
 * `network/ip`, the network empty for the default one: `/10.96.0.105`, `west/10.0.0.1`. The IP is canonical text once it
 * has passed through {@link MeshState} or a source.
 */
export type NetworkAddress = string;

/** `namespace/hostname`: `default/httpbin.default.svc.cluster.local`. The primary key of a service. */
export type NamespacedHostname = string;

/** Port dialled at the service → port of the endpoint. Target 0 means that each endpoint says its own. */
export type PortMap = Readonly<Record<number, number>>;

/** How the destination takes traffic: `HBONE` tunnels on 15008, `TCP` plain. */
export type Protocol = 'HBONE' | 'TCP';

/** `HostNetwork` workloads share their node's address, and are therefore not found by IP. */
export type NetworkMode = 'Standard' | 'HostNetwork';

export type HealthStatus = 'Healthy' | 'Unhealthy';

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

/** Where a waypoint or a network gateway is found. */
export interface GatewayAddress {
  /** A {@link NetworkAddress} or a {@link NamespacedHostname}: what stands after the slash decides which. */
  readonly destination: string;
  /** The gateway's HBONE port as its service names it; mapped through that service's ports before it is dialled. */
  readonly hboneMtlsPort: number;
}

export interface WeightedGateway {
  readonly destination: GatewayAddress;
  readonly weight: number;
}

/** A workload that wants its HBONE traffic handed over on one port of its own, as a sandwiched waypoint does. */
export interface ApplicationTunnel {
  /** `PROXY`: a PROXY protocol v2 header goes first. */
  readonly protocol: 'NONE' | 'PROXY';
  /** Replaces the target port when present. */
  readonly port?: number;
}

/**
 * One pod or machine of the mesh, in the form of facts section 4.10. Texts that are not known are empty, as there; the
 * same object, as JSON, is an entry of a config dump.
 */
export interface Workload {
  /** Unique in the mesh and otherwise opaque: `Kubernetes//Pod/default/sleep-1`. */
  readonly uid: string;
  readonly name: string;
  readonly namespace: string;
  readonly workloadIps: readonly string[];
  readonly network: string;
  readonly protocol: Protocol;
  readonly networkMode: NetworkMode;
  readonly trustDomain: string;
  readonly serviceAccount: string;
  readonly workloadName: string;
  /** Lower case: `deployment`, `cronjob`, `pod`, `job`. Names the key of the workload name in baggage. */
  readonly workloadType: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly hostname: string;
  readonly node: string;
  readonly clusterId: string;
  readonly status: HealthStatus;
  readonly locality: Locality;
  /** Weight among the endpoints of a service; 0 is never picked. */
  readonly capacity: number;
  readonly nativeTunnel: boolean;
  /** `namespace/name` of the policies that select this workload. */
  readonly authorizationPolicies: readonly string[];
  /** The services that this workload backs, each with the ports it serves them on (facts section 4.9, `services`). */
  readonly services: Readonly<Record<NamespacedHostname, PortMap>>;
  readonly waypoint?: GatewayAddress;
  readonly networkGateway?: GatewayAddress;
  readonly applicationTunnel?: ApplicationTunnel;
}

/** One workload behind one service. */
export interface Endpoint {
  readonly workloadUid: string;
  readonly port: PortMap;
  readonly status: HealthStatus;
}

export type RoutingPreference = 'Region' | 'Zone' | 'Subzone' | 'Node' | 'Cluster' | 'Network';

export interface LoadBalancer {
  readonly routingPreferences: readonly RoutingPreference[];
  /** `Passthrough`: the service is no upstream of its own; traffic goes to the address that was dialled. */
  readonly mode: 'Standard' | 'Strict' | 'Failover' | 'Passthrough';
  readonly healthPolicy: 'OnlyHealthy' | 'AllowAll';
}

export interface CidrVip {
  readonly network: string;
  readonly cidr: string;
}

export type IpFamilies = 'Dual' | 'IPv4' | 'IPv6';

export interface Service {
  readonly name: string;
  readonly namespace: string;
  readonly hostname: string;
  readonly vips: readonly NetworkAddress[];
  readonly cidrVips: readonly CidrVip[];
  readonly ports: PortMap;
  /** Endpoints named by the service itself, by workload uid, beside those that name it in {@link Workload.services}. */
  readonly endpoints: Readonly<Record<string, Endpoint>>;
  /** SPIFFE ids, with `spiffe://`, that endpoints may present beside their own. */
  readonly subjectAltNames: readonly string[];
  readonly weightedWaypoints: readonly WeightedGateway[];
  /** Wins over services of the same address that are not, when neither is in the client's namespace. */
  readonly canonical: boolean;
  /** `Namespace`: seen by clients of its own namespace only. */
  readonly visibility: 'Public' | 'Namespace';
  readonly waypoint?: GatewayAddress;
  readonly loadBalancer?: LoadBalancer;
  /** Absent: whatever the endpoint has. */
  readonly ipFamilies?: IpFamilies;
}

/**
 * All that is known of a mesh at one moment. Plain objects throughout, so that it passes `structuredClone` and
 * `postMessage` unchanged: a worker thread rebuilds its {@link MeshState} from it.
 */
export interface MeshSnapshot {
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly policies: readonly Policy[];
}

/** What changed. Removals are applied before upserts, so that a name in both ends up as the upsert has it. */
export interface MeshDelta {
  readonly upsert?: Partial<MeshSnapshot>;
  readonly remove?: {
    /** Workload uids, or `namespace/hostname` of services: a uid is tried first (facts section 4.6). */
    readonly addresses?: readonly string[];
    /** `namespace/name`. */
    readonly policies?: readonly string[];
  };
}
