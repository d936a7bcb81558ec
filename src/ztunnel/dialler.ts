import { canonicalIp, type SocketAddress } from '../ip/index.ts';
import { openNetlink } from '../netlink/index.ts';
import { listAddresses } from '../netlink/route/index.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import { openConnecting } from '../socket/index.ts';

/** Opens the proxy's own connections. */
export interface Dialler {
  /**
   * A non-blocking descriptor whose connect is under way; the caller's.
   *
   * @param sourceIp - the client's address, which the other end is to see (IP_TRANSPARENT); undefined: our own
   * @throws {SystemError}
   */
  dial(destination: SocketAddress, sourceIp: string | undefined): number;
  /** Whether an address is one of the namespace's own, so that a dial would not leave it. Asks the kernel, each time. */
  isOwn(ip: string): boolean;
}

/** How {@link createDialler} makes its sockets. */
export interface DiallerOptions {
  /** Where its sockets live; undefined: where the thread is. Stays its owner's. */
  readonly namespace?: NetworkNamespace | undefined;
  /** Bind to the client's own address. Off where the application may see the proxy's. */
  readonly originalSource: boolean;
  /** SO_MARK, by which in-pod redirection knows the proxy's packets from the application's; undefined: none. */
  readonly mark?: number | undefined;
}

/** A target that is the client itself is dialled from our own address (facts section 2.6 step 4). */
export function createDialler({ namespace, originalSource, mark }: DiallerOptions): Dialler {
  return {
    dial(destination, sourceIp) {
      const spoof = originalSource && sourceIp !== undefined && canonicalIp(sourceIp) !== canonicalIp(destination.ip);
      return openConnecting({
        namespace,
        host: destination.ip,
        port: destination.port,
        keepAlive: true,
        mark,
        ...(spoof ? { source: { ip: sourceIp }, transparent: true, freebind: true } : {}),
      }).release();
    },

    isOwn(ip) {
      using route = openNetlink({ family: 'route', namespace });
      const wanted = canonicalIp(ip);
      return listAddresses(route).some((address) => canonicalIp(address.ip) === wanted);
    },
  };
}
