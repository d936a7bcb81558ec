import type { Service, Workload } from './model.ts';

/**
 * How well a workload stands for an address that several claim (facts section 2.4): a pod that speaks HBONE before a pod,
 * before anything that speaks HBONE, before the rest.
 */
export function workloadRank(workload: Workload): number {
  return (workload.uid.includes('//Pod/') ? 2 : 0) + (workload.protocol === 'HBONE' ? 1 : 0);
}

/** Whether a client may see the service. A client without a namespace sees all (facts section 2.4). */
export function isVisible(service: Service, clientNamespace: string | undefined): boolean {
  return service.visibility === 'Public' || clientNamespace === undefined || clientNamespace === service.namespace;
}

/**
 * Orders the services of one address: the client's own namespace, then the longer prefix (the same for all where the
 * address is exact), then canonical. Higher is better; of equals, the one seen first is taken.
 */
export function serviceRank(service: Service, clientNamespace: string | undefined, prefixLength: number): number {
  return (service.namespace === clientNamespace ? 512 : 0) + prefixLength * 2 + (service.canonical ? 1 : 0);
}
