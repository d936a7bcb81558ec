import type { Mark } from './plan.ts';

// Marks of pod mode (facts section 7.1).

/** On the sockets of a proxy that serves a pod from inside (SO_MARK): its traffic is not redirected. */
export const INPOD_MARK: Mark = { value: 0x539, mask: 0xfff };
/** In the pod: an answer to a connection that the proxy opened with a client's address, and what TPROXY gave it. */
export const INPOD_TPROXY_MARK: Mark = { value: 0x111, mask: 0xfff };

// Marks of facts section 7.6, by their names there. CONNSKIP and PROXY include the SKIP bit, so that a test for SKIP matches both.

/** First packet of a captured connection of a pod: routed by table 101 to istioout. */
export const OUTBOUND_MARK: Mark = { value: 0x100, mask: 0x100 };
/** Leave alone: routed by the main table. */
export const SKIP_MARK: Mark = { value: 0x200, mask: 0x200 };
/** A connection of the proxy's own, or one that is to be left alone for good. */
export const CONNSKIP_MARK: Mark = { value: 0x220, mask: 0x220 };
/** From the proxy with a pod's address: written on the connection, which is how later packets find the short way. */
export const PROXY_MARK: Mark = { value: 0x210, mask: 0x210 };
/** A later packet of a captured connection: routed by table 102 straight to the proxy. */
export const PROXYRET_MARK: Mark = { value: 0x040, mask: 0x040 };
/** In the proxy's namespace: for a listener, by TPROXY. */
export const TPROXY_MARK: Mark = { value: 0x400, mask: 0xfff };
/** In the proxy's namespace: an answer to a connection that it opened with a pod's address. */
export const ORG_SRC_RET_MARK: Mark = { value: 0x4d3, mask: 0xfff };
