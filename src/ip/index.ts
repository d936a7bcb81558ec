/**
 * IP addresses, CIDR ranges and socket addresses as every other module reads them: one parser, one canonical text, and
 * IPv4-mapped IPv6 (`::ffff:10.0.0.1`) folded into IPv4 at the door, so that a comparison never meets the same host
 * under two spellings.
 *
 * ```ts
 * import { canonicalIp, cidrContains, parseCidr, parseIp, parseSocketAddress } from 'ambient-kit/ip';
 *
 * canonicalIp('::FFFF:10.1.0.5');                      // '10.1.0.5'
 * canonicalIp('2001:DB8:0:0::1');                      // '2001:db8::1'
 * const pods = parseCidr('10.1.0.0/16');               // once, when the policy is read
 * cidrContains(pods, parseIp('10.1.0.5'));             // true; four integer operations
 * parseSocketAddress('[fd00::1]:8080');                // { ip: 'fd00::1', port: 8080 }
 * ```
 *
 * @module ip
 */

export {
  canonicalIp,
  formatIp,
  formatIpv4,
  InvalidIpError,
  type IpAddress,
  ipBytes,
  ipFromBytes,
  parseIp,
  sameIp,
  tryParseIp,
} from './address.ts';
export { type Cidr, cidrContains, parseCidr, tryParseCidr } from './cidr.ts';
export {
  formatSocketAddress,
  parseSocketAddress,
  type SocketAddress,
  tryParseSocketAddress,
} from './socket-address.ts';
