import { type Cidr, cidrContains, formatIp, tryParseIp } from '../ip/index.ts';
import type { Policy } from '../rbac/index.ts';
import { DiscoveryInputError } from './errors.ts';
import { isVisible, serviceRank, workloadRank } from './match-rank.ts';
import type {
  Endpoint,
  MeshDelta,
  MeshSnapshot,
  NamespacedHostname,
  NetworkAddress,
  Service,
  Workload,
} from './model.ts';
import { formatNamespacedHostname, formatNetworkAddress } from './network-address.ts';
import { type PreparedService, prepareService, prepareWorkload } from './prepare.ts';

export interface MeshStateOptions {
  /** Most workloads, services and policies together. Default 1,000,000. */
  readonly maxEntries?: number;
}

interface CidrVipEntry {
  readonly cidr: Cidr;
  readonly service: Service;
}

type Endpoints = ReadonlyMap<string, Endpoint>;
const noEndpoints: Endpoints = new Map();

/**
 * What is known of the mesh, indexed the way the data plane asks: by uid, by (network, IP), by host name and by VIP.
 * Changes are all or nothing, and synchronous: a reader in the same thread never sees half of one. An endpoint may come
 * before its service; it takes part from the moment the service is there.
 */
export class MeshState {
  readonly #maxEntries: number;
  readonly #workloads = new Map<string, Workload>();
  readonly #services = new Map<NamespacedHostname, PreparedService>();
  readonly #policies = new Map<string, Policy>();
  readonly #workloadsByAddress = new Map<NetworkAddress, Workload[]>();
  readonly #workloadsByHostname = new Map<NamespacedHostname, Workload[]>();
  readonly #servicesByHostname = new Map<string, Service[]>();
  readonly #servicesByVip = new Map<NetworkAddress, Service[]>();
  readonly #cidrVips = new Map<string, CidrVipEntry[]>();
  /** As the workloads say it, service known or not, health not looked at. */
  readonly #declaredEndpoints = new Map<NamespacedHostname, Map<string, Endpoint>>();
  /** As the service may use it; made when first asked for, dropped when either side changes. */
  readonly #usableEndpoints = new Map<NamespacedHostname, Endpoints>();
  #version = 0;

  /** @throws {@link DiscoveryInputError} as {@link MeshState.replace} does */
  constructor(snapshot?: MeshSnapshot, options: MeshStateOptions = {}) {
    this.#maxEntries = options.maxEntries ?? 1_000_000;
    if (snapshot !== undefined) this.replace(snapshot);
  }

  /** Grows by one with every {@link replace} and {@link apply}. */
  get version(): number {
    return this.#version;
  }

  /** How much is held. */
  get size(): { readonly workloads: number; readonly services: number; readonly policies: number } {
    return { workloads: this.#workloads.size, services: this.#services.size, policies: this.#policies.size };
  }

  /**
   * Puts a snapshot in the place of everything held. Of two entries with one key the later one stays.
   * @throws {@link DiscoveryInputError} ERR_DISCOVERY_INVALID, ERR_DISCOVERY_LIMIT; nothing is changed then
   */
  replace(snapshot: MeshSnapshot): void {
    this.#checkCount(snapshot.workloads.length + snapshot.services.length + snapshot.policies.length);
    const workloads = snapshot.workloads.map((workload, at) => prepareWorkload(workload, `workloads[${at}]`));
    const services = snapshot.services.map((service, at) => prepareService(service, `services[${at}]`));
    for (const table of [
      this.#workloads,
      this.#services,
      this.#policies,
      this.#workloadsByAddress,
      this.#workloadsByHostname,
      this.#servicesByHostname,
      this.#servicesByVip,
      this.#cidrVips,
      this.#declaredEndpoints,
      this.#usableEndpoints,
    ]) {
      table.clear();
    }
    this.#insert(workloads, services, snapshot.policies);
  }

  /**
   * Applies removals, then upserts. Removing what is not there is no fault.
   * @throws {@link DiscoveryInputError} ERR_DISCOVERY_INVALID, ERR_DISCOVERY_LIMIT; nothing is changed then
   */
  apply(delta: MeshDelta): void {
    const upsert = delta.upsert ?? {};
    const workloads = (upsert.workloads ?? []).map((item, at) => prepareWorkload(item, `upsert.workloads[${at}]`));
    const services = (upsert.services ?? []).map((item, at) => prepareService(item, `upsert.services[${at}]`));
    const policies = upsert.policies ?? [];
    this.#checkCount(this.#countAfter(delta));
    for (const name of delta.remove?.addresses ?? []) {
      if (!this.#removeWorkload(name)) this.#removeService(name);
    }
    for (const name of delta.remove?.policies ?? []) this.#policies.delete(name);
    this.#insert(workloads, services, policies);
  }

  /** Everything held, as plain objects shared with the store (they are never changed in place); safe to post to a worker. */
  snapshot(): MeshSnapshot {
    return {
      workloads: [...this.#workloads.values()],
      services: Array.from(this.#services.values(), (prepared) => prepared.service),
      policies: [...this.#policies.values()],
    };
  }

  workload(uid: string): Workload | undefined {
    return this.#workloads.get(uid);
  }

  /** The workload that best stands for an address (facts section 2.4); `HostNetwork` ones are not found this way. */
  workloadAt(network: string, ip: string): Workload | undefined {
    return lookUpIp(this.#workloadsByAddress, network, ip)?.[0];
  }

  /** The workload of that namespace and host name, the best ranked of several. */
  workloadByHostname(namespace: string, hostname: string): Workload | undefined {
    return this.#workloadsByHostname.get(formatNamespacedHostname(namespace, hostname))?.[0];
  }

  /** The workload that the CNI names: on that node, with that name, namespace and service account (facts section 2.2). */
  localWorkload(info: { node: string; name: string; namespace: string; serviceAccount: string }): Workload | undefined {
    for (const workload of this.#workloads.values()) {
      if (
        workload.name === info.name &&
        workload.namespace === info.namespace &&
        workload.serviceAccount === info.serviceAccount &&
        workload.node === info.node
      ) {
        return workload;
      }
    }
    return undefined;
  }

  service(namespace: string, hostname: string): Service | undefined {
    return this.#services.get(formatNamespacedHostname(namespace, hostname))?.service;
  }

  /** The service of a host name, of several the best for that client (facts section 2.4). */
  serviceByHostname(hostname: string, clientNamespace?: string): Service | undefined {
    return bestService(this.#servicesByHostname.get(hostname), clientNamespace);
  }

  /** The service at an address: an exact VIP, and only where there is none a CIDR VIP (facts section 2.4). */
  serviceAt(network: string, ip: string, clientNamespace?: string): Service | undefined {
    const exact = bestService(lookUpIp(this.#servicesByVip, network, ip), clientNamespace);
    return exact ?? this.#serviceByCidr(network, ip, clientNamespace);
  }

  /**
   * The endpoints a service may use, by workload uid: those it names and those that name it, unhealthy ones left out
   * unless its health policy is `AllowAll`. Their workloads need not be known yet.
   */
  endpointsOf(service: Service): Endpoints {
    const key = formatNamespacedHostname(service.namespace, service.hostname);
    const known = this.#usableEndpoints.get(key);
    if (known !== undefined) return known;
    const current = this.#services.get(key)?.service;
    if (current === undefined) return noEndpoints;
    const usable = new Map<string, Endpoint>();
    const allowAll = current.loadBalancer?.healthPolicy === 'AllowAll';
    for (const endpoint of Object.values(current.endpoints)) {
      if (allowAll || endpoint.status === 'Healthy') usable.set(endpoint.workloadUid, endpoint);
    }
    for (const [uid, endpoint] of this.#declaredEndpoints.get(key) ?? noEndpoints) {
      if (allowAll || endpoint.status === 'Healthy') usable.set(uid, endpoint);
      else usable.delete(uid);
    }
    this.#usableEndpoints.set(key, usable);
    return usable;
  }

  /** The known services that a workload says it backs. */
  servicesOf(workload: Workload): Service[] {
    const services: Service[] = [];
    for (const key of Object.keys(workload.services)) {
      const prepared = this.#services.get(key);
      if (prepared !== undefined) services.push(prepared.service);
    }
    return services;
  }

  /** Endpoints that wait for their service: `namespace/hostname` → workload uid → endpoint. */
  stagedEndpoints(): Map<NamespacedHostname, ReadonlyMap<string, Endpoint>> {
    const staged = new Map<NamespacedHostname, ReadonlyMap<string, Endpoint>>();
    for (const [key, endpoints] of this.#declaredEndpoints) if (!this.#services.has(key)) staged.set(key, endpoints);
    return staged;
  }

  /** By `namespace/name`. */
  get policies(): ReadonlyMap<string, Policy> {
    return this.#policies;
  }

  #serviceByCidr(network: string, text: string, clientNamespace: string | undefined): Service | undefined {
    const entries = this.#cidrVips.get(network);
    if (entries === undefined) return undefined;
    const ip = tryParseIp(text);
    if (ip === undefined) return undefined;
    let best: Service | undefined;
    let bestRank = -1;
    for (const { cidr, service } of entries) {
      if (!cidrContains(cidr, ip) || !isVisible(service, clientNamespace)) continue;
      const rank = serviceRank(service, clientNamespace, cidr.prefixLength);
      if (rank > bestRank) {
        best = service;
        bestRank = rank;
      }
    }
    return best;
  }

  #insert(workloads: readonly Workload[], services: readonly PreparedService[], policies: readonly Policy[]): void {
    for (const workload of workloads) this.#insertWorkload(workload);
    for (const prepared of services) this.#insertService(prepared);
    for (const policy of policies) this.#policies.set(`${policy.namespace}/${policy.name}`, policy);
    this.#version++;
  }

  #insertWorkload(workload: Workload): void {
    this.#removeWorkload(workload.uid);
    this.#workloads.set(workload.uid, workload);
    if (workload.networkMode !== 'HostNetwork') {
      for (const ip of workload.workloadIps) {
        addRanked(this.#workloadsByAddress, formatNetworkAddress(workload.network, ip), workload);
      }
    }
    if (workload.hostname !== '') {
      addRanked(this.#workloadsByHostname, formatNamespacedHostname(workload.namespace, workload.hostname), workload);
    }
    for (const [key, port] of Object.entries(workload.services)) {
      let endpoints = this.#declaredEndpoints.get(key);
      if (endpoints === undefined) {
        endpoints = new Map();
        this.#declaredEndpoints.set(key, endpoints);
      }
      endpoints.set(workload.uid, { workloadUid: workload.uid, port, status: workload.status });
      this.#usableEndpoints.delete(key);
    }
  }

  #removeWorkload(uid: string): boolean {
    const workload = this.#workloads.get(uid);
    if (workload === undefined) return false;
    this.#workloads.delete(uid);
    for (const ip of workload.workloadIps) {
      remove(this.#workloadsByAddress, formatNetworkAddress(workload.network, ip), workload);
    }
    remove(this.#workloadsByHostname, formatNamespacedHostname(workload.namespace, workload.hostname), workload);
    for (const key of Object.keys(workload.services)) {
      const endpoints = this.#declaredEndpoints.get(key);
      endpoints?.delete(uid);
      if (endpoints?.size === 0) this.#declaredEndpoints.delete(key);
      this.#usableEndpoints.delete(key);
    }
    return true;
  }

  #insertService(prepared: PreparedService): void {
    const { key, service, cidrVips } = prepared;
    this.#removeService(key);
    this.#services.set(key, prepared);
    add(this.#servicesByHostname, service.hostname, service);
    for (const vip of service.vips) add(this.#servicesByVip, vip, service);
    for (const { network, cidr } of cidrVips) add(this.#cidrVips, network, { cidr, service });
  }

  #removeService(key: NamespacedHostname): void {
    const prepared = this.#services.get(key);
    if (prepared === undefined) return;
    const { service } = prepared;
    this.#services.delete(key);
    this.#usableEndpoints.delete(key);
    remove(this.#servicesByHostname, service.hostname, service);
    for (const vip of service.vips) remove(this.#servicesByVip, vip, service);
    for (const network of new Set(prepared.cidrVips.map((vip) => vip.network))) {
      const left = this.#cidrVips.get(network)!.filter((entry) => entry.service !== service);
      if (left.length > 0) this.#cidrVips.set(network, left);
      else this.#cidrVips.delete(network);
    }
  }

  #countAfter({ upsert, remove: gone }: MeshDelta): number {
    const names = gone?.addresses ?? [];
    const workloadsGone = new Set(names.filter((name) => this.#workloads.has(name)));
    const servicesGone = new Set(names.filter((name) => !workloadsGone.has(name) && this.#services.has(name)));
    const policiesGone = new Set(gone?.policies?.filter((name) => this.#policies.has(name)));
    const uids = upsert?.workloads?.map((workload) => workload.uid);
    const hostnames = upsert?.services?.map((s) => formatNamespacedHostname(s.namespace, s.hostname));
    const policies = upsert?.policies?.map((policy) => `${policy.namespace}/${policy.name}`);
    return (
      countAfter(this.#workloads, workloadsGone, uids) +
      countAfter(this.#services, servicesGone, hostnames) +
      countAfter(this.#policies, policiesGone, policies)
    );
  }

  #checkCount(count: number): void {
    if (count <= this.#maxEntries) return;
    throw new DiscoveryInputError({
      code: 'ERR_DISCOVERY_LIMIT',
      op: 'discovery.store',
      message: `${count} workloads, services and policies are more than maxEntries (${this.#maxEntries})`,
    });
  }
}

/** Canonical text is found at once; another spelling of an IPv6 address only after it was parsed. */
function lookUpIp<T>(index: ReadonlyMap<NetworkAddress, T>, network: string, ip: string): T | undefined {
  const found = index.get(formatNetworkAddress(network, ip));
  if (found !== undefined || !ip.includes(':')) return found;
  const parsed = tryParseIp(ip);
  return parsed && index.get(formatNetworkAddress(network, formatIp(parsed)));
}

function countAfter(
  held: ReadonlyMap<string, unknown>,
  gone: ReadonlySet<string>,
  put: readonly string[] = [],
): number {
  let count = held.size - gone.size;
  for (const key of new Set(put)) if (gone.has(key) || !held.has(key)) count++;
  return count;
}

function bestService(
  services: readonly Service[] | undefined,
  clientNamespace: string | undefined,
): Service | undefined {
  let best: Service | undefined;
  let bestRank = -1;
  for (const service of services ?? []) {
    if (!isVisible(service, clientNamespace)) continue;
    const rank = serviceRank(service, clientNamespace, 0);
    if (rank > bestRank) {
      best = service;
      bestRank = rank;
    }
  }
  return best;
}

function add<K, V>(index: Map<K, V[]>, key: K, value: V): void {
  const values = index.get(key);
  if (values === undefined) index.set(key, [value]);
  else values.push(value);
}

/** Keeps the best first and, among equals, the one seen first. */
function addRanked<K>(index: Map<K, Workload[]>, key: K, workload: Workload): void {
  const workloads = index.get(key);
  if (workloads === undefined) {
    index.set(key, [workload]);
    return;
  }
  const rank = workloadRank(workload);
  const at = workloads.findIndex((other) => workloadRank(other) < rank);
  workloads.splice(at < 0 ? workloads.length : at, 0, workload);
}

function remove<K, V>(index: Map<K, V[]>, key: K, value: V): void {
  const values = index.get(key);
  const at = values?.indexOf(value) ?? -1;
  if (at < 0) return;
  if (values!.length === 1) index.delete(key);
  else values!.splice(at, 1);
}
