import { tryParseSocketAddress } from '../ip/index.ts';

/** What a CONNECT asks for. */
export type Authority =
  | { readonly kind: 'address'; readonly ip: string; readonly port: number }
  | { readonly kind: 'hostname'; readonly hostname: string; readonly port: number };

const HOSTNAME_PORT = /^([A-Za-z0-9_*](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?):(\d{1,5})$/;

/**
 * Reads `:authority` as facts section 1.3 has it: a socket address, else a host name with a port; the port is required and
 * not 0. Undefined for anything else; user names and bracketed names are something else.
 */
export function parseAuthority(text: string): Authority | undefined {
  const address = tryParseSocketAddress(text);
  if (address !== undefined) return address.port === 0 ? undefined : { kind: 'address', ...address };
  const match = HOSTNAME_PORT.exec(text);
  if (match === null) return undefined;
  const port = Number(match[2]);
  // `10.0.0.300:80` is a mistyped address, never a name: no top-level domain is a number (RFC 3696 section 2).
  if (port === 0 || port > 65535 || /(?:^|\.)\d+\.?$/.test(match[1]!)) return undefined;
  return { kind: 'hostname', hostname: match[1]!, port };
}
