import type { Service, Workload } from './model.ts';

/**
 * A whole {@link Workload} from what one cares to say, the rest as a control plane would have it (facts section 4.9): trust
 * domain `cluster.local`, service account `default`, cluster `Kubernetes`, and the uid of a pod.
 */
export function defineWorkload(
  known: Partial<Workload> & Pick<Workload, 'name' | 'namespace' | 'workloadIps'>,
): Workload {
  const clusterId = known.clusterId ?? 'Kubernetes';
  return {
    uid: `${clusterId}//Pod/${known.namespace}/${known.name}`,
    network: '',
    protocol: 'TCP',
    networkMode: 'Standard',
    trustDomain: 'cluster.local',
    serviceAccount: 'default',
    workloadName: known.name,
    workloadType: 'pod',
    canonicalName: known.name,
    canonicalRevision: '',
    hostname: '',
    node: '',
    clusterId,
    status: 'Healthy',
    locality: { region: '', zone: '', subzone: '' },
    capacity: 1,
    nativeTunnel: false,
    authorizationPolicies: [],
    services: {},
    ...known,
  };
}

/** A whole {@link Service} from what one cares to say; the host name is that of a Kubernetes service in `cluster.local`. */
export function defineService(known: Partial<Service> & Pick<Service, 'name' | 'namespace'>): Service {
  return {
    hostname: `${known.name}.${known.namespace}.svc.cluster.local`,
    vips: [],
    cidrVips: [],
    ports: {},
    endpoints: {},
    subjectAltNames: [],
    weightedWaypoints: [],
    canonical: false,
    visibility: 'Public',
    ...known,
  };
}
