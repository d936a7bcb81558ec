import type { ConnectionAcceptor } from '../engine/index.ts';
import type { SocketAddress } from '../ip/index.ts';
import { authorize } from './authorize.ts';
import { capturedDestination } from './captured-destination.ts';
import { decideInboundPlaintext } from './decide-inbound.ts';
import type { ProxyInstance } from './proxy-instance.ts';
import { refuse, relay } from './relayed-connection.ts';

/** Plain TCP from outside the mesh to pods (port 15006): judged without an identity, dialled from the client's address. */
export class InboundPlaintextListener implements ConnectionAcceptor {
  readonly #instance: ProxyInstance;

  constructor(instance: ProxyInstance) {
    this.#instance = instance;
  }

  onConnection(fd: number, source: SocketAddress): void {
    const { proxy, serves } = this.#instance;
    const destination = capturedDestination(fd);
    if (destination === undefined) return;
    const record = proxy.log.begin('inbound-plaintext', source, destination);
    const workload = serves.destinationAt(destination.ip);
    record.destinationWorkload = workload;
    if (workload === undefined) return refuse(proxy, fd, [record], 'the local workload is not known');
    const decision = decideInboundPlaintext(proxy.state, workload, { sourceIp: source.ip, destination });
    record.decision = { kind: decision.kind };
    if (decision.kind === 'reject') return refuse(proxy, fd, [record], decision.reason);
    record.sourceWorkload = decision.sourceWorkload;
    const verdict = authorize(proxy, record, workload, decision.target, undefined);
    if (typeof verdict === 'string') return refuse(proxy, fd, [record], verdict);
    relay(fd, {
      target: decision.target,
      sourceIp: source.ip,
      records: [record],
      authorized: verdict,
      isDelivery: true,
      from: this.#instance,
      to: this.#instance,
    });
  }
}
