import { canonicalIp, type SocketAddress } from '../ip/index.ts';
import { openConnecting } from '../socket/index.ts';

/** Opens the proxy's own connections, in the namespace that its thread is in. */
export interface Dialler {
  /**
   * A non-blocking descriptor whose connect is under way; the caller's.
   *
   * @param sourceIp - the client's address, which the other end is to see (IP_TRANSPARENT); undefined: our own
   * @throws {SystemError}
   */
  dial(destination: SocketAddress, sourceIp: string | undefined): number;
}

/** How {@link createDialler} makes its sockets. */
export interface DiallerOptions {
  /** Bind to the client's own address. Off where the application may see the proxy's. */
  readonly originalSource: boolean;
  /** SO_MARK, by which in-pod redirection knows the proxy's packets from the application's; undefined: none. */
  readonly mark?: number | undefined;
}

/** A target that is the client itself is dialled from our own address (facts section 2.6 step 4). */
export function createDialler({ originalSource, mark }: DiallerOptions): Dialler {
  return {
    dial(destination, sourceIp) {
      const spoof = originalSource && sourceIp !== undefined && canonicalIp(sourceIp) !== canonicalIp(destination.ip);
      return openConnecting({
        host: destination.ip,
        port: destination.port,
        keepAlive: true,
        mark,
        ...(spoof ? { source: { ip: sourceIp }, transparent: true, freebind: true } : {}),
      }).release();
    },
  };
}
