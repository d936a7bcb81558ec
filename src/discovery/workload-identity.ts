import { formatSpiffeId, type SpiffeId } from '../identity/spiffe-id.ts';
import type { Workload } from './model.ts';

const identities = new WeakMap<Workload, SpiffeId | null>();

/**
 * The SPIFFE id of a workload; undefined where its trust domain, namespace or service account make none. Such a workload
 * cannot be reached over HBONE: no certificate can carry its name. Remembered per object, since it is asked per connection.
 */
export function workloadIdentity(workload: Workload): SpiffeId | undefined {
  let identity = identities.get(workload);
  if (identity === undefined) {
    identity = build(workload);
    identities.set(workload, identity);
  }
  return identity ?? undefined;
}

function build(workload: Workload): SpiffeId | null {
  try {
    return formatSpiffeId({
      trustDomain: workload.trustDomain,
      namespace: workload.namespace,
      serviceAccount: workload.serviceAccount,
    });
  } catch {
    return null;
  }
}
