import { AF_INET } from '../../system/index.ts';
import { NFNETLINK_V0, NFNL_SUBSYS_IPSET, NLA_F_NET_BYTEORDER, NLA_HDRLEN } from '../constants.ts';
import { MessageWriter } from '../message-writer.ts';
import { IPSET_ATTR_PROTOCOL, IPSET_ATTR_SETNAME, IPSET_MAXNAMELEN, IPSET_PROTOCOL } from './constants.ts';
import { invalid } from './error.ts';

/** The type of a message of ipset. */
export function messageType(command: number): number {
  return (NFNL_SUBSYS_IPSET << 8) | command;
}

/**
 * `nlmsghdr`, `struct nfgenmsg` and the two attributes that every command begins with; the caller ends it. The family of the header
 * is AF_INET for IPv6 sets too: the set has one of its own.
 */
export function beginMessage(command: number, flags: number, name?: string): MessageWriter {
  const writer = new MessageWriter({ initialBytes: 256 }).begin(messageType(command), flags);
  writer.u8(AF_INET).u8(NFNETLINK_V0).u16be(0).attrU8(IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL);
  return name === undefined ? writer : writer.attrString(IPSET_ATTR_SETNAME, name);
}

/** A number in network byte order, which ipset wants flagged as such. */
export function attrNet32(writer: MessageWriter, type: number, value: number): void {
  writer
    .u16(NLA_HDRLEN + 4)
    .u16(type | NLA_F_NET_BYTEORDER)
    .u32be(value);
}

/** The name of a set. @throws {InvalidInputError} `ERR_IPSET_INVALID` naming `field` */
export function checkSetName(op: string, name: string, field: string): string {
  const bytes = typeof name === 'string' ? Buffer.byteLength(name) : 0;
  if (bytes >= 1 && bytes < IPSET_MAXNAMELEN && !/[\s\0"]/.test(name)) return name;
  const what = `${JSON.stringify(name)} is no set name`;
  throw invalid(op, field, `${what}: 1 to ${IPSET_MAXNAMELEN - 1} bytes without space or double quote`);
}
