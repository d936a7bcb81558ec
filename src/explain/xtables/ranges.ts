import { formatIp, ipFromBytes } from '../../ip/index.ts';

/** The address in a `union nf_inet_addr` (16 bytes, an IPv4 address in the first four). */
export function inetAddress(info: Buffer, at: number, family: 4 | 6): string {
  return formatIp(ipFromBytes(info.subarray(at, at + (family === 4 ? 4 : 16))));
}

/** Whether an address agrees with another under a mask; both in `union nf_inet_addr`. */
export function agreesMasked(address: Uint8Array, info: Buffer, at: number, maskAt: number): boolean {
  return address.every((byte, i) => ((byte ^ info[at + i]!) & info[maskAt + i]!) === 0);
}

/** Ports as iptables writes them: `80`, `1000:2000`. */
export function portText(first: number, last: number): string {
  return first === last ? String(first) : `${first}:${last}`;
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** `0x1` or `0x1/0x3`. */
export function maskedText(value: number, mask: number): string {
  return mask === 0xffff_ffff ? hex(value) : `${hex(value)}/${hex(mask)}`;
}

export function not(inverted: boolean): string {
  return inverted ? '! ' : '';
}
