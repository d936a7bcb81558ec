import { ipBytes } from '../../ip/index.ts';
import { AF_INET, AF_INET6, AF_UNSPEC, EADDRNOTAVAIL } from '../../system/index.ts';
import { AttributeReader } from '../attribute-reader.ts';
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from '../constants.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import * as c from './constants.ts';
import { addressFamily, addressOfFamily, nameNumbered, numberNamed, wholeNumber } from './input.ts';
import { type DeleteOptions, linkIndex, linkNames, type RouteOptions, requestDelete } from './link.ts';
import { SCOPES, type Scope } from './names.ts';

/** An address of a link. */
export interface LinkAddress {
  /** The link, by name. */
  readonly device: string;
  readonly ip: string;
  /** How much of `ip` names the network that the link leads to: 0 to 32, or 128. */
  readonly prefixLength: number;
  /** The far end of a point-to-point link, where it differs from `ip`. */
  readonly peer?: string;
  /** IPv4 only; none if left out. */
  readonly broadcast?: string;
  /** Default: `host` for a loopback address, else `global`. The kernel ignores it for IPv6. */
  readonly scope?: Scope | number;
  /** IPv4 only: the device's name, alone or with a `:suffix`. */
  readonly label?: string;
  /** IPv6: usable at once, without asking whether somebody else has it (IFA_F_NODAD). */
  readonly noDad?: boolean;
  /** No route for the prefix (IFA_F_NOPREFIXROUTE). */
  readonly noPrefixRoute?: boolean;
}

/** An address as it is listed: {@link addAddress} takes it too. */
export interface ListedAddress extends LinkAddress {
  readonly family: 4 | 6;
  /** IPv6: not usable yet, duplicate address detection is under way (IFA_F_TENTATIVE). */
  readonly tentative: boolean;
  /** IPv6: somebody else has it (IFA_F_DADFAILED). */
  readonly duplicate: boolean;
}

/** Which addresses {@link listAddresses} gives. */
export interface AddressFilter {
  readonly family?: 4 | 6;
  readonly device?: string;
}

/** @throws {InvalidInputError}; `NetlinkError` `EEXIST` where the link has this address and prefix, `ENODEV` without the link */
export function addAddress(netlink: Netlink, address: LinkAddress, options: RouteOptions = {}): void {
  const op = 'route.addAddress';
  const index = linkIndex(netlink, address.device, op, 'device');
  netlink.request(encodeAddress(c.RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address, index, op), { op, ...options });
}

/** Deletes the address with this device, ip and prefix length. @throws {NetlinkError} `EADDRNOTAVAIL` */
export function deleteAddress(netlink: Netlink, address: LinkAddress, options: DeleteOptions = {}): void {
  const op = 'route.deleteAddress';
  const index = linkIndex(netlink, address.device, op, 'device');
  requestDelete(netlink, encodeAddress(c.RTM_DELADDR, 0, address, index, op), op, options, EADDRNOTAVAIL);
}

/** Addresses of the namespace, IPv4 and IPv6. */
export function listAddresses(
  netlink: Netlink,
  filter: AddressFilter = {},
  options: RouteOptions = {},
): ListedAddress[] {
  const op = 'route.listAddresses';
  const names = linkNames(netlink);
  const index = filter.device === undefined ? 0 : linkIndex(netlink, filter.device, op, 'filter.device');
  const writer = new MessageWriter().begin(c.RTM_GETADDR, NLM_F_DUMP);
  writer.u8(filter.family === undefined ? AF_UNSPEC : addressFamily(filter.family));
  writer.u8(0).u8(0).u8(0).u32(index);
  const addresses: ListedAddress[] = [];
  for (const message of netlink.request(writer.end().finish(), { op, ...options })) {
    if (message.type !== c.RTM_NEWADDR) continue;
    const address = decodeAddress(message.payload, names);
    // A kernel without strict checking gives all of them.
    if (filter.device !== undefined && address?.device !== filter.device) continue;
    if (address !== undefined && (filter.family ?? address.family) === address.family) addresses.push(address);
  }
  return addresses;
}

/** The RTM_NEWADDR or RTM_DELADDR for `address`. @throws {InvalidInputError} */
export function encodeAddress(type: number, flags: number, address: LinkAddress, index: number, op: string): Buffer {
  const ip = addressOfFamily(address.ip, undefined, op, 'ip');
  const bits = ip.family === 4 ? 32 : 128;
  const scope = numberNamed(address.scope ?? (isLoopback(address.ip) ? 'host' : 'global'), SCOPES, op, 'scope');
  const peer = address.peer === undefined ? ip : addressOfFamily(address.peer, ip.family, op, 'peer');
  const settings = (address.noDad ? c.IFA_F_NODAD : 0) | (address.noPrefixRoute ? c.IFA_F_NOPREFIXROUTE : 0);
  const writer = new MessageWriter().begin(type, flags);
  writer
    .u8(addressFamily(ip.family))
    .u8(wholeNumber(address.prefixLength, 0, bits, op, 'prefixLength'))
    .u8(settings & 0xff)
    .u8(scope)
    .u32(index)
    .attrBytes(c.IFA_LOCAL, ipBytes(ip))
    .attrBytes(c.IFA_ADDRESS, ipBytes(peer));
  if (address.broadcast !== undefined) {
    writer.attrBytes(c.IFA_BROADCAST, ipBytes(addressOfFamily(address.broadcast, 4, op, 'broadcast')));
  }
  if (address.label !== undefined && ip.family === 4) writer.attrString(c.IFA_LABEL, address.label);
  if (settings > 0xff) writer.attrU32(c.IFA_FLAGS, settings);
  return writer.end().finish();
}

/** Reads the payload of an RTM_NEWADDR; undefined for a family that is neither IPv4 nor IPv6. */
export function decodeAddress(payload: Buffer, names: ReadonlyMap<number, string>): ListedAddress | undefined {
  const reader = new AttributeReader(payload, c.IFADDRMSG_BYTES);
  reader.check();
  const family = payload[0] === AF_INET ? 4 : payload[0] === AF_INET6 ? 6 : undefined;
  if (family === undefined) return undefined;
  const index = payload.readUInt32LE(4);
  let flags = payload[2]!;
  let local: string | undefined;
  let address: string | undefined;
  let broadcast: string | undefined;
  let label: string | undefined;
  while (reader.next()) {
    if (reader.type === c.IFA_LOCAL) local = reader.ip();
    else if (reader.type === c.IFA_ADDRESS) address = reader.ip();
    else if (reader.type === c.IFA_BROADCAST) broadcast = reader.ip();
    else if (reader.type === c.IFA_LABEL) label = reader.string();
    else if (reader.type === c.IFA_FLAGS) flags = reader.u32();
  }
  reader.check();
  const ip = local ?? address;
  if (ip === undefined) return undefined;
  return {
    family,
    device: names.get(index) ?? `#${index}`,
    ip,
    prefixLength: payload[1]!,
    scope: nameNumbered(payload[3]!, SCOPES),
    ...(address === undefined || address === ip ? {} : { peer: address }),
    ...(broadcast === undefined ? {} : { broadcast }),
    ...(label === undefined ? {} : { label }),
    noDad: (flags & c.IFA_F_NODAD) !== 0,
    noPrefixRoute: (flags & c.IFA_F_NOPREFIXROUTE) !== 0,
    tentative: (flags & c.IFA_F_TENTATIVE) !== 0,
    duplicate: (flags & c.IFA_F_DADFAILED) !== 0,
  };
}

function isLoopback(ip: string): boolean {
  return ip === '::1' || ip.startsWith('127.');
}
