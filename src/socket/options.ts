import type { NetworkNamespace } from '../netns/index.ts';

/** What a listening and a connecting socket have in common. */
export interface SocketOptions {
  /** Where the socket lives, for life; the namespace of the calling thread by default. May be closed once the socket is made. */
  readonly namespace?: NetworkNamespace | undefined;
  /** The namespace that the calling thread is in, where that is known: see {@link NetworkNamespace.run}. Asked of the kernel by default. */
  readonly home?: NetworkNamespace | undefined;
  /**
   * IP_TRANSPARENT, and IPV6_TRANSPARENT on an IPv6 socket: a listener receives connections to any address that TPROXY hands to
   * it, a connecting socket may have any source address. Needs CAP_NET_ADMIN. Off by default.
   */
  readonly transparent?: boolean | undefined;
  /** SO_MARK, 0 to 0xffffffff: accepted sockets inherit the listener's. Needs CAP_NET_ADMIN. Not set by default. */
  readonly mark?: number | undefined;
  /** IP_FREEBIND: bind to an address that this machine does not have (yet). Off by default. */
  readonly freebind?: boolean | undefined;
  /** TCP_NODELAY, on by default: what relays must not add a delay of its own. Accepted sockets inherit the listener's. */
  readonly noDelay?: boolean | undefined;
  /**
   * TCP_CONGESTION: the congestion control by its name, `reno` or `cubic`; accepted sockets inherit the listener's. The namespace's own
   * by default (net.ipv4.tcp_congestion_control). The kernel answers `ENOENT` for one that it does not have.
   */
  readonly congestionControl?: string | undefined;
}

/** A listening socket. */
export interface ListenerOptions extends SocketOptions {
  /** An IP address, not a name: `127.0.0.1`, `::` for every address of both families. */
  readonly host: string;
  /** 0 lets the kernel choose. */
  readonly port: number;
  /** SO_REUSEPORT: several listeners of one effective user share the port, and the kernel spreads connections. Off by default. */
  readonly reusePort?: boolean | undefined;
  /** Connections that wait to be accepted; the kernel caps it at net.core.somaxconn. 128 by default. */
  readonly backlog?: number | undefined;
  /** An IPv6 listener that takes no IPv4. Off by default, whatever net.ipv6.bindv6only says. */
  readonly ipv6Only?: boolean | undefined;
}

/** TCP keepalive; the defaults are ztunnel's (facts section 1.9). The kernel counts in seconds, so times are rounded up. */
export interface KeepAlive {
  /** Silence before the first probe, 180 000 by default. */
  readonly idleMs?: number | undefined;
  /** Between probes, 180 000 by default. */
  readonly intervalMs?: number | undefined;
  /** Unanswered probes until the connection is dead, 1 to 127, 9 by default. */
  readonly probes?: number | undefined;
}

/** A connecting socket. */
export interface ConnectingOptions extends SocketOptions {
  /** An IP address, not a name. */
  readonly host: string;
  readonly port: number;
  /** Bind to this address first, of the same family as `host`; the kernel chooses the port unless one is given. */
  readonly source?: { readonly ip: string; readonly port?: number | undefined } | undefined;
  /** SO_REUSEADDR: with a `source` with a port, that port only has to be free of listeners, and towards this one destination. Off by default. */
  readonly reuseAddress?: boolean | undefined;
  /**
   * IP_BIND_ADDRESS_NO_PORT: with a `source` without a port, choose the port at connect time, when it only has to be free towards
   * this one destination. Off by default: such ports come from the half of the range that ordinary clients use too, which is where
   * a spoofed source meets its owner's own connection (facts section 12).
   */
  readonly bindAddressNoPort?: boolean | undefined;
  /** IP_LOCAL_PORT_RANGE (Linux 6.3): the kernel chooses the source port from here, both ends included. */
  readonly localPortRange?: readonly [from: number, to: number] | undefined;
  /** Off by default; `true` takes the defaults of {@link KeepAlive}. */
  readonly keepAlive?: boolean | KeepAlive | undefined;
}
