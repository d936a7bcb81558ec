import { randomInt } from 'node:crypto';
import { canonicalIp, type SocketAddress } from '../ip/index.ts';
import { openNetlink } from '../netlink/index.ts';
import { listAddresses } from '../netlink/route/index.ts';
import type { NetworkNamespace } from '../netns/index.ts';
import { openConnecting } from '../socket/index.ts';
import { SystemError } from '../system/index.ts';

/** Opens the proxy's own connections. */
export interface Dialler {
  /**
   * A non-blocking descriptor whose connect is under way; the caller's.
   *
   * @param sourceIp - the client's address, which the other end is to see (IP_TRANSPARENT); undefined: our own
   * @param clientPort - the client's own port towards this destination, which is not taken
   * @throws {SystemError} `EADDRNOTAVAIL`, `EADDRINUSE` where no source port is to be had
   */
  dial(destination: SocketAddress, sourceIp: string | undefined, clientPort?: number): number;
  /** {@link dial}s a pod of this node. */
  deliver(destination: SocketAddress, sourceIp: string | undefined, clientPort?: number): number;
  /** Whether an address is one of the namespace's own, so that a dial would not leave it. Asks the kernel, each time. */
  isOwn(ip: string): boolean;
}

/** How {@link createDialler} makes its sockets. */
export interface DiallerOptions {
  /** Where its sockets live; undefined: where the thread is. Stays its owner's. */
  readonly namespace?: NetworkNamespace | undefined;
  /** Where the thread is, if that is known: see {@link NetworkNamespace.run}. Stays its owner's. */
  readonly home?: NetworkNamespace | undefined;
  /** Bind to the client's own address. Off where the application may see the proxy's. */
  readonly originalSource: boolean;
  /** SO_MARK, by which in-pod redirection knows the proxy's packets from the application's; undefined: none. */
  readonly mark?: number | undefined;
  /** Of connections to this node's pods, see {@link localCongestionControl}; undefined: the namespace's own. */
  readonly localCongestionControl?: string | undefined;
  /**
   * Ports that the client's address is dialled from, both ends included: clients must not use them by themselves (their
   * `ip_local_port_range`). Where a client and we use the same port towards the same target, both flows are one to conntrack, and break
   * (facts section 12). Default 10,240 to 32,767, below Linux's 32,768 to 60,999.
   */
  readonly sourcePorts?: readonly [from: number, to: number] | undefined;
}

const SOURCE_PORTS = [10_240, 32_767] as const;
/** Ports tried before a dial fails: with nine of ten in use towards one target, one dial in 40,000 does. */
const MOST_TRIES = 100;

/** A target that is the client itself is dialled from our own address (facts section 2.6 step 4). */
export function createDialler({
  namespace,
  home,
  originalSource,
  mark,
  localCongestionControl,
  sourcePorts = SOURCE_PORTS,
}: DiallerOptions): Dialler {
  const [from, to] = sourcePorts;
  const anyPort = () => from + randomInt(to - from + 1);
  // In turn, so that a port rests for as long as it can; from anywhere, since another thread dials from the same addresses.
  let nextPort = anyPort();
  const takePort = (clientPort: number | undefined): number => {
    const port = nextPort;
    nextPort = port === to ? from : port + 1;
    return port === clientPort && from !== to ? takePort(clientPort) : port;
  };
  const open = (
    destination: SocketAddress,
    sourceIp: string | undefined,
    clientPort: number | undefined,
    congestionControl: string | undefined,
  ): number => {
    const spoof = originalSource && sourceIp !== undefined && canonicalIp(sourceIp) !== canonicalIp(destination.ip);
    const target = {
      namespace,
      home,
      host: destination.ip,
      port: destination.port,
      keepAlive: true,
      mark,
      congestionControl,
    };
    if (!spoof) return openConnecting(target).release();
    for (let tries = 1; ; tries++) {
      const source = { ip: sourceIp, port: takePort(clientPort) };
      try {
        return openConnecting({ ...target, source, reuseAddress: true, transparent: true, freebind: true }).release();
      } catch (error) {
        if (tries === MOST_TRIES || !inUse(error)) throw error;
        // Those after it were taken after it, and may be in use as well.
        nextPort = anyPort();
      }
    }
  };
  return {
    dial: (destination, sourceIp, clientPort) => open(destination, sourceIp, clientPort, undefined),

    deliver: (destination, sourceIp, clientPort) => open(destination, sourceIp, clientPort, localCongestionControl),

    isOwn(ip) {
      using route = openNetlink({ family: 'route', namespace });
      const wanted = canonicalIp(ip);
      return listAddresses(route).some((address) => canonicalIp(address.ip) === wanted);
    },
  };
}

/** `EADDRINUSE`: a listener has the port; `EADDRNOTAVAIL`: a connection to the same target has it, or had it a moment ago. */
function inUse(error: unknown): boolean {
  return error instanceof SystemError && (error.code === 'EADDRINUSE' || error.code === 'EADDRNOTAVAIL');
}
