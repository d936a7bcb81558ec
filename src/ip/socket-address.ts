import { formatIp, InvalidIpError, quoteInput, tryParseIp } from './address.ts';

/** An address and a port; `ip` is canonical text when it comes from this module. */
export interface SocketAddress {
  readonly ip: string;
  readonly port: number;
}

/** `10.0.0.1:80` or `[fd00::1]:80` (RFC 3986 section 3.2.2). The address is taken as it stands. */
export function formatSocketAddress(ip: string, port: number): string {
  return ip.indexOf(':') >= 0 ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** Parses `ipv4:port` or `[ipv6]:port`, port 0–65535; undefined for anything else, a host name included. */
export function tryParseSocketAddress(text: string): SocketAddress | undefined {
  const colon = text.lastIndexOf(':');
  const portText = text.slice(colon + 1);
  if (colon <= 0 || !/^\d{1,5}$/.test(portText) || Number(portText) > 65535) return undefined;
  const bracketed = text.startsWith('[');
  if (bracketed && text.charCodeAt(colon - 1) !== 0x5d) return undefined;
  const host = bracketed ? text.slice(1, colon - 1) : text.slice(0, colon);
  if (bracketed !== host.includes(':')) return undefined;
  const ip = tryParseIp(host);
  return ip === undefined ? undefined : { ip: formatIp(ip), port: Number(portText) };
}

/** As {@link tryParseSocketAddress}. @throws {@link InvalidIpError} ERR_IP_SOCKET_ADDRESS */
export function parseSocketAddress(text: string, field?: string): SocketAddress {
  const address = tryParseSocketAddress(text);
  if (address === undefined) {
    throw new InvalidIpError({
      code: 'ERR_IP_SOCKET_ADDRESS',
      op: 'ip.parseSocketAddress',
      field,
      message: `${quoteInput(text)} is no socket address of the form ipv4:port or [ipv6]:port`,
    });
  }
  return address;
}
