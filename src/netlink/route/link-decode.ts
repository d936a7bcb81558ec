import { AttributeReader } from '../attribute-reader.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import * as c from './constants.ts';
import { formatHardwareAddress } from './input.ts';
import type { Link } from './link-model.ts';

/** What one RTM_NEWLINK says, other links known by index only. */
interface RawLink {
  index: number;
  flags: number;
  name: string;
  mtu: number;
  address: string | undefined;
  masterIndex: number;
  linkIndex: number | undefined;
  elsewhere: boolean;
  kind: string;
  data: RawKindData;
}

interface RawKindData {
  id?: number;
  remote?: string;
  local?: string;
  lowerIndex?: number;
  port?: number;
  learning?: boolean;
  stp?: boolean;
}

/** Reads a dump of RTM_NEWLINK. @throws {NetlinkError} `ERR_NETLINK_MALFORMED` */
export function decodeLinks(messages: readonly NetlinkMessage[]): Link[] {
  const raw: RawLink[] = [];
  for (const message of messages) if (message.type === c.RTM_NEWLINK) raw.push(decodeLink(message.payload));
  const names = new Map(raw.map((link) => [link.index, link.name]));
  return raw.map((link) => named(link, names));
}

function named(raw: RawLink, names: ReadonlyMap<number, string>): Link {
  const master = raw.masterIndex === 0 ? undefined : names.get(raw.masterIndex);
  const common = {
    name: raw.name,
    index: raw.index,
    mtu: raw.mtu,
    ...(raw.address === undefined ? {} : { address: raw.address }),
    up: (raw.flags & c.IFF_UP) !== 0,
    carrier: (raw.flags & c.IFF_LOWER_UP) !== 0,
    loopback: (raw.flags & c.IFF_LOOPBACK) !== 0,
    linkIndex: raw.linkIndex,
    ...(master === undefined ? {} : { master }),
  };
  const { data } = raw;
  switch (raw.kind) {
    case 'veth': {
      const peer = raw.elsewhere || raw.linkIndex === undefined ? undefined : names.get(raw.linkIndex);
      return { ...common, kind: 'veth', ...(peer === undefined ? {} : { peer: { name: peer } }) };
    }
    case 'bridge':
      return { ...common, kind: 'bridge', stp: data.stp ?? false };
    case 'dummy':
      return { ...common, kind: 'dummy' };
    case 'geneve':
      if (data.id === undefined || data.remote === undefined) break;
      return { ...common, kind: 'geneve', id: data.id, remote: data.remote, ...only(data.port, 'port') };
    case 'vxlan': {
      if (data.id === undefined) break;
      const device = data.lowerIndex === undefined ? undefined : names.get(data.lowerIndex);
      return {
        ...common,
        kind: 'vxlan',
        id: data.id,
        ...only(data.remote, 'remote'),
        ...only(data.local, 'local'),
        ...only(device, 'device'),
        ...only(data.port, 'port'),
        ...only(data.learning, 'learning'),
      };
    }
  }
  return { ...common, kind: 'other', kernelKind: raw.kind };
}

function decodeLink(payload: Buffer): RawLink {
  const reader = new AttributeReader(payload, c.IFINFOMSG_BYTES);
  reader.check();
  const link: RawLink = {
    index: payload.readInt32LE(4),
    flags: payload.readUInt32LE(8),
    name: '',
    mtu: 0,
    address: undefined,
    masterIndex: 0,
    linkIndex: undefined,
    elsewhere: false,
    kind: '',
    data: {},
  };
  let info: AttributeReader | undefined;
  while (reader.next()) {
    switch (reader.type) {
      case c.IFLA_IFNAME:
        link.name = reader.string();
        break;
      case c.IFLA_MTU:
        link.mtu = reader.u32();
        break;
      case c.IFLA_ADDRESS:
        if (reader.length === 6) link.address = formatHardwareAddress(reader.bytes());
        break;
      case c.IFLA_MASTER:
        link.masterIndex = reader.u32();
        break;
      case c.IFLA_LINK:
        link.linkIndex = reader.u32() || undefined;
        break;
      case c.IFLA_LINK_NETNSID:
        link.elsewhere = true;
        break;
      case c.IFLA_LINKINFO:
        info = reader.nested();
        break;
    }
  }
  while (info?.next()) {
    if (info.type === c.IFLA_INFO_KIND) link.kind = info.string();
    // The kernel writes the kind before its data.
    else if (info.type === c.IFLA_INFO_DATA) link.data = decodeKindData(link.kind, info.nested());
  }
  reader.check();
  return link;
}

function decodeKindData(kind: string, reader: AttributeReader): RawKindData {
  const data: RawKindData = {};
  while (reader.next()) {
    if (kind === 'bridge') {
      if (reader.type === c.IFLA_BR_STP_STATE) data.stp = reader.u32() !== 0;
    } else if (kind === 'geneve') {
      if (reader.type === c.IFLA_GENEVE_ID) data.id = reader.u32();
      else if (reader.type === c.IFLA_GENEVE_PORT) data.port = reader.u16be();
      else if (reader.type === c.IFLA_GENEVE_REMOTE || reader.type === c.IFLA_GENEVE_REMOTE6) {
        data.remote = reader.ip();
      }
    } else if (kind === 'vxlan') {
      switch (reader.type) {
        case c.IFLA_VXLAN_ID:
          data.id = reader.u32();
          break;
        case c.IFLA_VXLAN_PORT:
          data.port = reader.u16be();
          break;
        case c.IFLA_VXLAN_LINK:
          data.lowerIndex = reader.u32();
          break;
        case c.IFLA_VXLAN_LEARNING:
          data.learning = reader.u8() !== 0;
          break;
        case c.IFLA_VXLAN_GROUP:
        case c.IFLA_VXLAN_GROUP6:
          data.remote = reader.ip();
          break;
        case c.IFLA_VXLAN_LOCAL:
        case c.IFLA_VXLAN_LOCAL6:
          data.local = reader.ip();
          break;
      }
    }
  }
  return data;
}

/** `{ [name]: value }`, or nothing: with exactOptionalPropertyTypes an absent field is not an undefined one. */
function only<Name extends string, Value>(value: Value | undefined, name: Name): { [N in Name]?: Value } {
  return (value === undefined ? {} : { [name]: value }) as { [N in Name]?: Value };
}
