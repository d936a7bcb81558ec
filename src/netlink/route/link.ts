import { ipBytes } from '../../ip/index.ts';
import { AF_UNSPEC, ENODEV } from '../../system/index.ts';
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from '../constants.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import { NetlinkError } from '../netlink-error.ts';
import * as c from './constants.ts';
import { addressOfFamily, hardwareAddressBytes, interfaceName, invalidInput, wholeNumber } from './input.ts';
import { decodeLinks } from './link-decode.ts';
import type { Link, LinkSettings, LinkSpec, NamespaceReference } from './link-model.ts';

/** Options of every call that writes. */
export interface RouteOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Options of every call that deletes. */
export interface DeleteOptions extends RouteOptions {
  /** What is not there is not an error. Default false. */
  readonly missingOk?: boolean;
}

/** What {@link setLink} changes; a field that is left out stays. */
export interface LinkChange {
  readonly name?: string;
  readonly up?: boolean;
  readonly mtu?: number;
  readonly address?: string;
  /** A bridge by name; null takes the link out of the one it is in. */
  readonly master?: string | null;
}

/**
 * Makes a link; of a veth, both ends, of which the peer is down.
 *
 * @throws {InvalidInputError} `ERR_NETLINK_INVALID` naming the field; `NetlinkError` `EEXIST`, `ENOTSUP` where the kernel
 * lacks the kind
 */
export function addLink(netlink: Netlink, link: LinkSpec, options: RouteOptions = {}): void {
  const op = 'route.addLink';
  const masterIndex = link.master === undefined ? undefined : linkIndex(netlink, link.master, op, 'master');
  const lowerIndex =
    link.kind === 'vxlan' && link.device !== undefined ? linkIndex(netlink, link.device, op, 'device') : undefined;
  const request = encodeAddLink(link, { masterIndex, lowerIndex });
  netlink.request(request, { op, ...options });
}

/** The RTM_NEWLINK for `link`, with names already looked up. */
export function encodeAddLink(
  link: LinkSpec,
  indexes: { readonly masterIndex?: number | undefined; readonly lowerIndex?: number | undefined } = {},
): Buffer {
  const op = 'route.addLink';
  const writer = new MessageWriter().begin(c.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  writeSettings(writer, link, op, '');
  if (indexes.masterIndex !== undefined) writer.attrU32(c.IFLA_MASTER, indexes.masterIndex);
  writer.nest(c.IFLA_LINKINFO, () => {
    writer.attrString(c.IFLA_INFO_KIND, link.kind);
    writeKindData(writer, link, indexes.lowerIndex, op);
  });
  return writer.end().finish();
}

/**
 * Changes a link. All of `change` goes in one request, which the kernel carries out field by field.
 *
 * @throws {NetlinkError} `ENODEV` where there is no such link
 */
export function setLink(netlink: Netlink, name: string, change: LinkChange, options: RouteOptions = {}): void {
  const op = 'route.setLink';
  const index = linkIndex(netlink, name, op, 'name');
  const writer = new MessageWriter().begin(c.RTM_NEWLINK, 0);
  writeIfinfomsg(writer, index, change.up);
  if (change.name !== undefined) writer.attrString(c.IFLA_IFNAME, interfaceName(change.name, op, 'change.name'));
  writeMtuAndAddress(writer, change, op, 'change.');
  if (change.master !== undefined) {
    writer.attrU32(c.IFLA_MASTER, change.master === null ? 0 : linkIndex(netlink, change.master, op, 'change.master'));
  }
  netlink.request(writer.end().finish(), { op, ...options });
}

/**
 * Moves a link to another namespace, where it is down and has no addresses.
 *
 * @param options.name - its name there; the same by default
 */
export function moveLink(
  netlink: Netlink,
  name: string,
  namespace: NamespaceReference,
  options: RouteOptions & { readonly name?: string } = {},
): void {
  const op = 'route.moveLink';
  const writer = new MessageWriter().begin(c.RTM_NEWLINK, 0);
  writeIfinfomsg(writer, linkIndex(netlink, name, op, 'name'), undefined);
  writer.attrU32(c.IFLA_NET_NS_FD, namespace.fd);
  if (options.name !== undefined) writer.attrString(c.IFLA_IFNAME, interfaceName(options.name, op, 'options.name'));
  netlink.request(writer.end().finish(), { op, signal: options.signal });
}

/** Deletes a link; of a veth, both ends. */
export function deleteLink(netlink: Netlink, name: string, options: DeleteOptions = {}): void {
  const op = 'route.deleteLink';
  const writer = new MessageWriter().begin(c.RTM_DELLINK, 0);
  writeIfinfomsg(writer, 0, undefined);
  writer.attrString(c.IFLA_IFNAME, interfaceName(name, op, 'name'));
  requestDelete(netlink, writer.end().finish(), op, options, ENODEV);
}

/** Every link of the namespace, in the kernel's order. */
export function listLinks(netlink: Netlink, options: RouteOptions = {}): Link[] {
  const writer = new MessageWriter().begin(c.RTM_GETLINK, NLM_F_DUMP);
  writeIfinfomsg(writer, 0, undefined);
  writer.attrU32(c.IFLA_EXT_MASK, c.RTEXT_FILTER_SKIP_STATS);
  return decodeLinks(netlink.request(writer.end().finish(), { op: 'route.listLinks', ...options }));
}

/** One link, with the names of its master and peer; undefined where there is none. */
export function getLink(netlink: Netlink, name: string, options: RouteOptions = {}): Link | undefined {
  interfaceName(name, 'route.getLink', 'name');
  return listLinks(netlink, options).find((link) => link.name === name);
}

/**
 * The index of a link, which the kernel's other tables know it by.
 *
 * @param field - path of the name in the caller's input, for the error
 * @throws {NetlinkError} `ENODEV`, naming the link
 */
export function linkIndex(netlink: Netlink, name: string, op = 'route.linkIndex', field = 'name'): number {
  const writer = new MessageWriter().begin(c.RTM_GETLINK, 0);
  writeIfinfomsg(writer, 0, undefined);
  writer.attrString(c.IFLA_IFNAME, interfaceName(name, op, field));
  writer.attrU32(c.IFLA_EXT_MASK, c.RTEXT_FILTER_SKIP_STATS);
  try {
    const answer = netlink.request(writer.end().finish(), { op })[0];
    if (answer !== undefined && answer.payload.length >= c.IFINFOMSG_BYTES) return answer.payload.readInt32LE(4);
  } catch (error) {
    if (!(error instanceof NetlinkError) || error.errno !== ENODEV) throw error;
  }
  throw new NetlinkError({ op, field, errno: ENODEV, syscall: 'sendmsg', message: `there is no link ${name}` });
}

/** The names of all links by index, for tables that know them by index. */
export function linkNames(netlink: Netlink): Map<number, string> {
  return new Map(listLinks(netlink).map((link) => [link.index, link.name]));
}

/** Sends a DEL request; with `missingOk`, the errno that says "not there" is no error. */
export function requestDelete(
  netlink: Netlink,
  request: Buffer,
  op: string,
  options: DeleteOptions,
  ...missing: readonly number[]
): void {
  try {
    netlink.request(request, { op, signal: options.signal });
  } catch (error) {
    const isMissing = error instanceof NetlinkError && error.errno !== undefined && missing.includes(error.errno);
    if (options.missingOk !== true || !isMissing) throw error;
  }
}

function writeIfinfomsg(writer: MessageWriter, index: number, up: boolean | undefined): void {
  writer.u8(AF_UNSPEC).u8(0).u16(0).s32(index);
  writer.u32(up === true ? c.IFF_UP : 0).u32(up === undefined ? 0 : c.IFF_UP);
}

function writeMtuAndAddress(
  writer: MessageWriter,
  settings: { readonly mtu?: number; readonly address?: string },
  op: string,
  path: string,
): void {
  if (settings.mtu !== undefined) {
    writer.attrU32(c.IFLA_MTU, wholeNumber(settings.mtu, 68, 0x7fff_ffff, op, `${path}mtu`));
  }
  if (settings.address !== undefined) {
    writer.attrBytes(c.IFLA_ADDRESS, hardwareAddressBytes(settings.address, op, `${path}address`));
  }
}

function writeSettings(writer: MessageWriter, settings: Omit<LinkSettings, 'master'>, op: string, path: string): void {
  writeIfinfomsg(writer, 0, settings.up);
  writer.attrString(c.IFLA_IFNAME, interfaceName(settings.name, op, `${path}name`));
  writeMtuAndAddress(writer, settings, op, path);
}

function writeKindData(writer: MessageWriter, link: LinkSpec, lowerIndex: number | undefined, op: string): void {
  switch (link.kind) {
    case 'veth': {
      const { peer } = link;
      if (peer === undefined) return;
      writer.nest(c.IFLA_INFO_DATA, () =>
        writer.nest(c.VETH_INFO_PEER, () => {
          writeSettings(writer, peer, op, 'peer.');
          if (peer.namespace !== undefined) writer.attrU32(c.IFLA_NET_NS_FD, peer.namespace.fd);
        }),
      );
      return;
    }
    case 'bridge': {
      const { stp } = link;
      if (stp !== undefined) writer.nest(c.IFLA_INFO_DATA, () => writer.attrU32(c.IFLA_BR_STP_STATE, stp ? 1 : 0));
      return;
    }
    case 'dummy':
      return;
    case 'geneve':
      writer.nest(c.IFLA_INFO_DATA, () => {
        const remote = addressOfFamily(link.remote, undefined, op, 'remote');
        writer
          .attrU32(c.IFLA_GENEVE_ID, wholeNumber(link.id, 0, 0xff_ffff, op, 'id'))
          .attrBytes(remote.family === 4 ? c.IFLA_GENEVE_REMOTE : c.IFLA_GENEVE_REMOTE6, ipBytes(remote))
          .attrU16be(c.IFLA_GENEVE_PORT, wholeNumber(link.port ?? 6081, 1, 65535, op, 'port'));
      });
      return;
    case 'vxlan':
      writer.nest(c.IFLA_INFO_DATA, () => {
        writer.attrU32(c.IFLA_VXLAN_ID, wholeNumber(link.id, 0, 0xff_ffff, op, 'id'));
        if (link.remote !== undefined) {
          const remote = addressOfFamily(link.remote, undefined, op, 'remote');
          writer.attrBytes(remote.family === 4 ? c.IFLA_VXLAN_GROUP : c.IFLA_VXLAN_GROUP6, ipBytes(remote));
        }
        if (link.local !== undefined) {
          const local = addressOfFamily(link.local, undefined, op, 'local');
          writer.attrBytes(local.family === 4 ? c.IFLA_VXLAN_LOCAL : c.IFLA_VXLAN_LOCAL6, ipBytes(local));
        }
        if (lowerIndex !== undefined) writer.attrU32(c.IFLA_VXLAN_LINK, lowerIndex);
        if (link.learning !== undefined) writer.attrU8(c.IFLA_VXLAN_LEARNING, link.learning ? 1 : 0);
        writer.attrU16be(c.IFLA_VXLAN_PORT, wholeNumber(link.port ?? 4789, 1, 65535, op, 'port'));
      });
      return;
    default: {
      const { kind } = link as { kind: unknown };
      throw invalidInput(op, 'kind', `${JSON.stringify(kind)} is none of veth, bridge, dummy, geneve, vxlan`);
    }
  }
}
