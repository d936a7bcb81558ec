import { ipBytes } from '../../ip/index.ts';
import { AF_INET, AF_INET6, AF_UNSPEC, ENOENT } from '../../system/index.ts';
import { AttributeReader } from '../attribute-reader.ts';
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE } from '../constants.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import * as c from './constants.ts';
import {
  addressFamily,
  addressOfFamily,
  formatHardwareAddress,
  hardwareAddressBytes,
  invalidInput,
  nameNumbered,
  numberNamed,
} from './input.ts';
import { type DeleteOptions, linkIndex, linkNames, type RouteOptions, requestDelete } from './link.ts';
import { NEIGHBOUR_STATES, type NeighbourState } from './names.ts';

/** Who has an address on a link: an entry of the ARP or neighbour discovery table. */
export interface Neighbour {
  /** The link, by name. */
  readonly device: string;
  readonly ip: string;
  /** Its hardware address, `02:00:5e:10:00:01`. */
  readonly address?: string;
  /** Default `permanent`. */
  readonly state?: NeighbourState | number;
  /** Not somebody's address but one that this host answers for (NTF_PROXY). */
  readonly proxy?: boolean;
  /** IPv6: it is a router (NTF_ROUTER). */
  readonly router?: boolean;
}

/** A neighbour as it is listed: {@link addNeighbour} takes it too. */
export interface ListedNeighbour extends Neighbour {
  readonly family: 4 | 6;
  readonly state: NeighbourState | number;
}

/** Which neighbours {@link listNeighbours} gives. */
export interface NeighbourFilter {
  readonly family?: 4 | 6;
  readonly device?: string;
  /** The addresses answered for, instead of the neighbours. Default false. */
  readonly proxy?: boolean;
}

/** @throws {InvalidInputError}; `NetlinkError` `EEXIST` where something is known of this address already */
export function addNeighbour(netlink: Netlink, neighbour: Neighbour, options: RouteOptions = {}): void {
  const op = 'route.addNeighbour';
  const index = linkIndex(netlink, neighbour.device, op, 'device');
  const request = encodeNeighbour(c.RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, neighbour, index, op);
  netlink.request(request, { op, ...options });
}

/** As {@link addNeighbour}, in place of what is known of this address. */
export function replaceNeighbour(netlink: Netlink, neighbour: Neighbour, options: RouteOptions = {}): void {
  const op = 'route.replaceNeighbour';
  const index = linkIndex(netlink, neighbour.device, op, 'device');
  const request = encodeNeighbour(c.RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, neighbour, index, op);
  netlink.request(request, { op, ...options });
}

/** Forgets a neighbour, or stops answering for an address. @throws {NetlinkError} `ENOENT` */
export function deleteNeighbour(netlink: Netlink, neighbour: Neighbour, options: DeleteOptions = {}): void {
  const op = 'route.deleteNeighbour';
  const index = linkIndex(netlink, neighbour.device, op, 'device');
  requestDelete(netlink, encodeNeighbour(c.RTM_DELNEIGH, 0, neighbour, index, op), op, options, ENOENT);
}

/** Neighbours of the namespace, multicast and failed ones included: `state` tells. */
export function listNeighbours(
  netlink: Netlink,
  filter: NeighbourFilter = {},
  options: RouteOptions = {},
): ListedNeighbour[] {
  const op = 'route.listNeighbours';
  const names = linkNames(netlink);
  const index = filter.device === undefined ? undefined : linkIndex(netlink, filter.device, op, 'filter.device');
  const proxy = filter.proxy ?? false;
  const writer = new MessageWriter().begin(c.RTM_GETNEIGH, NLM_F_DUMP);
  writer
    .u8(filter.family === undefined ? AF_UNSPEC : addressFamily(filter.family))
    .u8(0)
    .u16(0);
  writer
    .s32(0)
    .u16(0)
    .u8(proxy ? c.NTF_PROXY : 0)
    .u8(0);
  if (index !== undefined) writer.attrU32(c.NDA_IFINDEX, index);
  const neighbours: ListedNeighbour[] = [];
  for (const message of netlink.request(writer.end().finish(), { op, ...options })) {
    if (message.type !== c.RTM_NEWNEIGH) continue;
    const neighbour = decodeNeighbour(message.payload, names);
    if (neighbour === undefined || (neighbour.proxy ?? false) !== proxy) continue;
    if (filter.family !== undefined && neighbour.family !== filter.family) continue;
    if (filter.device === undefined || neighbour.device === filter.device) neighbours.push(neighbour);
  }
  return neighbours;
}

/** The RTM_NEWNEIGH or RTM_DELNEIGH for `neighbour`. @throws {InvalidInputError} */
export function encodeNeighbour(type: number, flags: number, neighbour: Neighbour, index: number, op: string): Buffer {
  const ip = addressOfFamily(neighbour.ip, undefined, op, 'ip');
  const proxy = neighbour.proxy ?? false;
  const state = numberNamed(neighbour.state ?? 'permanent', NEIGHBOUR_STATES, op, 'state');
  const known = state === NEIGHBOUR_STATES.permanent || state === NEIGHBOUR_STATES.reachable;
  if (known && !proxy && type === c.RTM_NEWNEIGH && neighbour.address === undefined) {
    throw invalidInput(op, 'address', 'a neighbour that is known has one');
  }
  const writer = new MessageWriter().begin(type, flags);
  writer.u8(addressFamily(ip.family)).u8(0).u16(0);
  writer
    .s32(index)
    .u16(state)
    .u8((proxy ? c.NTF_PROXY : 0) | (neighbour.router ? c.NTF_ROUTER : 0))
    .u8(0)
    .attrBytes(c.NDA_DST, ipBytes(ip));
  if (neighbour.address !== undefined && !proxy) {
    writer.attrBytes(c.NDA_LLADDR, hardwareAddressBytes(neighbour.address, op, 'address'));
  }
  return writer.end().finish();
}

/** Reads the payload of an RTM_NEWNEIGH; undefined for one that is not of IPv4 or IPv6 (a bridge's forwarding table). */
export function decodeNeighbour(payload: Buffer, names: ReadonlyMap<number, string>): ListedNeighbour | undefined {
  const reader = new AttributeReader(payload, c.NDMSG_BYTES);
  reader.check();
  const family = payload[0] === AF_INET ? 4 : payload[0] === AF_INET6 ? 6 : undefined;
  if (family === undefined) return undefined;
  const index = payload.readInt32LE(4);
  const flags = payload[10]!;
  let ip: string | undefined;
  let address: string | undefined;
  while (reader.next()) {
    if (reader.type === c.NDA_DST) ip = reader.ip();
    else if (reader.type === c.NDA_LLADDR && reader.length === 6) address = formatHardwareAddress(reader.bytes());
  }
  reader.check();
  if (ip === undefined) return undefined;
  return {
    family,
    device: names.get(index) ?? `#${index}`,
    ip,
    ...(address === undefined ? {} : { address }),
    state: nameNumbered(payload.readUInt16LE(8), NEIGHBOUR_STATES),
    ...((flags & c.NTF_PROXY) === 0 ? {} : { proxy: true }),
    ...((flags & c.NTF_ROUTER) === 0 ? {} : { router: true }),
  };
}
