import { AttributeReader } from './attribute-reader.ts';
import {
  NLA_HDRLEN,
  NLA_TYPE_MASK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  NLMSGERR_ATTR_MISS_TYPE,
  NLMSGERR_ATTR_MSG,
  NLMSGERR_ATTR_OFFS,
} from './constants.ts';
import type { NetlinkMessage } from './message-reader.ts';
import { NetlinkError } from './netlink-error.ts';

/** What NLMSG_ERROR or NLMSG_DONE says: `struct nlmsgerr` and the attributes of an extended acknowledgement. */
export interface Acknowledgement {
  /** Positive errno, 0 for success. */
  readonly errno: number;
  readonly extAck?: string;
  readonly offset?: number;
  readonly missingAttribute?: number;
}

/** Reads a message of type NLMSG_ERROR or NLMSG_DONE. @throws {NetlinkError} `ERR_NETLINK_MALFORMED` */
export function readAcknowledgement(message: NetlinkMessage): Acknowledgement {
  const { payload, flags } = message;
  // NLMSG_DONE of an old kernel, or of nfnetlink, may have no status at all.
  if (payload.length < 4) return { errno: 0 };
  const errno = 0 - payload.readInt32LE(0);
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno };
  let start = 4;
  if (message.type === NLMSG_ERROR) {
    // A refusal quotes the whole request, unless capped; a success quotes its header only.
    const quoted = errno !== 0 && (flags & NLM_F_CAPPED) === 0 && payload.length >= 8 ? payload.readUInt32LE(4) : 0;
    start += Math.max(NLMSG_HDRLEN, (quoted + 3) & ~3);
  }
  const ack: { -readonly [K in keyof Acknowledgement]: Acknowledgement[K] } = { errno };
  const reader = new AttributeReader(payload, start);
  while (reader.next()) {
    if (reader.type === NLMSGERR_ATTR_MSG) ack.extAck = reader.string();
    else if (reader.type === NLMSGERR_ATTR_OFFS) ack.offset = reader.u32();
    else if (reader.type === NLMSGERR_ATTR_MISS_TYPE) ack.missingAttribute = reader.u32();
  }
  reader.check();
  return ack;
}

/**
 * The refusal in `ack` as an error.
 *
 * @param request - the message that was refused, from its nlmsghdr on: `offset` is turned into the path of an attribute there
 * @param headerBytes - the fixed header of its family, between nlmsghdr and the first attribute
 */
export function refusal(
  ack: Acknowledgement,
  op: string,
  request: Buffer,
  headerBytes: number,
  index?: number,
): NetlinkError {
  return new NetlinkError({
    op,
    errno: ack.errno,
    syscall: 'sendmsg',
    extAck: ack.extAck,
    offset: ack.offset,
    attributePath:
      ack.offset === undefined ? undefined : attributePathAt(request, NLMSG_HDRLEN + headerBytes, ack.offset),
    missingAttribute: ack.missingAttribute,
    index,
  });
}

/**
 * The types on the way to the attribute that begins at or around byte `offset`; undefined where none does (the kernel also points
 * at fields of the fixed header). Nests are entered by their extent, since not every nest has NLA_F_NESTED.
 */
export function attributePathAt(message: Buffer, start: number, offset: number): readonly number[] | undefined {
  const path: number[] = [];
  let at = start;
  let end = message.length;
  while (at + NLA_HDRLEN <= end && at <= offset) {
    const length = message.readUInt16LE(at);
    // A nest with a fixed header of its own (VETH_INFO_PEER): what is known is the nest.
    if (length < NLA_HDRLEN || at + length > end) break;
    const type = message.readUInt16LE(at + 2) & NLA_TYPE_MASK;
    if (at === offset) return [...path, type];
    const next = at + ((length + 3) & ~3);
    if (offset < next) {
      path.push(type);
      end = at + length;
      at += NLA_HDRLEN;
    } else at = next;
  }
  return path.length === 0 ? undefined : path;
}
