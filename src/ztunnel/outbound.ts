import { type Workload, workloadIdentity } from '../discovery/index.ts';
import { type ConnectionAcceptor, type StreamObserver, type TunnelRoute, TunnelStream } from '../engine/index.ts';
import { formatForwarded } from '../hbone/forwarded.ts';
import { formatTraceParent, makeTraceParent } from '../hbone/traceparent.ts';
import type { HeaderField } from '../http2/index.ts';
import { tryParseSpiffeId } from '../identity/index.ts';
import { formatSocketAddress, type SocketAddress } from '../ip/index.ts';
import { authorize } from './authorize.ts';
import { capturedDestination } from './captured-destination.ts';
import type { ConnectionRecord } from './connection-log.ts';
import { decideOutbound, type HboneDecision } from './decide-outbound.ts';
import { ILLEGAL_PORTS, SELF_CALL } from './illegal-ports.ts';
import { verifierFor } from './peer-verifier.ts';
import type { LiveConnection } from './proxy-context.ts';
import type { ProxyInstance } from './proxy-instance.ts';
import { fillFromPool } from './random-pool.ts';
import { refuse, relay } from './relayed-connection.ts';
import { addressTowards } from './served-workloads.ts';
import { statusText } from './status-text.ts';
import { baggageHeader } from './workload-baggage.ts';

/**
 * Connections that pods open (port 15001). Where one goes is {@link decideOutbound}'s word: through a tunnel, in plain TCP, or nowhere.
 * A destination that this proxy serves itself is served here and now: a tunnel to it would be a tunnel to ourselves (trap 4).
 */
export class OutboundListener implements ConnectionAcceptor {
  readonly #instance: ProxyInstance;

  constructor(instance: ProxyInstance) {
    this.#instance = instance;
  }

  onConnection(fd: number, source: SocketAddress): void {
    const instance = this.#instance;
    const { proxy, serves } = instance;
    const destination = capturedDestination(fd);
    if (destination === undefined) return;
    const record = proxy.log.begin('outbound', source, destination);
    const workload = serves.sourceOf(source);
    if (workload === undefined) {
      record.decision = { kind: 'reject', cause: 'unknown-source' };
      return refuse(proxy, fd, [record], `unknown source: ${serves.unknownSource(source)}`);
    }
    record.sourceWorkload = workload;
    record.sourceIdentity = workloadIdentity(workload);
    const decision = decideOutbound(proxy.state, workload, destination, Math.random, {
      network: proxy.options.network,
    });
    record.destinationWorkload = decision.destinationWorkload;
    record.destinationService = decision.destinationService;
    switch (decision.kind) {
      case 'reject':
        record.decision = { kind: 'reject', cause: decision.cause };
        return refuse(proxy, fd, [record], decision.reason);
      case 'tcp':
        if (leadsToUs(instance, decision.address)) return this.#refuseSelfCall(fd, record);
        record.decision = { kind: 'tcp', via: decision.via };
        record.destination = decision.address;
        return relay(fd, {
          target: decision.address,
          sourceIp: dialSource(instance, workload, source, decision.address),
          records: [record],
          authorized: undefined,
          isDelivery: false,
          from: instance,
          to: instance,
        });
      case 'hbone': {
        const isBeside = decision.sameNode && decision.via === 'direct';
        const server = isBeside ? proxy.serving(decision.destinationWorkload) : undefined;
        if (server !== undefined) return this.#handOver(fd, record, decision, workload, server);
        return this.#tunnel(fd, record, decision, workload);
      }
    }
  }

  #refuseSelfCall(fd: number, record: ConnectionRecord): void {
    record.decision = { kind: 'reject', cause: 'self-call' };
    refuse(this.#instance.proxy, fd, [record], SELF_CALL);
  }

  /** Both ends are ours: judge as the destination's proxy would, and dial the pod. */
  #handOver(
    fd: number,
    record: ConnectionRecord,
    decision: HboneDecision,
    workload: Workload,
    server: ProxyInstance,
  ): void {
    const { proxy } = this.#instance;
    const target = decision.hboneAddress;
    // As the destination's proxy would refuse a CONNECT to it (facts section 2.6).
    if (ILLEGAL_PORTS.has(target.port)) return this.#refuseSelfCall(fd, record);
    const source = { ip: addressTowards(workload, record.source, target.ip), port: record.source.port };
    const inbound = proxy.log.begin('inbound', source, record.originalDestination);
    for (const each of [record, inbound]) {
      each.decision = { kind: 'local', via: decision.via };
      each.destination = target;
      each.destinationIdentity = workloadIdentity(decision.destinationWorkload);
      // No TLS between a proxy and itself; the identities are as certain: each pod's traffic comes by that pod's own device or listener.
      each.mutualTls = true;
    }
    inbound.sourceWorkload = record.sourceWorkload;
    inbound.sourceIdentity = record.sourceIdentity;
    inbound.destinationWorkload = decision.destinationWorkload;
    inbound.destinationService = decision.destinationService;
    const identity = record.sourceIdentity === undefined ? undefined : tryParseSpiffeId(record.sourceIdentity);
    const verdict = authorize(proxy, inbound, decision.destinationWorkload, target, identity);
    if (typeof verdict === 'string') return refuse(proxy, fd, [record, inbound], verdict);
    relay(fd, {
      target,
      sourceIp: source.ip,
      records: [record, inbound],
      authorized: verdict,
      isDelivery: true,
      from: this.#instance,
      to: server,
    });
  }

  #tunnel(fd: number, record: ConnectionRecord, decision: HboneDecision, workload: Workload): void {
    const instance = this.#instance;
    const { proxy } = instance;
    const { destinationAddress, authority, expectedIdentities } = decision;
    record.decision = { kind: 'hbone', via: decision.via };
    record.destination = destinationAddress;
    record.hboneAddress = authority;
    const identity = record.sourceIdentity;
    const context = identity === undefined ? undefined : proxy.tls.get(identity);
    if (identity === undefined || context === undefined) {
      return refuse(proxy, fd, [record], `no certificate for ${identity ?? 'a workload without identity'}`);
    }
    const remote = formatSocketAddress(destinationAddress.ip, destinationAddress.port);
    const sourceIp = dialSource(instance, workload, record.source, destinationAddress);
    const route: TunnelRoute = {
      key: `${identity}|${expectedIdentities.join()}|${remote}|${sourceIp ?? ''}`,
      context,
      verifier: verifierFor({ oneOf: expectedIdentities }),
      sendsEarly: proxy.options.earlyData && decision.via === 'direct',
      dial: () => instance.dialler.dial(destinationAddress, sourceIp),
    };
    record.dialled = destinationAddress;
    record.dialledFrom = sourceIp;
    const connection = new TunnelledConnection(instance, record);
    connection.stream.attach(fd, false);
    instance.pool.open(route, connection.stream, authority, requestHeaders(record, workload));
  }
}

/** A pod that dials the proxy's own listener would have the proxy dial itself, and take that for the pod's next connection, for ever. */
function leadsToUs({ dialler }: ProxyInstance, { ip, port }: SocketAddress): boolean {
  return ILLEGAL_PORTS.has(port) && dialler.isOwn(ip);
}

/** Undefined where the kernel chooses right by itself. */
function dialSource(
  { serves }: ProxyInstance,
  workload: Workload,
  source: SocketAddress,
  target: SocketAddress,
): string | undefined {
  return serves.dialsAsSource ? addressTowards(workload, source, target.ip) : undefined;
}

/** Facts section 1.2, in the order of the wire. */
function requestHeaders(record: ConnectionRecord, workload: Workload): HeaderField[] {
  return [
    ['baggage', baggageHeader(workload)],
    ['forwarded', formatForwarded(record.source, record.destinationService?.hostname)],
    ['traceparent', formatTraceParent(makeTraceParent(fillFromPool))],
  ];
}

/** One outbound connection in a tunnel. */
class TunnelledConnection implements StreamObserver, LiveConnection {
  readonly authorized = undefined;
  readonly stream: TunnelStream;
  readonly #instance: ProxyInstance;
  readonly #record: ConnectionRecord;

  constructor(instance: ProxyInstance, record: ConnectionRecord) {
    this.#instance = instance;
    this.#record = record;
    this.stream = new TunnelStream(instance.proxy.reactor, instance.proxy.memory, this);
    instance.took(this);
  }

  abort(failure: string): void {
    this.stream.abort(failure);
  }

  onAnswer(stream: TunnelStream, status: number): void {
    const tunnel = stream.tunnel;
    if (tunnel?.peerIdentity === undefined) return;
    const record = this.#record;
    record.mutualTls = true;
    record.destinationIdentity = tunnel.peerIdentity;
    if (this.#instance.proxy.log.wantsDecisions) {
      record.tunnel = {
        localIdentity: record.sourceIdentity ?? '',
        peerIdentity: tunnel.peerIdentity,
        tls: tunnel.description,
        authority: record.hboneAddress ?? '',
      };
    }
    // In the words that tools look for (facts section 11.5).
    if (status !== 200) stream.abort(`http status: ${statusText(status)}`);
  }

  onStreamClosed(stream: TunnelStream, failure: string | undefined): void {
    this.#instance.lost(this);
    this.#instance.proxy.log.end(this.#record, {
      sentBytes: stream.bytesToTunnel,
      receivedBytes: stream.bytesFromTunnel,
      failure,
    });
  }
}
