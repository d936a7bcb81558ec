import { type RelayObserver, TcpRelay } from '../engine/index.ts';
import { messageOf } from '../errors/index.ts';
import type { SocketAddress } from '../ip/index.ts';
import { libc, resetOnClose } from '../system/index.ts';
import type { Authorized } from './authorize.ts';
import type { ConnectionRecord } from './connection-log.ts';
import type { LiveConnection, ProxyContext } from './proxy-context.ts';

/**
 * Joins an accepted connection with one dialled from the client's own address, and closes its records when it ends.
 *
 * @param fd - the accepted descriptor, taken over
 * @param records - outbound, inbound, or both for a connection between two pods of this node
 */
export function relay(
  proxy: ProxyContext,
  fd: number,
  target: SocketAddress,
  records: readonly ConnectionRecord[],
  authorized: Authorized | undefined,
): void {
  const sourceIp = records[0]!.source.ip;
  for (const record of records) {
    record.dialled = target;
    record.dialledFrom = sourceIp;
  }
  let upstreamFd: number;
  try {
    upstreamFd = proxy.dialler.dial(target, sourceIp);
  } catch (error) {
    return refuse(proxy, fd, records, `connect: ${messageOf(error)}`);
  }
  try {
    new RelayedConnection(proxy, fd, upstreamFd, records, authorized);
  } catch (error) {
    // The relay has closed both descriptors.
    endUnserved(proxy, records, messageOf(error));
  }
}

class RelayedConnection implements RelayObserver, LiveConnection {
  readonly authorized: Authorized | undefined;
  readonly #proxy: ProxyContext;
  readonly #records: readonly ConnectionRecord[];
  readonly #relay: TcpRelay;
  #failure: string | undefined;

  constructor(
    proxy: ProxyContext,
    downstreamFd: number,
    upstreamFd: number,
    records: readonly ConnectionRecord[],
    authorized: Authorized | undefined,
  ) {
    this.authorized = authorized;
    this.#proxy = proxy;
    this.#records = records;
    const { reactor, memory, pipes } = proxy;
    this.#relay = new TcpRelay({ reactor, memory, pipes, downstreamFd, upstreamFd, observer: this });
    proxy.live.add(this);
  }

  abort(failure: string): void {
    this.#failure = failure;
    this.#relay.abort(failure);
  }

  onRelayClosed(relay: TcpRelay, failure: string | undefined): void {
    this.#proxy.live.delete(this);
    for (const record of this.#records) endRelayed(this.#proxy, record, relay, this.#failure ?? failure);
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
