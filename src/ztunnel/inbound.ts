import { type Workload, workloadIdentity } from '../discovery/index.ts';
import {
  type ConnectionAcceptor,
  HboneTunnel,
  type StreamObserver,
  type TlsContext,
  type TunnelOwner,
  TunnelStream,
} from '../engine/index.ts';
import type { HeaderField, Http2Request, Http2Stream } from '../http2/index.ts';
import type { SocketAddress } from '../ip/index.ts';
import { originalDestination } from '../socket/index.ts';
import { type Authorized, authorize } from './authorize.ts';
import { formatBaggage, workloadBaggage } from './baggage.ts';
import type { ConnectionRecord } from './connection-log.ts';
import { decideInbound } from './decide-inbound.ts';
import { parseForwarded } from './forwarded.ts';
import { verifierFor } from './peer-verifier.ts';
import { type LiveConnection, localWorkloadAt, type ProxyContext } from './proxy-context.ts';
import { resetAndClose } from './relayed-connection.ts';

/** HBONE for this node's pods (port 15008): TLS as the pod, then CONNECT streams, each judged and dialled from its client's address. */
export class InboundListener implements ConnectionAcceptor {
  readonly tunnels = new Set<HboneTunnel>();
  readonly #proxy: ProxyContext;

  constructor(proxy: ProxyContext) {
    this.#proxy = proxy;
  }

  onConnection(fd: number, source: SocketAddress): void {
    const proxy = this.#proxy;
    let local: SocketAddress;
    try {
      local = originalDestination(fd);
    } catch {
      return resetAndClose(fd);
    }
    const workload = localWorkloadAt(proxy, local.ip);
    const identity = workload === undefined ? undefined : workloadIdentity(workload);
    const context = identity === undefined ? undefined : proxy.tls.get(identity);
    if (workload === undefined || identity === undefined || context === undefined) {
      const record = proxy.log.begin('inbound', source, local);
      resetAndClose(fd);
      const failure =
        workload === undefined
          ? `no workload of this node has the address ${local.ip}`
          : `no certificate for ${identity}`;
      return proxy.log.end(record, { sentBytes: 0, receivedBytes: 0, failure });
    }
    new InboundTunnel(proxy, this.tunnels, fd, source, local, workload, context);
  }
}

/** One peer's tunnel to one pod. */
class InboundTunnel implements TunnelOwner {
  readonly proxy: ProxyContext;
  readonly source: SocketAddress;
  readonly local: SocketAddress;
  readonly workload: Workload;
  readonly #tunnels: Set<HboneTunnel>;

  constructor(
    proxy: ProxyContext,
    tunnels: Set<HboneTunnel>,
    fd: number,
    source: SocketAddress,
    local: SocketAddress,
    workload: Workload,
    context: TlsContext,
  ) {
    this.proxy = proxy;
    this.source = source;
    this.local = local;
    this.workload = workload;
    this.#tunnels = tunnels;
    const { reactor, memory, options } = proxy;
    // Facts section 1.6: the peer's trust domain must be the one of our own certificate.
    const verifier = verifierFor({ trustDomain: workload.trustDomain });
    tunnels.add(
      new HboneTunnel({ reactor, memory, role: 'server', fd, context, verifier, owner: this, http2: options.http2 }),
    );
  }

  onTunnelReady(): void {}

  onTunnelCapacity(): void {}

  onTunnelClosed(tunnel: HboneTunnel, failure: string | undefined): void {
    this.#tunnels.delete(tunnel);
    // Before it had a peer it was nobody's connection: say so once, here.
    if (tunnel.peerIdentity === undefined) {
      const record = this.proxy.log.begin('inbound', this.source, this.local);
      record.destinationWorkload = this.workload;
      record.decision = { kind: 'reject', cause: 'handshake' };
      this.proxy.log.end(record, { sentBytes: 0, receivedBytes: 0, failure: failure ?? 'closed before the handshake' });
    }
  }

  onTunnelRequest(
    tunnel: HboneTunnel,
    http2Stream: Http2Stream<TunnelStream>,
    request: Http2Request,
    endStream: boolean,
  ): void {
    const { proxy } = this;
    const record = proxy.log.begin('inbound', this.source, this.local);
    const connection = new InboundConnection(this, record, tunnel);
    tunnel.adopt(connection.stream, http2Stream, endStream);
    record.mutualTls = true;
    record.sourceIdentity = tunnel.peerIdentity;
    record.destinationWorkload = this.workload;
    record.destinationIdentity = workloadIdentity(this.workload);
    record.hboneAddress = request.authority;
    record.tunnel = {
      localIdentity: record.destinationIdentity ?? '',
      peerIdentity: tunnel.peerIdentity ?? '',
      tls: tunnel.description,
      authority: request.authority ?? '',
    };
    connection.begin(request);
  }
}

/** One CONNECT. */
class InboundConnection implements StreamObserver, LiveConnection {
  readonly stream: TunnelStream;
  authorized: Authorized | undefined;
  readonly #owner: InboundTunnel;
  readonly #record: ConnectionRecord;
  readonly #tunnel: HboneTunnel;

  constructor(owner: InboundTunnel, record: ConnectionRecord, tunnel: HboneTunnel) {
    this.#owner = owner;
    this.#record = record;
    this.#tunnel = tunnel;
    this.stream = new TunnelStream(owner.proxy.reactor, owner.proxy.memory, this);
    owner.proxy.live.add(this);
  }

  begin(request: Http2Request): void {
    const record = this.#record;
    const { proxy, source, local, workload } = this.#owner;
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
      return this.stream.refuse(decision.status, decision.reason);
    }
    if (decision.proxyProtocol !== undefined) {
      record.decision = { kind: 'reject', status: 503 };
      return this.stream.refuse(503, 'the PROXY protocol towards applications is not supported yet');
    }
    record.decision = { kind: 'accept' };
    record.sourceWorkload = decision.sourceWorkload;
    record.destinationService = decision.destinationService;
    const verdict = authorize(proxy, record, workload, decision.target, this.#tunnel.peerIdentity);
    if (typeof verdict === 'string') return this.stream.refuse(401, verdict);
    this.authorized = verdict;
    record.dialled = decision.target;
    record.dialledFrom = source.ip;
    try {
      this.stream.attach(proxy.dialler.dial(decision.target, source.ip), true);
    } catch (error) {
      this.stream.refuse(503, `connect: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  abort(failure: string): void {
    this.stream.abort(failure);
  }

  onTargetConnected(stream: TunnelStream): void {
    const { proxy, workload } = this.#owner;
    const baggage: HeaderField[] = proxy.options.responseBaggage
      ? [['baggage', formatBaggage(workloadBaggage(workload))]]
      : [];
    stream.accept(baggage);
  }

  onStreamClosed(stream: TunnelStream, failure: string | undefined): void {
    this.#owner.proxy.live.delete(this);
    this.#owner.proxy.log.end(this.#record, {
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
