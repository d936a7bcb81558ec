import type { Workload } from '../discovery/index.ts';
import type { Baggage, WorkloadType } from '../hbone/baggage.ts';

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
