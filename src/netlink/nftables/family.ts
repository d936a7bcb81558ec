import { NFNL_SUBSYS_NFTABLES } from '../constants.ts';
import type { MessageWriter } from '../message-writer.ts';
import { NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 } from './constants.ts';
import { invalid } from './error.ts';

/** The families of tables that rules here live in: IPv4, IPv6, or both at once. */
export type Family = 'ip' | 'ip6' | 'inet';

const numbers: Readonly<Record<Family, number>> = { ip: NFPROTO_IPV4, ip6: NFPROTO_IPV6, inet: NFPROTO_INET };
const names = new Map<number, Family>(Object.entries(numbers).map(([name, number]) => [number, name as Family]));

/** `NFPROTO_…` of a family. @throws {InvalidInputError} `ERR_NFTABLES_INVALID` naming `field` */
export function familyNumber(family: Family, field: string): number {
  const number = numbers[family];
  if (number === undefined) throw invalid(field, `${JSON.stringify(family)} is not "ip", "ip6" or "inet"`);
  return number;
}

/** The family of a table, or nothing for those that this library has no name for (arp, bridge, netdev). */
export function familyName(number: number): Family | undefined {
  return names.get(number);
}

/** `nlmsghdr` and `struct nfgenmsg` (family, version 0, resource 0) of one nf_tables message; the caller ends it. */
export function beginMessage(writer: MessageWriter, type: number, flags: number, family: number): MessageWriter {
  return writer
    .begin((NFNL_SUBSYS_NFTABLES << 8) | type, flags)
    .u8(family)
    .u8(0)
    .u16be(0);
}
