import { type IpAddress, ipBytes, parseCidr } from '../../ip/index.ts';
import { AF_INET, AF_INET6, ENOENT, ESRCH } from '../../system/index.ts';
import { AttributeReader } from '../attribute-reader.ts';
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE } from '../constants.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import { NetlinkError } from '../netlink-error.ts';
import * as c from './constants.ts';
import {
  addressFamily,
  addressOfFamily,
  invalidInput,
  nameNumbered,
  networkBytes,
  numberNamed,
  wholeNumber,
} from './input.ts';
import { type DeleteOptions, linkIndex, linkNames, type RouteOptions, requestDelete } from './link.ts';
import { ROUTE_PROTOCOLS, ROUTE_TYPES, type RouteProtocol, type RouteType, SCOPES, type Scope } from './names.ts';

/** Where packets go next. */
export interface NextHop {
  /** The router's address; of the other family too, for an IPv4 route. */
  readonly gateway?: string;
  /** The link, by name. */
  readonly device?: string;
  /** The gateway is taken to be on the link, whether or not a route says so (RTNH_F_ONLINK). */
  readonly onlink?: boolean;
}

/** One entry of a routing table. */
export interface Route extends NextHop {
  /** A range; `0.0.0.0/0` and `::/0` are the defaults. Decides the family. */
  readonly destination: string;
  /** Default `unicast`. */
  readonly type?: RouteType | number;
  /** 1 to 2^32-1, default 254 (main). */
  readonly table?: number;
  /**
   * IPv4 only. Default, as `ip route` has it: `host` for type local, `link` for broadcast and for unicast without a gateway, else
   * `global`.
   */
  readonly scope?: Scope | number;
  /** Source address of packets that have none yet (RTA_PREFSRC). */
  readonly source?: string;
  /** The lower wins. Default 0 for IPv4, 1024 for IPv6. */
  readonly metric?: number;
  /** Default `boot`, as `ip route`. */
  readonly protocol?: RouteProtocol | number;
  /** Several next hops (ECMP), instead of gateway and device. */
  readonly nextHops?: readonly (NextHop & { readonly weight?: number })[];
}

/** A route as it is listed: {@link addRoute} takes it too. */
export interface ListedRoute extends Route {
  readonly family: 4 | 6;
  readonly type: RouteType | number;
  readonly table: number;
  readonly scope: Scope | number;
  readonly protocol: RouteProtocol | number;
}

/** Which routes {@link listRoutes} gives. */
export interface RouteFilter {
  readonly family?: 4 | 6;
  /** Default: every table. A table that does not exist is empty. */
  readonly table?: number;
  /** The link of a route's only next hop. */
  readonly device?: string;
}

/** @throws {InvalidInputError}; `NetlinkError` `EEXIST`, `ENETUNREACH` for a gateway that no link leads to, `ENODEV` */
export function addRoute(netlink: Netlink, route: Route, options: RouteOptions = {}): void {
  write(netlink, c.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route, 'route.addRoute', options);
}

/** As {@link addRoute}, in place of a route with the same destination, table and metric where there is one. */
export function replaceRoute(netlink: Netlink, route: Route, options: RouteOptions = {}): void {
  write(netlink, c.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route, 'route.replaceRoute', options);
}

/** Deletes the first route that agrees with every field that is given. @throws {NetlinkError} `ESRCH` */
export function deleteRoute(netlink: Netlink, route: Route, options: DeleteOptions = {}): void {
  const op = 'route.deleteRoute';
  const request = encodeRoute(c.RTM_DELROUTE, 0, route, indexesOf(netlink, route, op), op);
  requestDelete(netlink, request, op, options, ESRCH, ENOENT);
}

/** Routes of the namespace, IPv4 before IPv6. */
export function listRoutes(netlink: Netlink, filter: RouteFilter = {}, options: RouteOptions = {}): ListedRoute[] {
  const op = 'route.listRoutes';
  const names = linkNames(netlink);
  const index = filter.device === undefined ? undefined : linkIndex(netlink, filter.device, op, 'filter.device');
  const table = filter.table === undefined ? undefined : tableNumber(filter.table, op, 'filter.table');
  const routes: ListedRoute[] = [];
  for (const family of filter.family === undefined ? ([4, 6] as const) : [filter.family]) {
    const writer = new MessageWriter().begin(c.RTM_GETROUTE, NLM_F_DUMP);
    writer.u8(addressFamily(family)).bytes(new Uint8Array(c.RTMSG_BYTES - 1));
    if (table !== undefined) writer.attrU32(c.RTA_TABLE, table);
    if (index !== undefined) writer.attrU32(c.RTA_OIF, index);
    for (const message of dumpTable(netlink, writer.end().finish(), { op, ...options })) {
      if (message.type !== c.RTM_NEWROUTE) continue;
      const route = decodeRoute(message.payload, names);
      // A kernel without strict checking gives all of them.
      if (route === undefined || (table !== undefined && route.table !== table)) continue;
      if (filter.device === undefined || route.device === filter.device) routes.push(route);
    }
  }
  return routes;
}

/** The kernel says ENOENT where a table was never used. */
function dumpTable(netlink: Netlink, request: Buffer, options: { op: string }): NetlinkMessage[] {
  try {
    return netlink.request(request, options);
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === ENOENT) return [];
    throw error;
  }
}

function write(netlink: Netlink, type: number, flags: number, route: Route, op: string, options: RouteOptions): void {
  netlink.request(encodeRoute(type, flags, route, indexesOf(netlink, route, op), op), { op, ...options });
}

/** Link indexes by name, for {@link encodeRoute}. */
function indexesOf(netlink: Netlink, route: Route, op: string): Map<string, number> {
  const indexes = new Map<string, number>();
  const look = (device: string | undefined, field: string) => {
    if (device !== undefined && !indexes.has(device)) indexes.set(device, linkIndex(netlink, device, op, field));
  };
  look(route.device, 'device');
  route.nextHops?.forEach((hop, at) => {
    look(hop.device, `nextHops[${at}].device`);
  });
  return indexes;
}

/** The RTM_NEWROUTE or RTM_DELROUTE for `route`. @throws {InvalidInputError} */
export function encodeRoute(
  type: number,
  flags: number,
  route: Route,
  indexes: ReadonlyMap<string, number>,
  op: string,
): Buffer {
  const deleting = type === c.RTM_DELROUTE;
  const destination = parseCidr(route.destination, 'destination');
  const { family } = destination;
  const table = tableNumber(route.table ?? c.RT_TABLE_MAIN, op, 'table');
  const routeType =
    route.type === undefined && deleting ? 0 : numberNamed(route.type ?? 'unicast', ROUTE_TYPES, op, 'type');
  const protocol =
    route.protocol === undefined && deleting
      ? 0
      : numberNamed(route.protocol ?? 'boot', ROUTE_PROTOCOLS, op, 'protocol');
  const scope =
    route.scope === undefined
      ? deleting
        ? c.RT_SCOPE_NOWHERE
        : defaultScope(family, routeType, route)
      : numberNamed(route.scope, SCOPES, op, 'scope');
  if (route.nextHops !== undefined && (route.gateway !== undefined || route.device !== undefined)) {
    throw invalidInput(op, 'nextHops', 'given together with gateway or device');
  }
  const writer = new MessageWriter().begin(type, flags);
  writer
    .u8(addressFamily(family))
    .u8(destination.prefixLength)
    .u8(0)
    .u8(0)
    .u8(table < 256 ? table : c.RT_TABLE_UNSPEC)
    .u8(protocol)
    .u8(scope)
    .u8(routeType)
    .u32(route.onlink ? c.RTNH_F_ONLINK : 0);
  if (destination.prefixLength > 0) writer.attrBytes(c.RTA_DST, networkBytes(destination));
  if (table > 255) writer.attrU32(c.RTA_TABLE, table);
  if (route.metric !== undefined) {
    writer.attrU32(c.RTA_PRIORITY, wholeNumber(route.metric, 0, 0xffff_ffff, op, 'metric'));
  }
  if (route.source !== undefined) {
    writer.attrBytes(c.RTA_PREFSRC, ipBytes(addressOfFamily(route.source, family, op, 'source')));
  }
  writeNextHop(writer, route, family, indexes, op, '');
  const { nextHops } = route;
  if (nextHops !== undefined) {
    if (nextHops.length === 0) throw invalidInput(op, 'nextHops', 'is empty');
    writer.attrBytes(c.RTA_MULTIPATH, encodeNextHops(nextHops, family, indexes, op));
  }
  return writer.end().finish();
}

function defaultScope(family: 4 | 6, type: number, route: Route): number {
  if (family === 6) return c.RT_SCOPE_UNIVERSE;
  if (type === ROUTE_TYPES.local) return c.RT_SCOPE_HOST;
  if (type === ROUTE_TYPES.broadcast || type === ROUTE_TYPES.multicast || type === ROUTE_TYPES.anycast) {
    return c.RT_SCOPE_LINK;
  }
  const direct = type === ROUTE_TYPES.unicast && route.gateway === undefined && route.nextHops === undefined;
  return direct ? c.RT_SCOPE_LINK : c.RT_SCOPE_UNIVERSE;
}

function tableNumber(table: number, op: string, field: string): number {
  return wholeNumber(table, 1, 0xffff_ffff, op, field);
}

function writeNextHop(
  writer: MessageWriter,
  hop: NextHop,
  family: 4 | 6,
  indexes: ReadonlyMap<string, number>,
  op: string,
  path: string,
): void {
  writeGateway(writer, hop, family, op, path);
  if (hop.device !== undefined) writer.attrU32(c.RTA_OIF, indexOf(hop.device, indexes));
}

function writeGateway(writer: MessageWriter, hop: NextHop, family: 4 | 6, op: string, path: string): void {
  if (hop.gateway === undefined) return;
  const field = `${path}gateway`;
  const gateway = addressOfFamily(hop.gateway, family === 6 ? 6 : undefined, op, field);
  if (gateway.family === family) writer.attrBytes(c.RTA_GATEWAY, ipBytes(gateway));
  else writer.attrBytes(c.RTA_VIA, encodeVia(gateway));
}

/** `struct rtvia`: the address family in host order, then the address. */
function encodeVia(gateway: IpAddress): Buffer {
  const via = Buffer.alloc(2);
  via.writeUInt16LE(addressFamily(gateway.family));
  return Buffer.concat([via, ipBytes(gateway)]);
}

function indexOf(device: string, indexes: ReadonlyMap<string, number>): number {
  const index = indexes.get(device);
  if (index === undefined)
    throw new NetlinkError({ op: 'route.encode', code: 'ERR_NETLINK_ENCODE', message: `no index for ${device}` });
  return index;
}

/** A row of `struct rtnexthop`, each followed by its attributes. */
function encodeNextHops(
  nextHops: NonNullable<Route['nextHops']>,
  family: 4 | 6,
  indexes: ReadonlyMap<string, number>,
  op: string,
): Buffer {
  const rows: Buffer[] = [];
  for (const [at, hop] of nextHops.entries()) {
    const path = `nextHops[${at}].`;
    const row = new MessageWriter()
      .u16(0)
      .u8(hop.onlink ? c.RTNH_F_ONLINK : 0)
      .u8(wholeNumber(hop.weight ?? 1, 1, 256, op, `${path}weight`) - 1)
      .s32(hop.device === undefined ? 0 : indexOf(hop.device, indexes));
    writeGateway(row, hop, family, op, path);
    const bytes = row.finish();
    bytes.writeUInt16LE(bytes.length, 0);
    rows.push(bytes);
  }
  return Buffer.concat(rows);
}

/** Reads the payload of an RTM_NEWROUTE; undefined for a family that is neither IPv4 nor IPv6. */
export function decodeRoute(payload: Buffer, names: ReadonlyMap<number, string>): ListedRoute | undefined {
  const reader = new AttributeReader(payload, c.RTMSG_BYTES);
  reader.check();
  const family = payload[0] === AF_INET ? 4 : payload[0] === AF_INET6 ? 6 : undefined;
  if (family === undefined) return undefined;
  const route: { -readonly [K in keyof ListedRoute]: ListedRoute[K] } = {
    family,
    destination: `${family === 4 ? '0.0.0.0' : '::'}/${payload[1]}`,
    type: nameNumbered(payload[7]!, ROUTE_TYPES),
    table: payload[4]!,
    scope: nameNumbered(payload[6]!, SCOPES),
    protocol: nameNumbered(payload[5]!, ROUTE_PROTOCOLS),
  };
  if ((payload.readUInt32LE(8) & c.RTNH_F_ONLINK) !== 0) route.onlink = true;
  while (reader.next()) {
    switch (reader.type) {
      case c.RTA_DST:
        route.destination = `${reader.ip()}/${payload[1]}`;
        break;
      case c.RTA_TABLE:
        route.table = reader.u32();
        break;
      case c.RTA_OIF:
        route.device = deviceName(reader.u32(), names);
        break;
      case c.RTA_GATEWAY:
        route.gateway = reader.ip();
        break;
      case c.RTA_VIA:
        route.gateway = reader.ip(2);
        break;
      case c.RTA_PREFSRC:
        route.source = reader.ip();
        break;
      case c.RTA_PRIORITY:
        route.metric = reader.u32();
        break;
      case c.RTA_MULTIPATH:
        route.nextHops = decodeNextHops(reader.bytes(), names);
        break;
    }
  }
  reader.check();
  return route;
}

function decodeNextHops(rows: Buffer, names: ReadonlyMap<number, string>): NonNullable<Route['nextHops']> {
  const hops: (NextHop & { readonly weight?: number })[] = [];
  for (let at = 0; at + 8 <= rows.length; ) {
    const length = rows.readUInt16LE(at);
    if (length < 8 || at + length > rows.length) {
      throw new NetlinkError({
        op: 'netlink.decode',
        code: 'ERR_NETLINK_MALFORMED',
        message: `a next hop of length ${length} where ${rows.length - at} bytes are left`,
      });
    }
    const index = rows.readInt32LE(at + 4);
    let gateway: string | undefined;
    const reader = new AttributeReader(rows, at + 8, at + length);
    while (reader.next()) {
      if (reader.type === c.RTA_GATEWAY) gateway = reader.ip();
      else if (reader.type === c.RTA_VIA) gateway = reader.ip(2);
    }
    reader.check();
    hops.push({
      ...(gateway === undefined ? {} : { gateway }),
      ...(index === 0 ? {} : { device: deviceName(index, names) }),
      ...((rows[at + 2]! & c.RTNH_F_ONLINK) === 0 ? {} : { onlink: true }),
      weight: rows[at + 3]! + 1,
    });
    at += (length + 3) & ~3;
  }
  return hops;
}

/** A link that went away between two requests has a number only. */
function deviceName(index: number, names: ReadonlyMap<number, string>): string {
  return names.get(index) ?? `#${index}`;
}
