import { InvalidInputError } from '../errors/index.ts';
import { ipBytes, parseIp } from '../ip/index.ts';
import { AttributeReader, MessageWriter, type Netlink } from '../netlink/index.ts';
import { linkIndex, listLinks } from '../netlink/route/index.ts';
import { AF_INET } from '../system/index.ts';

// <linux/rtnetlink.h>
const RTM_GETROUTE = 26;
const RTM_F_LOOKUP_TABLE = 0x1000;
const RTMSG_BYTES = 12;
const RTN_LOCAL = 2;
const RTA_DST = 1;
const RTA_SRC = 2;
const RTA_IIF = 3;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_TABLE = 15;
const RTA_MARK = 16;

/** A packet that does not exist: IPv4. */
export interface ImaginedPacket {
  readonly source?: string;
  readonly destination: string;
  /** The device it came in by. Left out: the namespace itself sends it. */
  readonly device?: string;
  readonly mark?: number;
}

/** Where the kernel would send it. */
export interface RouteDecision {
  readonly table: number;
  /** To a socket of this namespace. */
  readonly local: boolean;
  readonly device: string | undefined;
  readonly gateway: string | undefined;
}

/**
 * Asks the kernel where it would send a packet, as `ip route get … from … iif … mark …`: the policy rules and tables as they are now.
 *
 * @param netlink - of family `route`
 * @throws {InvalidInputError} `ERR_LAB_INVALID`, `ERR_IP_ADDRESS`; `NetlinkError` `EHOSTUNREACH`, `ENETUNREACH`, `EXDEV` (source
 *   refused by rp_filter)
 */
export function lookupRoute(netlink: Netlink, packet: ImaginedPacket): RouteDecision {
  const op = 'lab.lookupRoute';
  const { source, device, mark } = packet;
  const destination = ipv4(packet.destination, 'destination', op);
  const writer = new MessageWriter().begin(RTM_GETROUTE, 0);
  writer
    .u8(AF_INET)
    .u8(32)
    .u8(source === undefined ? 0 : 32)
    .bytes(new Uint8Array(RTMSG_BYTES - 7))
    .u32(RTM_F_LOOKUP_TABLE)
    .attrBytes(RTA_DST, destination);
  if (source !== undefined) writer.attrBytes(RTA_SRC, ipv4(source, 'source', op));
  if (device !== undefined) writer.attrU32(RTA_IIF, linkIndex(netlink, device, op, 'device'));
  if (mark !== undefined) writer.attrU32(RTA_MARK, mark);
  const [answer] = netlink.request(writer.end().finish(), { op });
  if (answer === undefined) throw new RangeError('the kernel gave no route and no reason');
  const { payload } = answer;
  const reader = new AttributeReader(payload, RTMSG_BYTES);
  let table = payload[4]!;
  let out: number | undefined;
  let gateway: string | undefined;
  while (reader.next()) {
    if (reader.type === RTA_TABLE) table = reader.u32();
    else if (reader.type === RTA_OIF) out = reader.u32();
    else if (reader.type === RTA_GATEWAY) gateway = reader.ip();
  }
  reader.check();
  const link = listLinks(netlink).find(({ index }) => index === out);
  return { table, local: payload[7] === RTN_LOCAL, device: link?.name, gateway };
}

function ipv4(text: string, field: string, op: string): Uint8Array {
  const ip = parseIp(text, field);
  if (ip.family === 4) return ipBytes(ip);
  throw new InvalidInputError({ code: 'ERR_LAB_INVALID', op, field, message: `${text} is no IPv4 address` });
}
