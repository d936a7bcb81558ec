import { NLA_F_NESTED, NLA_HDRLEN, NLA_TYPE_MASK, NLM_F_ACK, NLM_F_REQUEST } from '../../src/netlink/index.ts';

/** Which attributes hold attributes, after how many bytes of a fixed header: real tools do not always set NLA_F_NESTED. */
export interface Nests {
  readonly [type: number]: { readonly header?: number; readonly inside?: Nests };
}

/** A netlink message without what two right programs may do differently: order of attributes, NLA_F_NESTED, sequence numbers. */
export interface Shape {
  readonly type: number;
  readonly flags: number;
  readonly header: string;
  readonly attributes: Tree;
}

export interface Tree {
  readonly [type: string]: string | Tree;
}

/** @param header - bytes of the family's fixed header */
export function shapeOf(message: Buffer, header: number, nests: Nests = {}): Shape {
  if (message.readUInt32LE(0) !== message.length) throw new Error('nlmsg_len is not the length of the message');
  return {
    type: message.readUInt16LE(4),
    flags: message.readUInt16LE(6) & ~(NLM_F_REQUEST | NLM_F_ACK),
    header: message.toString('hex', 16, 16 + header),
    attributes: treeOf(message, 16 + header, message.length, nests),
  };
}

function treeOf(bytes: Buffer, start: number, end: number, nests: Nests): Tree {
  const tree: Record<string, string | Tree> = {};
  let at = start;
  while (at + NLA_HDRLEN <= end) {
    const length = bytes.readUInt16LE(at);
    const flaggedType = bytes.readUInt16LE(at + 2);
    const type = flaggedType & NLA_TYPE_MASK;
    if (length < NLA_HDRLEN || at + length > end) throw new Error(`attribute ${type} at ${at} is longer than its nest`);
    const nest = nests[type];
    const value = at + NLA_HDRLEN;
    if (nest === undefined && (flaggedType & NLA_F_NESTED) === 0)
      tree[type] = bytes.toString('hex', value, at + length);
    else {
      const inner = treeOf(bytes, value + (nest?.header ?? 0), at + length, nest?.inside ?? {});
      const fixed = bytes.toString('hex', value, value + (nest?.header ?? 0));
      tree[type] = fixed === '' ? inner : { header: fixed, ...inner };
    }
    at += (length + 3) & ~3;
  }
  if (at !== end && at !== ((end + 3) & ~3)) throw new Error(`${end - at} bytes are left over`);
  return tree;
}

/** Bytes written down in hex, spaces and line ends allowed. */
export function hex(text: string): Buffer {
  return Buffer.from(text.replace(/\s+/g, ''), 'hex');
}
