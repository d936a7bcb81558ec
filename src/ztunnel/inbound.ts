import { type Workload, workloadIdentity } from '../discovery/index.ts';
import {
  type ConnectionAcceptor,
  HboneTunnel,
  type StreamObserver,
  type TlsContext,
  type TunnelOwner,
  TunnelStream,
} from '../engine/index.ts';
import { messageOf } from '../errors/index.ts';
import { parseForwarded } from '../hbone/forwarded.ts';
import type { HeaderField, Http2Request, Http2Stream } from '../http2/index.ts';
import { parseSpiffeId, type SpiffeId, tryParseSpiffeId, type WorkloadIdentity } from '../identity/index.ts';
import type { SocketAddress } from '../ip/index.ts';
import { type Authorized, authorize } from './authorize.ts';
import { capturedDestination } from './captured-destination.ts';
import type { ConnectionRecord } from './connection-log.ts';
import { decideInbound } from './decide-inbound.ts';
import { verifierFor } from './peer-verifier.ts';
import type { LiveConnection } from './proxy-context.ts';
import type { ProxyInstance } from './proxy-instance.ts';
import { resetAndClose } from './relayed-connection.ts';
import { baggageHeader } from './workload-baggage.ts';

/** HBONE for pods (port 15008): TLS as the pod, then CONNECT streams, each judged and dialled from its client's address. */
export class InboundListener implements ConnectionAcceptor {
  readonly tunnels = new Map<HboneTunnel, InboundTunnel>();
  readonly #instance: ProxyInstance;

  constructor(instance: ProxyInstance) {
    this.#instance = instance;
  }

  onConnection(fd: number, source: SocketAddress): void {
    const { proxy, serves } = this.#instance;
    const local = capturedDestination(fd);
    if (local === undefined) return;
    const workload = serves.destinationAt(local.ip);
    const identity = workload === undefined ? undefined : workloadIdentity(workload);
    const context = identity === undefined ? undefined : proxy.tls.get(identity);
    if (workload === undefined || identity === undefined || context === undefined) {
      const record = proxy.log.begin('inbound', source, local);
      resetAndClose(fd);
      const failure =
        workload === undefined
          ? serves.unknownSource(local)
          : identity === undefined
            ? `workload ${workload.uid} has no SPIFFE identity`
            : `no certificate for ${identity}`;
      return proxy.log.end(record, { sentBytes: 0, receivedBytes: 0, failure });
    }
    try {
      new InboundTunnel(this.#instance, this.tunnels, fd, source, local, identity, context);
    } catch (error) {
      const record = proxy.log.begin('inbound', source, local);
      // The tunnel has closed the descriptor.
      proxy.log.end(record, { sentBytes: 0, receivedBytes: 0, failure: messageOf(error) });
    }
  }

  /** Facts section 1.11: a workload that has gone takes its tunnels with it, whoever has its address next. */
  closeTunnelsOfOthers(): void {
    for (const [tunnel, owner] of [...this.tunnels]) {
      if (owner.workload === undefined) tunnel.close(GONE);
    }
  }
}

const GONE = 'the local workload is not known any more';

/** One peer's tunnel to one pod. */
class InboundTunnel implements TunnelOwner {
  readonly instance: ProxyInstance;
  readonly source: SocketAddress;
  readonly local: SocketAddress;
  /** Who is at the other end, for policies; known when the tunnel stands. */
  peer: WorkloadIdentity | undefined;
  readonly #identity: string;
  readonly #tunnels: Map<HboneTunnel, InboundTunnel>;

  constructor(
    instance: ProxyInstance,
    tunnels: Map<HboneTunnel, InboundTunnel>,
    fd: number,
    source: SocketAddress,
    local: SocketAddress,
    identity: SpiffeId,
    context: TlsContext,
  ) {
    this.instance = instance;
    this.source = source;
    this.local = local;
    this.#identity = identity;
    this.#tunnels = tunnels;
    const { reactor, memory, options } = instance.proxy;
    // Facts section 1.6: the peer's trust domain must be the one of our own certificate.
    const verifier = verifierFor({ trustDomain: parseSpiffeId(identity).trustDomain });
    tunnels.set(
      new HboneTunnel({ reactor, memory, role: 'server', fd, context, verifier, owner: this, http2: options.http2 }),
      this,
    );
  }

  /**
   * The pod that the tunnel was made to, as the registry has it now: its policies may be others than when the tunnel was made.
   * Undefined where the address is nobody's any more, or another's than the certificate said that we showed.
   */
  get workload(): Workload | undefined {
    const workload = this.instance.serves.destinationAt(this.local.ip);
    return workload !== undefined && workloadIdentity(workload) === this.#identity ? workload : undefined;
  }

  onTunnelReady(tunnel: HboneTunnel): void {
    if (tunnel.peerIdentity !== undefined) this.peer = tryParseSpiffeId(tunnel.peerIdentity);
  }

  onTunnelCapacity(): void {}

  onTunnelClosed(tunnel: HboneTunnel, failure: string | undefined): void {
    this.#tunnels.delete(tunnel);
    // Before it had a peer it was nobody's connection: say so once, here.
    if (tunnel.peerIdentity === undefined) {
      const { log } = this.instance.proxy;
      const record = log.begin('inbound', this.source, this.local);
      record.destinationWorkload = this.workload;
      record.decision = { kind: 'reject', cause: 'handshake' };
      log.end(record, { sentBytes: 0, receivedBytes: 0, failure: failure ?? 'closed before the handshake' });
    }
  }

  onTunnelRequest(
    tunnel: HboneTunnel,
    http2Stream: Http2Stream<TunnelStream>,
    request: Http2Request,
    endStream: boolean,
  ): void {
    const { proxy } = this.instance;
    const record = proxy.log.begin('inbound', this.source, this.local);
    const connection = new InboundConnection(this, record);
    tunnel.adopt(connection.stream, http2Stream, endStream);
    record.mutualTls = true;
    record.sourceIdentity = tunnel.peerIdentity;
    record.destinationWorkload = this.workload;
    record.destinationIdentity = this.#identity;
    record.hboneAddress = request.authority;
    if (proxy.log.wantsDecisions) {
      record.tunnel = {
        localIdentity: this.#identity,
        peerIdentity: tunnel.peerIdentity ?? '',
        tls: tunnel.description,
        authority: request.authority ?? '',
      };
    }
    connection.begin(request);
  }
}

/** One CONNECT. */
class InboundConnection implements StreamObserver, LiveConnection {
  readonly stream: TunnelStream;
  authorized: Authorized | undefined;
  readonly #owner: InboundTunnel;
  readonly #record: ConnectionRecord;

  constructor(owner: InboundTunnel, record: ConnectionRecord) {
    this.#owner = owner;
    this.#record = record;
    const { proxy } = owner.instance;
    this.stream = new TunnelStream(proxy.reactor, proxy.memory, this);
    owner.instance.took(this);
  }

  begin(request: Http2Request): void {
    const record = this.#record;
    const { instance, source, local } = this.#owner;
    const { proxy } = instance;
    const workload = this.#record.destinationWorkload;
    const decision = decideInbound(
      proxy.state,
      workload,
      { sourceIp: source.ip, destinationIp: local.ip },
      {
        method: request.method,
        authority: request.authority ?? '',
        forwardedHost: header(request.headers, 'forwarded', parseForwarded),
        forwardedNetwork: header(request.headers, 'x-forwarded-network'),
      },
      { network: proxy.options.network },
    );
    if (decision.kind === 'reject') {
      record.decision = { kind: 'reject', status: decision.status };
      if (request.method !== 'CONNECT') return this.stream.decline(decision.status, decision.reason);
      return this.stream.refuse(decision.status, decision.reason);
    }
    if (workload === undefined) return this.stream.refuse(503, GONE);
    if (decision.proxyProtocol !== undefined) {
      record.decision = { kind: 'reject', status: 503 };
      return this.stream.refuse(503, 'the PROXY protocol towards applications is not supported yet');
    }
    record.decision = { kind: 'accept' };
    record.sourceWorkload = decision.sourceWorkload;
    record.destinationService = decision.destinationService;
    const verdict = authorize(proxy, record, workload, decision.target, this.#owner.peer);
    if (typeof verdict === 'string') return this.stream.refuse(401, verdict);
    this.authorized = verdict;
    record.dialled = decision.target;
    record.dialledFrom = source.ip;
    try {
      this.stream.attach(instance.dialler.deliver(decision.target, source.ip), true);
    } catch (error) {
      this.stream.refuse(503, `connect: ${messageOf(error)}`);
    }
  }

  abort(failure: string): void {
    this.stream.abort(failure);
  }

  onTargetConnected(stream: TunnelStream): void {
    const { destinationWorkload } = this.#record;
    const baggage: HeaderField[] =
      this.#owner.instance.proxy.options.responseBaggage && destinationWorkload !== undefined
        ? [['baggage', baggageHeader(destinationWorkload)]]
        : [];
    stream.accept(baggage);
  }

  onStreamClosed(stream: TunnelStream, failure: string | undefined): void {
    const { instance } = this.#owner;
    instance.lost(this);
    instance.proxy.log.end(this.#record, {
      sentBytes: stream.bytesToTunnel,
      receivedBytes: stream.bytesFromTunnel,
      failure,
    });
  }
}

function header(
  headers: readonly HeaderField[],
  name: string,
  parse: (value: string) => string | undefined = (value) => value,
): string | undefined {
  const field = headers.find(([key]) => key === name);
  return field === undefined ? undefined : parse(field[1]);
}
