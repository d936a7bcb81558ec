import { IPv4CidrRange, IPv6CidrRange } from 'ip-num';
import { formatIp, InvalidIpError, type IpAddress, quoteInput, tryParseIp } from './address.ts';

/**
 * A range, ready to be matched. `text` is canonical: host bits cleared, so that `10.1.2.3/8` reads `10.0.0.0/8`. Network
 * (`n…`) and mask (`m…`) are words as in {@link IpAddress}; a v4 range is held under its mapped prefix, mask 96 bits longer.
 */
export interface Cidr {
  readonly family: 4 | 6;
  readonly prefixLength: number;
  readonly text: string;
  readonly n0: number;
  readonly n1: number;
  readonly n2: number;
  readonly n3: number;
  readonly m0: number;
  readonly m1: number;
  readonly m2: number;
  readonly m3: number;
}

/** Whether the range holds the address. A v6 range never holds a v4 address, not even `::/0`. Allocates nothing. */
export function cidrContains(cidr: Cidr, ip: IpAddress): boolean {
  return (
    cidr.family === ip.family &&
    ((cidr.n3 ^ ip.w3) & cidr.m3) === 0 &&
    ((cidr.n2 ^ ip.w2) & cidr.m2) === 0 &&
    ((cidr.n1 ^ ip.w1) & cidr.m1) === 0 &&
    ((cidr.n0 ^ ip.w0) & cidr.m0) === 0
  );
}

/** Parses `address/prefix` (host bits are allowed and cleared); undefined for anything else, a bare address included. */
export function tryParseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const ip = tryParseIp(text.slice(0, slash));
  const prefixText = text.slice(slash + 1);
  if (ip === undefined || !/^(0|[1-9]\d{0,2})$/.test(prefixText)) return undefined;
  let prefixLength = Number(prefixText);
  // `::ffff:10.0.0.0/104` is 10.0.0.0/8; a mapped network shorter than 96 bits covers more than IPv4 and is no v4 range.
  if (ip.family === 4 && text.indexOf(':') >= 0) {
    prefixLength -= 96;
    if (prefixLength < 0) return undefined;
  }
  if (prefixLength > (ip.family === 4 ? 32 : 128)) return undefined;
  const range =
    ip.family === 4
      ? IPv4CidrRange.fromCidr(`${formatIp(ip)}/${prefixLength}`)
      : IPv6CidrRange.fromCidr(`${formatIp(ip)}/${prefixLength}`);
  const first = range.getFirst().value;
  const mask = range.getPrefix().toMask().value;
  const v4 = ip.family === 4;
  const network: IpAddress = {
    family: ip.family,
    w0: v4 ? 0 : wordOf(first, 96n),
    w1: v4 ? 0 : wordOf(first, 64n),
    w2: v4 ? 0xffff : wordOf(first, 32n),
    w3: wordOf(first, 0n),
  };
  return {
    family: ip.family,
    prefixLength,
    text: `${formatIp(network)}/${prefixLength}`,
    n0: network.w0,
    n1: network.w1,
    n2: network.w2,
    n3: network.w3,
    m0: v4 ? -1 : wordOf(mask, 96n),
    m1: v4 ? -1 : wordOf(mask, 64n),
    m2: v4 ? -1 : wordOf(mask, 32n),
    m3: wordOf(mask, 0n),
  };
}

/**
 * As {@link tryParseCidr}.
 * @param field - path of the text in the caller's own value, for the error
 * @throws {@link InvalidIpError} ERR_IP_CIDR
 */
export function parseCidr(text: string, field?: string): Cidr {
  const cidr = tryParseCidr(text);
  if (cidr === undefined) {
    const bare = tryParseIp(text);
    const hint = bare === undefined ? '' : `; a single address is ${formatIp(bare)}/${bare.family === 4 ? 32 : 128}`;
    throw new InvalidIpError({
      code: 'ERR_IP_CIDR',
      op: 'ip.parseCidr',
      field,
      message: `${quoteInput(text)} is no range of the form address/prefix${hint}`,
    });
  }
  return cidr;
}

function wordOf(value: bigint, shift: bigint): number {
  return Number((value >> shift) & 0xffff_ffffn) | 0;
}
