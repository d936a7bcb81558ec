import type { Workload } from '../discovery/index.ts';
import type { WorkloadIdentity } from '../identity/index.ts';
import type { SocketAddress } from '../ip/index.ts';
import { type Connection, evaluate, explain, formatExplanation } from '../rbac/index.ts';
import { closedByPolicy } from '../telemetry/index.ts';
import type { ConnectionRecord } from './connection-log.ts';
import type { ProxyContext } from './proxy-context.ts';

/** What policies can see of an inbound connection, kept as long as it is open. */
export interface Authorized {
  readonly target: Workload;
  readonly connection: Connection;
}

/**
 * Facts section 3.7: judges a connection at its destination, and notes the verdict in its record.
 *
 * @param identity - the verified identity of the source, undefined for plaintext
 * @returns what to keep for {@link stillAllowed}, or the failure to end the connection with
 */
export function authorize(
  proxy: ProxyContext,
  record: ConnectionRecord,
  target: Workload,
  address: SocketAddress,
  identity: WorkloadIdentity | undefined,
): Authorized | string {
  const connection: Connection = {
    sourceIp: record.source.ip,
    destinationIp: address.ip,
    destinationPort: address.port,
    identity,
  };
  const decision = evaluate(proxy.policies, target, connection);
  // Explaining walks every candidate again: only for those who asked, and for those who are turned away.
  if (proxy.log.wantsDecisions || !decision.allowed) {
    record.rbac = {
      allowed: decision.allowed,
      reason: decision.reason,
      explanation: formatExplanation(explain(proxy.policies, target, connection)),
    };
  }
  if (decision.allowed) return { target, connection };
  proxy.denied++;
  return closedByPolicy(decision.reason);
}

/** Facts section 3.6: asked again for open connections when the policies have changed. */
export function stillAllowed(proxy: ProxyContext, { target, connection }: Authorized): boolean {
  // The workload of now, whose list of policies may have changed too; the real ztunnel keeps the old one.
  const current = proxy.state.workload(target.uid) ?? target;
  return evaluate(proxy.policies, current, connection).allowed;
}
