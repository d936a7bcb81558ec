import { AttributeReader } from '../netlink/index.ts';
import { NFTA_DATA_VALUE } from '../netlink/nftables/constants.ts';
import type { Opaque } from '../netlink/nftables/expressions/opaque.ts';

// <linux/netfilter/nf_tables.h>: enum nft_range_attributes, nft_ng_attributes, nft_hash_attributes, nft_byteorder_attributes
const NFTA_RANGE_SREG = 1;
const NFTA_RANGE_OP = 2;
const NFTA_RANGE_FROM_DATA = 3;
const NFTA_RANGE_TO_DATA = 4;
const NFT_RANGE_NEQ = 1;
const NFTA_NG_DREG = 1;
const NFTA_NG_MODULUS = 2;
const NFTA_NG_TYPE = 3;
const NFTA_NG_OFFSET = 4;
const NFT_NG_RANDOM = 1;
const NFTA_HASH_DREG = 2;
const NFTA_HASH_MODULUS = 4;
const NFTA_HASH_OFFSET = 6;
const NFTA_BYTEORDER_SREG = 1;
const NFTA_BYTEORDER_DREG = 2;
const NFTA_BYTEORDER_LEN = 4;
const NFTA_BYTEORDER_SIZE = 5;
// enum nft_dynset_attributes, nft_objref_attributes
const NFTA_DYNSET_SET_NAME = 1;
const NFTA_DYNSET_OP = 3;
const NFTA_DYNSET_EXPR = 7;
const NFTA_DYNSET_FLAGS = 9;
const NFTA_DYNSET_EXPRESSIONS = 10;
const NFT_DYNSET_F_INV = 1;
const NFTA_EXTHDR_SREG = 7;
const NFTA_OBJREF_IMM_TYPE = 1;
const NFTA_OBJREF_IMM_NAME = 2;
// <linux/netfilter/nf_tables_compat.h>: enum nft_match_attributes, and nft_target_attributes with the same numbers
const NFTA_MATCH_NAME = 1;
const NFTA_MATCH_REV = 2;
const NFTA_MATCH_INFO = 3;

/** NFT_OBJECT_… that may end a rule: quota, limit, connlimit, synproxy. */
const DECIDING_OBJECTS = new Map([
  [2, 'quota'],
  [4, 'limit'],
  [5, 'ct count'],
  [10, 'synproxy'],
]);
/** Expressions that neither decide nor change anything that matters here. */
const HARMLESS: Readonly<Record<string, string>> = {
  log: 'log',
  last: 'last',
  dup: 'dup (a copy is sent elsewhere)',
  flow_offload: 'flow add (an established flow takes the flowtable from then on)',
};

/** An expression that `netlink/nftables` keeps as it came, read for walking. */
export type Foreign =
  | {
      readonly type: 'range';
      readonly sreg: number;
      readonly invert: boolean;
      readonly from: Buffer;
      readonly to: Buffer;
    }
  /** A number that nobody knows beforehand, from `offset` to `offset + modulus - 1`, in host byte order. */
  | {
      readonly type: 'number';
      readonly dreg: number;
      readonly modulus: number;
      readonly offset: number;
      readonly by: string;
    }
  | {
      readonly type: 'byteorder';
      readonly sreg: number;
      readonly dreg: number;
      readonly bytes: number;
      /** Bytes of each number that is turned round. */
      readonly size: number;
    }
  | {
      readonly type: 'match' | 'target';
      readonly name: string;
      readonly revision: number;
      /** The structure of xtables that goes with the name. */
      readonly info: Buffer;
    }
  | { readonly type: 'notrack' }
  | { readonly type: 'harmless'; readonly text: string }
  /** `isCondition`: it changes nothing, it may only end the rule. */
  | { readonly type: 'unknown'; readonly why: string; readonly isCondition?: boolean };

/** Expressions that hang on what came before, or read what this library does not know, and change nothing else. */
const CONDITIONS = new Set(['limit', 'quota', 'connlimit', 'rt', 'exthdr', 'osf', 'xfrm', 'tunnel', 'socket']);

/** Reads an expression without a codec; `unknown` for one that cannot be judged. Throws nothing. */
export function readForeign({ name, data }: Opaque): Foreign {
  const attributes = numbered(data);
  const number = (type: number) => attributes.get(type)?.number ?? 0;
  const why = `the expression ${JSON.stringify(name)}`;
  const unknown = { type: 'unknown', why, ...(CONDITIONS.has(name) ? { isCondition: true } : {}) } as const;
  const harmless = HARMLESS[name];
  if (harmless !== undefined) return { type: 'harmless', text: harmless };
  switch (name) {
    case 'exthdr':
      // An option of the TCP header is written: `tcp option maxseg size set rt mtu`.
      return attributes.has(NFTA_EXTHDR_SREG) ? { type: 'harmless', text: 'tcp option set' } : unknown;
    case 'notrack':
      return { type: 'notrack' };
    case 'range': {
      const [from, to] = [NFTA_RANGE_FROM_DATA, NFTA_RANGE_TO_DATA].map((type) => valueIn(attributes.get(type)?.bytes));
      if (from === undefined || to === undefined || from.length !== to.length) return unknown;
      return {
        type: 'range',
        sreg: number(NFTA_RANGE_SREG),
        invert: number(NFTA_RANGE_OP) === NFT_RANGE_NEQ,
        from,
        to,
      };
    }
    case 'numgen': {
      const modulus = number(NFTA_NG_MODULUS);
      const by = `numgen ${number(NFTA_NG_TYPE) === NFT_NG_RANDOM ? 'random' : 'inc'} mod ${modulus}`;
      return { type: 'number', dreg: number(NFTA_NG_DREG), modulus, offset: number(NFTA_NG_OFFSET), by };
    }
    case 'hash': {
      const modulus = number(NFTA_HASH_MODULUS);
      const by = `a hash of the packet mod ${modulus}`;
      return { type: 'number', dreg: number(NFTA_HASH_DREG), modulus, offset: number(NFTA_HASH_OFFSET), by };
    }
    case 'byteorder':
      if (number(NFTA_BYTEORDER_SIZE) === 0) return unknown;
      return {
        type: 'byteorder',
        sreg: number(NFTA_BYTEORDER_SREG),
        dreg: number(NFTA_BYTEORDER_DREG),
        bytes: number(NFTA_BYTEORDER_LEN),
        size: number(NFTA_BYTEORDER_SIZE),
      };
    case 'dynset': {
      const set = attributes.get(NFTA_DYNSET_SET_NAME)?.text ?? '';
      const conditional = attributes.has(NFTA_DYNSET_EXPR) || attributes.has(NFTA_DYNSET_EXPRESSIONS);
      if (conditional || (number(NFTA_DYNSET_FLAGS) & NFT_DYNSET_F_INV) !== 0) {
        return { type: 'unknown', why: `what it finds in the set ${set} that it writes to` };
      }
      return { type: 'harmless', text: `${['add', 'update', 'delete'][number(NFTA_DYNSET_OP)] ?? 'change'} @${set}` };
    }
    case 'objref': {
      const object = attributes.get(NFTA_OBJREF_IMM_NAME)?.text;
      const deciding = DECIDING_OBJECTS.get(number(NFTA_OBJREF_IMM_TYPE));
      if (object === undefined) return { type: 'unknown', why: 'an object out of a map' };
      if (deciding !== undefined) {
        return { type: 'unknown', why: `the ${deciding} ${JSON.stringify(object)}`, isCondition: true };
      }
      return { type: 'harmless', text: `object ${JSON.stringify(object)}` };
    }
    case 'match':
    case 'target': {
      const xt = attributes.get(NFTA_MATCH_NAME)?.text ?? '';
      const info = attributes.get(NFTA_MATCH_INFO)?.bytes ?? Buffer.alloc(0);
      return { type: name, name: xt, revision: number(NFTA_MATCH_REV), info };
    }
    case 'queue':
      return { type: 'unknown', why: 'a program in user space (queue)' };
    default:
      return unknown;
  }
}

interface Attribute {
  readonly bytes: Buffer;
  /** Of four bytes, in network byte order as nf_tables writes them. */
  readonly number: number;
  readonly text: string;
}

function numbered(data: Uint8Array): Map<number, Attribute> {
  const found = new Map<number, Attribute>();
  const reader = new AttributeReader(Buffer.from(data));
  while (reader.next()) {
    const bytes = Buffer.from(reader.bytes());
    found.set(reader.type, {
      bytes,
      number: bytes.length === 4 ? bytes.readUInt32BE(0) : 0,
      text: bytes.toString('utf8').replace(/\0.*$/s, ''),
    });
  }
  return found;
}

/** The contents of a register inside an attribute. */
function valueIn(attribute: Buffer | undefined): Buffer | undefined {
  if (attribute === undefined) return undefined;
  const data = new AttributeReader(attribute);
  while (data.next()) if (data.type === NFTA_DATA_VALUE) return Buffer.from(data.bytes());
  return undefined;
}
