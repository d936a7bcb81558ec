/**
 * The proxy's own capture ports. A tunnel or a captured connection that leads to one of them would lead the proxy to itself
 * (facts section 2.8).
 */
export const ILLEGAL_PORTS: ReadonlySet<number> = new Set([15001, 15006, 15008]);

/** Where HBONE is taken in, in every pod (facts section 2.1). */
export const INBOUND_HBONE_PORT = 15008;

/** The text other tools look for when a connection would lead back to the proxy (facts section 11.5). */
export const SELF_CALL = 'attempted recursive call to ourselves';
