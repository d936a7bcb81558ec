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

/** Dials from the client's own address. A target that is the client itself is dialled from ours (facts section 2.6 step 4). */
export const transparentDialler: Dialler = {
  dial(destination, sourceIp) {
    const spoof = sourceIp !== undefined && canonicalIp(sourceIp) !== canonicalIp(destination.ip);
    return openConnecting({
      host: destination.ip,
      port: destination.port,
      keepAlive: true,
      ...(spoof ? { source: { ip: sourceIp }, transparent: true, freebind: true } : {}),
    }).release();
  },
};
