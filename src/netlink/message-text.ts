import {
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NLA_F_NESTED,
  NLA_F_NET_BYTEORDER,
  NLA_HDRLEN,
  NLA_TYPE_MASK,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_ECHO,
  NLM_F_MULTI,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  NLMSG_NOOP,
  NLMSG_OVERRUN,
} from './constants.ts';
import type { NetlinkFamily } from './family.ts';
import { messageEnd } from './message-reader.ts';

/**
 * Messages as text, in the form of libmnl (`nft --debug=mnl`): a header table, then four bytes a line, attributes named by length,
 * flags (N nested, B network byte order) and type. This is what AMBIENT_NETLINK_DEBUG=1 prints.
 *
 * Bytes that are no netlink are shown as far as they make sense; this function does not throw.
 */
export function formatMessages(buffer: Buffer, family: NetlinkFamily): string {
  const lines: string[] = [];
  for (let at = 0; at < buffer.length; ) {
    let end: number;
    try {
      end = messageEnd(buffer, at);
    } catch {
      lines.push(`${buffer.length - at} bytes that are no message`);
      hexLines(buffer, at, buffer.length, 'data', lines);
      break;
    }
    messageLines(buffer, at, end, family, lines);
    at = (end + 3) & ~3;
  }
  return `${lines.join('\n')}\n`;
}

/** `RTM_NEWLINK`, `NFTABLES/5`, `NLMSG_DONE`; a bare number where the type is not known. */
export function messageTypeName(type: number, family: NetlinkFamily): string {
  const control = CONTROL_NAMES[type];
  if (control !== undefined) return control;
  if (family === 'route') {
    const object = ROUTE_OBJECTS[(type - 16) >> 2];
    return object === undefined ? String(type) : `RTM_${ROUTE_VERBS[type & 3]}${object}`;
  }
  if (family === 'sock-diag') return type === 18 ? 'TCPDIAG_GETSOCK' : String(type);
  if (type === NFNL_MSG_BATCH_BEGIN) return 'NFNL_MSG_BATCH_BEGIN';
  if (type === NFNL_MSG_BATCH_END) return 'NFNL_MSG_BATCH_END';
  return `${NETFILTER_SUBSYSTEMS[type >> 8] ?? type >> 8}/${type & 0xff}`;
}

/** Bytes of the fixed header between nlmsghdr and the first attribute: 16 for `struct ifinfomsg`, 4 for `struct nfgenmsg`. */
export function fixedHeaderBytes(type: number, family: NetlinkFamily): number {
  if (family === 'netfilter') return 4;
  // struct inet_diag_msg; a request has less, and no attributes.
  if (family === 'sock-diag') return 72;
  return ROUTE_HEADER_BYTES[(type - 16) >> 2] ?? 0;
}

const CONTROL_NAMES: Readonly<Record<number, string>> = {
  [NLMSG_NOOP]: 'NLMSG_NOOP',
  [NLMSG_ERROR]: 'NLMSG_ERROR',
  [NLMSG_DONE]: 'NLMSG_DONE',
  [NLMSG_OVERRUN]: 'NLMSG_OVERRUN',
};
const ROUTE_OBJECTS = ['LINK', 'ADDR', 'ROUTE', 'NEIGH', 'RULE', 'QDISC', 'TCLASS', 'TFILTER'];
const ROUTE_VERBS = ['NEW', 'DEL', 'GET', 'SET'];
const ROUTE_HEADER_BYTES = [16, 8, 12, 12, 12, 20, 20, 20];
const NETFILTER_SUBSYSTEMS: Readonly<Record<number, string>> = {
  1: 'CTNETLINK',
  2: 'CTNETLINK_EXP',
  6: 'IPSET',
  10: 'NFTABLES',
};

const RULER = '----------------\t------------------';

function messageLines(buffer: Buffer, start: number, end: number, family: NetlinkFamily, lines: string[]): void {
  const type = buffer.readUInt16LE(start + 4);
  const flags = buffer.readUInt16LE(start + 6);
  lines.push(
    RULER,
    `|  ${number(buffer.readUInt32LE(start), 10)}  |\t| message length |`,
    `| ${number(type, 5)} | ${flagLetters(flags)} |\t|  type | flags  |  ${messageTypeName(type, family)} 0x${flags.toString(16)}`,
    `|  ${number(buffer.readUInt32LE(start + 8), 10)}  |\t| sequence number|`,
    `|  ${number(buffer.readUInt32LE(start + 12), 10)}  |\t|     port ID    |`,
    RULER,
  );
  const body = start + NLMSG_HDRLEN;
  if (type < 16) hexLines(buffer, body, end, 'status', lines);
  else {
    const attributes = Math.min(end, body + fixedHeaderBytes(type, family));
    hexLines(buffer, body, attributes, 'extra header', lines);
    attributeLines(buffer, attributes, end, lines);
  }
  lines.push(RULER);
}

function attributeLines(buffer: Buffer, start: number, end: number, lines: string[]): void {
  for (let at = start; at < end; ) {
    const length = at + NLA_HDRLEN <= end ? buffer.readUInt16LE(at) : 0;
    if (length < NLA_HDRLEN || at + length > end) {
      hexLines(buffer, at, end, 'data', lines);
      return;
    }
    const type = buffer.readUInt16LE(at + 2);
    const letters = `${(type & NLA_F_NESTED) !== 0 ? 'N' : '-'}${(type & NLA_F_NET_BYTEORDER) !== 0 ? 'B' : '-'}`;
    lines.push(`|${number(length, 5)}|${letters}|${number(type & NLA_TYPE_MASK, 5)}|\t|len |flags| type|`);
    if ((type & NLA_F_NESTED) !== 0) attributeLines(buffer, at + NLA_HDRLEN, at + length, lines);
    else hexLines(buffer, at + NLA_HDRLEN, at + length, 'data', lines);
    at += (length + 3) & ~3;
  }
}

function hexLines(buffer: Buffer, start: number, end: number, label: string, lines: string[]): void {
  for (let at = start; at < end; at += 4) {
    const bytes: string[] = [];
    let text = '';
    for (let i = at; i < at + 4; i++) {
      const byte = i < end ? buffer[i]! : 0;
      bytes.push(byte.toString(16).padStart(2, '0'));
      text += byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ' ';
    }
    const padded = label.padStart((14 + label.length) >> 1).padEnd(14);
    lines.push(`| ${bytes.join(' ')}  |\t| ${padded} |\t ${text.split('').join(' ')}`.trimEnd());
  }
}

function flagLetters(flags: number): string {
  if ((flags & NLM_F_DUMP_INTR) !== 0) return 'INTR';
  // The bits of NLM_F_DUMP mean something else in an answer.
  const isDump = (flags & NLM_F_REQUEST) !== 0 && (flags & NLM_F_DUMP) === NLM_F_DUMP;
  const letters = [
    (flags & NLM_F_REQUEST) !== 0 ? 'R' : '-',
    (flags & NLM_F_MULTI) !== 0 ? 'M' : '-',
    (flags & NLM_F_ACK) !== 0 ? 'A' : '-',
    (flags & NLM_F_ECHO) !== 0 ? 'E' : isDump ? 'D' : '-',
  ];
  return letters.join('');
}

function number(value: number, digits: number): string {
  return String(value).padStart(digits, '0');
}
