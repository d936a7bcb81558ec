import { NLMSG_HDRLEN } from './constants.ts';
import { NetlinkError } from './netlink-error.ts';

/** One netlink message, taken apart no further than its `struct nlmsghdr`. */
export interface NetlinkMessage {
  readonly type: number;
  /** NLM_F_… */
  readonly flags: number;
  readonly seq: number;
  /** What follows the header: the family's fixed header, then attributes ({@link AttributeReader}). */
  readonly payload: Buffer;
}

/**
 * Takes a datagram, or the messages of a {@link MessageWriter}, apart. Payloads are views of `buffer`.
 *
 * @throws {NetlinkError} `ERR_NETLINK_MALFORMED` for a length that contradicts the bytes there are
 */
export function readMessages(buffer: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at < buffer.length; ) {
    const end = messageEnd(buffer, at);
    messages.push({
      type: buffer.readUInt16LE(at + 4),
      flags: buffer.readUInt16LE(at + 6),
      seq: buffer.readUInt32LE(at + 8),
      payload: buffer.subarray(at + NLMSG_HDRLEN, end),
    });
    at = (end + 3) & ~3;
  }
  return messages;
}

/** Where the message that begins at `at` ends, its padding not counted. @throws {NetlinkError} `ERR_NETLINK_MALFORMED` */
export function messageEnd(buffer: Buffer, at: number): number {
  const left = buffer.length - at;
  const length = left < NLMSG_HDRLEN ? 0 : buffer.readUInt32LE(at);
  if (length >= NLMSG_HDRLEN && length <= left) return at + length;
  throw new NetlinkError({
    op: 'netlink.decode',
    code: 'ERR_NETLINK_MALFORMED',
    message: `a message of length ${length} at byte ${at}, where ${left} bytes are left`,
  });
}
