import { formatSocketAddress, type SocketAddress } from '../ip/index.ts';

/**
 * The `forwarded` value of a CONNECT (RFC 7239 in Istio's spelling, facts section 1.2): `for="10.1.0.5:41000"`, and `;host=` with
 * the service's host name, unquoted, when the target is a known service. A host name that would break out of the header is
 * left out.
 */
export function formatForwarded(source: SocketAddress, host?: string): string {
  const forPart = `for="${formatSocketAddress(source.ip, source.port)}"`;
  return host !== undefined && /^[A-Za-z0-9._*-]+$/.test(host) ? `${forPart};host=${host}` : forPart;
}

/**
 * The host of a `forwarded` value (facts section 1.3): of the parts between semicolons the first that begins with `host=`, one
 * pair of quotes taken off. Undefined when there is none, it is empty, or the value is not ASCII. `for=` is not read: any
 * peer could lie in it.
 */
export function parseForwarded(value: string): string | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is what is asked for.
  if (!/^[\x00-\x7f]*$/.test(value)) return undefined;
  for (const part of value.split(';')) {
    const trimmed = part.trim();
    if (!trimmed.startsWith('host=')) continue;
    const host = trimmed.slice(5);
    const quoted = host.length >= 2 && host.startsWith('"') && host.endsWith('"');
    return (quoted ? host.slice(1, -1) : host) || undefined;
  }
  return undefined;
}
