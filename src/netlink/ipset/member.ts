import { ipBytes, parseIp } from '../../ip/index.ts';
import type { AttributeReader } from '../attribute-reader.ts';
import { NLA_F_NET_BYTEORDER, NLA_HDRLEN } from '../constants.ts';
import type { MessageWriter } from '../message-writer.ts';
import * as c from './constants.ts';
import { invalid } from './error.ts';
import { attrNet32 } from './message.ts';

/** One member of a set. */
export interface Member {
  /** Of the set's family. */
  readonly ip: string;
  /** At most 255 bytes; what `ipset list` shows as `comment "…"`. Needs a set with comments. */
  readonly comment?: string;
}

/** A member ready to be written: checked, and of known size. */
export interface EncodedMember {
  readonly address: Uint8Array;
  readonly comment: string | undefined;
  /** What it takes in a list of members, headers and padding included. */
  readonly bytes: number;
}

/**
 * @param field - where the member is in the caller's value, for the error
 * @throws {InvalidInputError} `ERR_IPSET_INVALID` or `ERR_IP_ADDRESS`
 */
export function prepareMember(op: string, { ip, comment }: Member, field: string): EncodedMember {
  const address = ipBytes(parseIp(ip, `${field}.ip`));
  let bytes = NLA_HDRLEN * 3 + address.length + 8;
  if (comment !== undefined) {
    const length = Buffer.byteLength(comment);
    if (length > c.IPSET_MAX_COMMENT_SIZE || /[\0\n"]/.test(comment)) {
      const most = c.IPSET_MAX_COMMENT_SIZE;
      throw invalid(
        op,
        `${field}.comment`,
        `a comment has at most ${most} bytes, and no NUL, line end or double quote`,
      );
    }
    bytes += NLA_HDRLEN + ((length + 1 + 3) & ~3);
  }
  return { address, comment, bytes };
}

/** One `IPSET_ATTR_DATA` of a member. @param line - what the kernel names it by where it refuses it */
export function writeMember(writer: MessageWriter, { address, comment }: EncodedMember, line: number): void {
  const type = address.length === 4 ? c.IPSET_ATTR_IPADDR_IPV4 : c.IPSET_ATTR_IPADDR_IPV6;
  writer.nest(c.IPSET_ATTR_DATA, (data) => {
    data.nest(c.IPSET_ATTR_IP, (ip) => {
      ip.u16(NLA_HDRLEN + address.length)
        .u16(type | NLA_F_NET_BYTEORDER)
        .bytes(address);
    });
    if (comment !== undefined) data.attrString(c.IPSET_ATTR_COMMENT, comment);
    attrNet32(data, c.IPSET_ATTR_LINENO, line);
  });
}

/** Reads what is inside the `IPSET_ATTR_DATA` of a member. */
export function readMember(reader: AttributeReader): Member {
  let ip = '';
  let comment: string | undefined;
  while (reader.next()) {
    if (reader.type === c.IPSET_ATTR_COMMENT) comment = reader.string();
    if (reader.type !== c.IPSET_ATTR_IP) continue;
    const address = reader.nested();
    while (address.next()) ip = address.ip();
  }
  return comment === undefined ? { ip } : { ip, comment };
}
