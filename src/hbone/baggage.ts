/** What a `baggage` header of the mesh tells (facts section 1.4). Absent: not told. For logs and metrics; it proves nothing. */
export interface Baggage {
  readonly clusterName?: string;
  readonly namespace?: string;
  readonly workloadName?: string;
  /** Which key named the workload: `deployment`, `cronjob`, `pod` or `job`. */
  readonly workloadType?: WorkloadType;
  readonly serviceName?: string;
  readonly serviceVersion?: string;
  readonly region?: string;
  readonly zone?: string;
}

/** The kinds of workload that a baggage can name. */
export type WorkloadType = 'deployment' | 'cronjob' | 'pod' | 'job';

const keys = {
  'k8s.cluster.name': 'clusterName',
  'k8s.namespace.name': 'namespace',
  'service.name': 'serviceName',
  'service.version': 'serviceVersion',
  'cloud.region': 'region',
  'cloud.availability_zone': 'zone',
} as const;

const workloadKey = /^k8s\.(deployment|cronjob|pod|job)\.name$/;
const visibleAscii = /^[\x20-\x7e\t]*$/;

/**
 * The `baggage` value for a workload, in facts section 1.4's order. There is no escaping in this form, so a text that would not
 * come back as it went in (with `,`, `=`, white space or a character outside ASCII) is left out. Empty when nothing is known.
 */
export function formatBaggage(baggage: Baggage): string {
  let text = '';
  text = append(text, 'k8s.cluster.name', baggage.clusterName);
  text = append(text, 'k8s.namespace.name', baggage.namespace);
  text = append(text, `k8s.${baggage.workloadType ?? 'pod'}.name`, baggage.workloadName);
  text = append(text, 'service.name', baggage.serviceName);
  text = append(text, 'service.version', baggage.serviceVersion);
  text = append(text, 'cloud.region', baggage.region);
  return append(text, 'cloud.availability_zone', baggage.zone);
}

/**
 * Reads the values of all `baggage` header lines, in their order; the last one that names a thing wins. Unknown keys and
 * empty values are passed over. A byte outside visible ASCII anywhere voids the whole (facts section 1.4).
 *
 * @param lines - one text a header line, bytes as Latin-1
 */
export function parseBaggage(lines: readonly string[]): Baggage {
  const baggage: { -readonly [K in keyof Baggage]: Baggage[K] } = {};
  for (const line of lines) {
    if (!visibleAscii.test(line)) return {};
    for (const pair of line.split(',')) {
      const parts = pair.split('=', 2);
      const key = parts[0]!.trim();
      const value = parts[1]?.trim();
      if (!value) continue;
      if (Object.hasOwn(keys, key)) baggage[keys[key as keyof typeof keys]] = value;
      else {
        const type = workloadKey.exec(key)?.[1];
        if (type === undefined) continue;
        baggage.workloadName = value;
        baggage.workloadType = type as WorkloadType;
      }
    }
  }
  return baggage;
}

function append(text: string, key: string, value: string | undefined): string {
  if (value === undefined || !/^[\x21-\x2b\x2d-\x3c\x3e-\x7e]+$/.test(value)) return text;
  return text === '' ? `${key}=${value}` : `${text},${key}=${value}`;
}
