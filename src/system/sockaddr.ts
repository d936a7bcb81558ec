import { AmbientError } from '../errors/index.ts';
import { formatIp, formatIpv4, ipBytes, ipFromBytes, parseIp, type SocketAddress } from '../ip/index.ts';
import { AF_INET, AF_INET6 } from './constants.ts';

/** Room for either: `struct sockaddr_in` is 16 bytes, `struct sockaddr_in6` is 28. */
export const SOCKADDR_BYTES = 28;

/**
 * `struct sockaddr_in` or `sockaddr_in6` (family in host byte order, port and address in network byte order).
 *
 * @param family - AF_INET6 makes an IPv4 address v4-mapped, as a dual-stack socket wants it; by default the address decides
 * @returns 16 or 28 bytes, owned by the caller
 * @throws {InvalidIpError} `ERR_IP_ADDRESS`; {@link AmbientError} `ERR_SYSTEM_SOCKADDR` for a port out of range, or IPv6 for AF_INET
 */
export function encodeSockaddr(address: SocketAddress, family?: typeof AF_INET | typeof AF_INET6): Buffer {
  const { port } = address;
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) throw malformed(`port ${port} is not 0 to 65535`);
  const ip = parseIp(address.ip, 'ip');
  if (ip.family === 4 && family !== AF_INET6) {
    const buffer = Buffer.alloc(16);
    buffer.writeUInt16LE(AF_INET, 0);
    buffer.writeUInt16BE(port, 2);
    buffer.set(ipBytes(ip), 4);
    return buffer;
  }
  if (family === AF_INET) throw malformed(`${formatIp(ip)} does not fit an IPv4 socket`);
  const buffer = Buffer.alloc(SOCKADDR_BYTES);
  buffer.writeUInt16LE(AF_INET6, 0);
  buffer.writeUInt16BE(port, 2);
  const bytes = ipBytes(ip);
  if (bytes.length === 4) buffer.writeUInt16BE(0xffff, 18);
  buffer.set(bytes, 24 - bytes.length);
  return buffer;
}

/**
 * Reads `struct sockaddr_in` or `sockaddr_in6` at the start of `buffer`; v4-mapped addresses come out as IPv4.
 *
 * @throws {AmbientError} `ERR_SYSTEM_SOCKADDR` for any other family
 */
export function decodeSockaddr(buffer: Buffer): SocketAddress {
  const family = buffer.readUInt16LE(0);
  const port = buffer.readUInt16BE(2);
  if (family === AF_INET) return { ip: formatIpv4(buffer.readInt32BE(4)), port };
  if (isV4Mapped(buffer)) return { ip: formatIpv4(buffer.readInt32BE(20)), port };
  if (family === AF_INET6) return { ip: formatIp(ipFromBytes(buffer.subarray(8, 24))), port };
  throw malformed(`address family ${family} is neither AF_INET nor AF_INET6`);
}

/** `struct sockaddr_in6` with an address of ::ffff:0:0/96 (RFC 4291 section 2.5.5.2), which is an IPv4 one. */
export function isV4Mapped(buffer: Buffer): boolean {
  return (
    buffer.readUInt16LE(0) === AF_INET6 &&
    buffer.readInt32LE(8) === 0 &&
    buffer.readInt32LE(12) === 0 &&
    buffer.readInt32BE(16) === 0xffff
  );
}

function malformed(message: string): AmbientError {
  return new AmbientError({ code: 'ERR_SYSTEM_SOCKADDR', op: 'system.sockaddr', message });
}
