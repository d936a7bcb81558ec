import { type RelayObserver, TcpRelay } from '../engine/index.ts';
import { messageOf } from '../errors/index.ts';
import type { SocketAddress } from '../ip/index.ts';
import { libc, resetOnClose } from '../system/index.ts';
import type { Authorized } from './authorize.ts';
import type { ConnectionRecord } from './connection-log.ts';
import type { LiveConnection, ProxyContext } from './proxy-context.ts';
import type { ProxyInstance } from './proxy-instance.ts';

/** What {@link relay} joins an accepted connection with. */
export interface RelayPlan {
  readonly target: SocketAddress;
  /** The address to dial from; undefined: the kernel's choice. */
  readonly sourceIp: string | undefined;
  /** Outbound, inbound, or both for a connection between two pods of this proxy. */
  readonly records: readonly ConnectionRecord[];
  readonly authorized: Authorized | undefined;
  /** Whether the target is a pod of this node. */
  readonly isDelivery: boolean;
  /** Where it came in. */
  readonly from: ProxyInstance;
  /** Where it is dialled: another instance where one pod's connection is handed over to another's. */
  readonly to: ProxyInstance;
}

/**
 * Joins an accepted connection with one dialled to its target, and closes its records when it ends.
 *
 * @param fd - the accepted descriptor, taken over
 */
export function relay(fd: number, plan: RelayPlan): void {
  const { target, sourceIp, records, to } = plan;
  const { proxy } = to;
  for (const record of records) {
    record.dialled = target;
    record.dialledFrom = sourceIp;
  }
  let upstreamFd: number;
  try {
    const clientPort = records[0]!.source.port;
    upstreamFd = plan.isDelivery
      ? to.dialler.deliver(target, sourceIp, clientPort)
      : to.dialler.dial(target, sourceIp, clientPort);
  } catch (error) {
    return refuse(proxy, fd, records, `connect: ${messageOf(error)}`);
  }
  try {
    new RelayedConnection(fd, upstreamFd, plan);
  } catch (error) {
    // The relay has closed both descriptors.
    endUnserved(proxy, records, messageOf(error));
  }
}

class RelayedConnection implements RelayObserver, LiveConnection {
  readonly authorized: Authorized | undefined;
  readonly #plan: RelayPlan;
  readonly #relay: TcpRelay;
  #failure: string | undefined;

  constructor(downstreamFd: number, upstreamFd: number, plan: RelayPlan) {
    this.authorized = plan.authorized;
    this.#plan = plan;
    const { reactor, memory, pipes } = plan.to.proxy;
    this.#relay = new TcpRelay({ reactor, memory, pipes, downstreamFd, upstreamFd, observer: this });
    plan.from.took(this);
    if (plan.to !== plan.from) plan.to.took(this);
  }

  abort(failure: string): void {
    this.#failure = failure;
    this.#relay.abort(failure);
  }

  onRelayClosed(relay: TcpRelay, failure: string | undefined): void {
    const { from, to, records } = this.#plan;
    from.lost(this);
    if (to !== from) to.lost(this);
    for (const record of records) endRelayed(to.proxy, record, relay, this.#failure ?? failure);
  }
}

function endRelayed(proxy: ProxyContext, record: ConnectionRecord, relay: TcpRelay, failure: string | undefined): void {
  const outbound = record.direction === 'outbound';
  proxy.log.end(record, {
    sentBytes: outbound ? relay.bytesUp : relay.bytesDown,
    receivedBytes: outbound ? relay.bytesDown : relay.bytesUp,
    failure,
  });
}

/** Ends an accepted connection before a byte of it was read: the client sees a reset. */
export function refuse(proxy: ProxyContext, fd: number, records: readonly ConnectionRecord[], failure: string): void {
  resetAndClose(fd);
  endUnserved(proxy, records, failure);
}

function endUnserved(proxy: ProxyContext, records: readonly ConnectionRecord[], failure: string): void {
  for (const record of records) proxy.log.end(record, { sentBytes: 0, receivedBytes: 0, failure });
}

/** RST rather than FIN: nothing was served, and a client must not take it for an empty answer. */
export function resetAndClose(fd: number): void {
  resetOnClose(fd);
  libc().close(fd);
}
