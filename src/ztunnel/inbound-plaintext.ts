import type { ConnectionAcceptor } from '../engine/index.ts';
import type { SocketAddress } from '../ip/index.ts';
import { authorize } from './authorize.ts';
import { capturedDestination } from './captured-destination.ts';
import { decideInboundPlaintext } from './decide-inbound.ts';
import { localWorkloadAt, type ProxyContext } from './proxy-context.ts';
import { refuse, relay } from './relayed-connection.ts';

/** Plain TCP from outside the mesh to this node's pods (port 15006): judged without an identity, dialled from the client's address. */
export class InboundPlaintextListener implements ConnectionAcceptor {
  readonly #proxy: ProxyContext;

  constructor(proxy: ProxyContext) {
    this.#proxy = proxy;
  }

  onConnection(fd: number, source: SocketAddress): void {
    const proxy = this.#proxy;
    const destination = capturedDestination(fd);
    if (destination === undefined) return;
    const record = proxy.log.begin('inbound-plaintext', source, destination);
    const workload = localWorkloadAt(proxy, destination.ip);
    record.destinationWorkload = workload;
    if (workload === undefined) return refuse(proxy, fd, [record], 'the local workload is not known');
    const decision = decideInboundPlaintext(proxy.state, workload, { sourceIp: source.ip, destination });
    record.decision = { kind: decision.kind };
    if (decision.kind === 'reject') return refuse(proxy, fd, [record], decision.reason);
    record.sourceWorkload = decision.sourceWorkload;
    const verdict = authorize(proxy, record, workload, decision.target, undefined);
    if (typeof verdict === 'string') return refuse(proxy, fd, [record], verdict);
    relay(proxy, fd, decision.target, [record], verdict);
  }
}
