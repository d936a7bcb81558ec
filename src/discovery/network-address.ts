import { formatIp, tryParseIp } from '../ip/index.ts';
import type { NamespacedHostname, NetworkAddress } from './model.ts';

/** A gateway's destination or a VIP, taken apart. */
export type AddressParts =
  | { readonly kind: 'address'; readonly network: string; readonly ip: string }
  | { readonly kind: 'hostname'; readonly namespace: string; readonly hostname: string };

/** `network/ip`. The IP is taken as it stands. */
export function formatNetworkAddress(network: string, ip: string): NetworkAddress {
  return `${network}/${ip}`;
}

/** `namespace/hostname`. */
export function formatNamespacedHostname(namespace: string, hostname: string): NamespacedHostname {
  return `${namespace}/${hostname}`;
}

/**
 * `network/ip` (the network may be empty) when an IP follows the first slash, else `namespace/hostname` with both parts
 * present and no further slash; undefined for anything else. The IP comes back as canonical text.
 */
export function parseDestination(text: string): AddressParts | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const before = text.slice(0, slash);
  const after = text.slice(slash + 1);
  const ip = tryParseIp(after);
  if (ip !== undefined) return { kind: 'address', network: before, ip: formatIp(ip) };
  if (before === '' || after === '' || after.includes('/')) return undefined;
  return { kind: 'hostname', namespace: before, hostname: after };
}

/** The canonical text of `network/ip`; undefined when it is something else. */
export function canonicalNetworkAddress(text: string): NetworkAddress | undefined {
  const parts = parseDestination(text);
  return parts?.kind === 'address' ? formatNetworkAddress(parts.network, parts.ip) : undefined;
}

/** True for `namespace/hostname`: both present, one slash. A hostname that reads as an IP is one too (it can be a service key). */
export function isNamespacedHostname(text: string): boolean {
  const slash = text.indexOf('/');
  return slash > 0 && slash < text.length - 1 && text.indexOf('/', slash + 1) < 0;
}
