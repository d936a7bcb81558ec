import { describe, expect, it } from 'vitest';
import { defineWorkload } from '../../src/discovery/index.ts';
import { formatBaggage } from '../../src/hbone/baggage.ts';
import { baggageHeader, workloadBaggage } from '../../src/ztunnel/workload-baggage.ts';

const fullText =
  'k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=httpbin,' +
  'service.name=httpbin,service.version=v1,cloud.region=r1,cloud.availability_zone=z1';

describe('workloadBaggage (facts section 1.4)', () => {
  it('tells of a workload what its object says', () => {
    const workload = defineWorkload({
      name: 'httpbin-1',
      namespace: 'default',
      workloadIps: [],
      workloadName: 'httpbin',
      workloadType: 'deployment',
      canonicalName: 'httpbin',
      canonicalRevision: 'v1',
      locality: { region: 'r1', zone: 'z1', subzone: 's1' },
    });
    expect(formatBaggage(workloadBaggage(workload))).toBe(fullText);
    expect([baggageHeader(workload), baggageHeader(workload)]).toEqual([fullText, fullText]);
    expect(workloadBaggage({ ...workload, workloadType: 'statefulset' }).workloadType).toBe('pod');
  });
});
