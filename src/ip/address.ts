import { InvalidInputError } from '../errors/index.ts';

/**
 * An address as four 32-bit words, most significant first, each a *signed* integer (`>>> 0` reads it unsigned): V8 keeps
 * those without a heap allocation. IPv4 is held in its mapped form, words `0, 0, 0xffff, address`, and is the only
 * thing held there: an IPv6 text or byte string that is v4-mapped gives family 4.
 */
export interface IpAddress {
  readonly family: 4 | 6;
  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;
}

/** Text or bytes that are no address, range or socket address. `code` is ERR_IP_ADDRESS, ERR_IP_CIDR or ERR_IP_SOCKET_ADDRESS. */
export class InvalidIpError extends InvalidInputError {
  override readonly name: string = 'InvalidIpError';
}

/** Parses an address, IPv4 dotted-quad without leading zeros or IPv6 of RFC 4291 section 2.2 without a zone; undefined for anything else. */
export function tryParseIp(text: string): IpAddress | undefined {
  for (let at = 0; at < text.length && at < 5; at++) {
    const char = text.charCodeAt(at);
    if (char === 0x2e) return parseIpv4(text);
    if (char === 0x3a) return parseIpv6(text);
  }
  return undefined;
}

/**
 * As {@link tryParseIp}.
 * @param field - path of the text in the caller's own value, for the error
 * @throws {@link InvalidIpError} ERR_IP_ADDRESS
 */
export function parseIp(text: string, field?: string): IpAddress {
  const ip = tryParseIp(text);
  if (ip === undefined) {
    throw new InvalidIpError({
      code: 'ERR_IP_ADDRESS',
      op: 'ip.parse',
      field,
      message: `${quoteInput(text)} is no IPv4 or IPv6 address`,
    });
  }
  return ip;
}

/** The canonical text of an address given as text (see {@link formatIp}). @throws {@link InvalidIpError} ERR_IP_ADDRESS */
export function canonicalIp(text: string, field?: string): string {
  return formatIp(parseIp(text, field));
}

/** Addresses whose text is kept: a node's connections come from and go to a few hundred of them. */
const KEPT_TEXTS = 4096;
const ipv4Texts = new Map<number, string>();

/** The dotted quad of an IPv4 address given as a 32-bit integer, signed or not, its first byte the highest. The same string for the same address. */
export function formatIpv4(word: number): string {
  const key = word | 0;
  let text = ipv4Texts.get(key);
  if (text === undefined) {
    text = `${key >>> 24}.${(key >>> 16) & 255}.${(key >>> 8) & 255}.${key & 255}`;
    if (ipv4Texts.size === KEPT_TEXTS) ipv4Texts.clear();
    ipv4Texts.set(key, text);
  }
  return text;
}

/** Canonical text: dotted quad, or RFC 5952 (lower case, the first longest run of two or more zero groups as `::`). */
export function formatIp(ip: IpAddress): string {
  const { w0, w1, w2, w3 } = ip;
  if (ip.family === 4) return formatIpv4(w3);
  const groups = [w0 >>> 16, w0 & 0xffff, w1 >>> 16, w1 & 0xffff, w2 >>> 16, w2 & 0xffff, w3 >>> 16, w3 & 0xffff];
  let gapStart = 8;
  let gapLength = 1;
  for (let start = 0; start < 8; start++) {
    let end = start;
    while (end < 8 && groups[end] === 0) end++;
    if (end - start > gapLength) {
      gapStart = start;
      gapLength = end - start;
    }
    if (end > start) start = end;
  }
  if (gapStart === 8) return groups.map(hex).join(':');
  return `${groups.slice(0, gapStart).map(hex).join(':')}::${groups
    .slice(gapStart + gapLength)
    .map(hex)
    .join(':')}`;
}

/** The address in network byte order: 4 bytes for family 4, 16 for family 6; the caller owns them. */
export function ipBytes(ip: IpAddress): Uint8Array {
  const bytes = new Uint8Array(ip.family === 4 ? 4 : 16);
  const view = new DataView(bytes.buffer);
  if (ip.family === 4) view.setInt32(0, ip.w3);
  else {
    view.setInt32(0, ip.w0);
    view.setInt32(4, ip.w1);
    view.setInt32(8, ip.w2);
    view.setInt32(12, ip.w3);
  }
  return bytes;
}

/**
 * The address in 4 or 16 bytes of network byte order; a v4-mapped one gives family 4.
 * @throws {@link InvalidIpError} ERR_IP_ADDRESS for any other length
 */
export function ipFromBytes(bytes: Uint8Array, field?: string): IpAddress {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length === 4) return fromWords(0, 0, 0xffff, view.getInt32(0));
  if (bytes.length === 16) return fromWords(view.getInt32(0), view.getInt32(4), view.getInt32(8), view.getInt32(12));
  throw new InvalidIpError({
    code: 'ERR_IP_ADDRESS',
    op: 'ip.parse',
    field,
    message: `an address has 4 or 16 bytes, not ${bytes.length}`,
  });
}

export function sameIp(a: IpAddress, b: IpAddress): boolean {
  return a.w3 === b.w3 && a.w2 === b.w2 && a.w1 === b.w1 && a.w0 === b.w0;
}

/** Hostile input in an error message: quoted, control characters escaped, cut at 64 characters. */
export function quoteInput(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}

function fromWords(w0: number, w1: number, w2: number, w3: number): IpAddress {
  const family = w0 === 0 && w1 === 0 && w2 === 0xffff ? 4 : 6;
  return { family, w0, w1, w2, w3 };
}

function hex(group: number): string {
  return group.toString(16);
}

/** The dotted quad that `text` holds from `start` to its end, or -1: the value itself is below 2^32 and never negative. */
function quadFrom(text: string, start: number): number {
  let value = 0;
  let octet = -1;
  let dots = 0;
  for (let at = start; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === 0x2e) {
      if (octet < 0 || dots === 3) return -1;
      value = value * 256 + octet;
      octet = -1;
      dots++;
      continue;
    }
    const digit = char - 0x30;
    // `010` is refused: some stacks read it as octal, and a policy must mean one host.
    if (digit < 0 || digit > 9 || octet === 0) return -1;
    octet = octet < 0 ? digit : octet * 10 + digit;
    if (octet > 255) return -1;
  }
  return dots === 3 && octet >= 0 ? value * 256 + octet : -1;
}

function parseIpv4(text: string): IpAddress | undefined {
  const value = quadFrom(text, 0);
  return value < 0 ? undefined : { family: 4, w0: 0, w1: 0, w2: 0xffff, w3: value | 0 };
}

/** The eight groups of the address being parsed: parsing never yields, so one is enough. */
const scratch = new Uint16Array(8);

function parseIpv6(text: string): IpAddress | undefined {
  let count = 0;
  let gap = -1;
  let at = 0;
  if (text.charCodeAt(0) === 0x3a) {
    if (text.charCodeAt(1) !== 0x3a) return undefined;
    gap = 0;
    at = 2;
  }
  while (at < text.length) {
    if (count === 8) return undefined;
    let group = 0;
    const start = at;
    let char = text.charCodeAt(at);
    for (let digit = hexDigit(char); digit >= 0; digit = hexDigit(char)) {
      if (at - start === 4) return undefined;
      group = group * 16 + digit;
      char = text.charCodeAt(++at);
    }
    if (char === 0x2e) {
      const quad = count > 6 ? -1 : quadFrom(text, start);
      if (quad < 0) return undefined;
      scratch[count++] = quad >>> 16;
      scratch[count++] = quad & 0xffff;
      break;
    }
    if (at === start) return undefined;
    scratch[count++] = group;
    if (at === text.length) break;
    if (char !== 0x3a) return undefined;
    at++;
    if (text.charCodeAt(at) === 0x3a) {
      if (gap >= 0) return undefined;
      gap = count;
      at++;
    } else if (at === text.length) return undefined;
  }
  if (gap < 0 ? count !== 8 : count === 8) return undefined;
  if (gap >= 0) {
    scratch.copyWithin(gap + 8 - count, gap, count);
    scratch.fill(0, gap, gap + 8 - count);
  }
  return fromWords(word(0), word(2), word(4), word(6));
}

function word(index: number): number {
  return (scratch[index]! << 16) | scratch[index + 1]!;
}

function hexDigit(char: number): number {
  if (char >= 0x30 && char <= 0x39) return char - 0x30;
  const lower = char | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
