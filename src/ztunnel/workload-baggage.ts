import type { Workload } from '../discovery/index.ts';
import { type Baggage, formatBaggage, type WorkloadType } from '../hbone/baggage.ts';

const TYPES: readonly string[] = ['deployment', 'cronjob', 'pod', 'job'] satisfies WorkloadType[];

/** What a workload says of itself (facts section 1.4). */
export function workloadBaggage(workload: Workload): Baggage {
  return {
    clusterName: workload.clusterId,
    namespace: workload.namespace,
    workloadName: workload.workloadName,
    workloadType: TYPES.includes(workload.workloadType) ? (workload.workloadType as WorkloadType) : 'pod',
    serviceName: workload.canonicalName,
    serviceVersion: workload.canonicalRevision,
    region: workload.locality.region,
    zone: workload.locality.zone,
  };
}

const headers = new WeakMap<Workload, string>();

/** {@link workloadBaggage} as the header has it, made once a workload. */
export function baggageHeader(workload: Workload): string {
  let header = headers.get(workload);
  if (header === undefined) {
    header = formatBaggage(workloadBaggage(workload));
    headers.set(workload, header);
  }
  return header;
}
