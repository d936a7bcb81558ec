import { AttributeReader } from '../attribute-reader.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import type { MessageWriter } from '../message-writer.ts';
import {
  NFTA_LIST_ELEM,
  NFTA_RULE_CHAIN,
  NFTA_RULE_EXPRESSIONS,
  NFTA_RULE_HANDLE,
  NFTA_RULE_TABLE,
  NFTA_RULE_USERDATA,
  NFTNL_UDATA_RULE_COMMENT,
} from './constants.ts';
import { decodeExpression, type Expression, encodeExpression } from './expressions/index.ts';
import { familyName } from './family.ts';
import type { Table } from './table.ts';
import { decodeComment, encodeComment } from './userdata.ts';

/** A rule: expressions run in order until one ends it. */
export interface Rule {
  readonly table: Table;
  readonly chain: string;
  readonly expressions: readonly Expression[];
  /** At most 127 bytes; what `nft list` shows as `comment "…"`. */
  readonly comment?: string;
}

/** A rule as the kernel has it. */
export interface InstalledRule extends Rule {
  /** The kernel's number for it, unique in its table. */
  readonly handle: bigint;
}

/**
 * The user data of a rule: its comment.
 *
 * @throws {InvalidInputError} `ERR_NFTABLES_INVALID` (field `rule.comment`)
 */
export function ruleUserdata(rule: Rule): Uint8Array | undefined {
  return rule.comment === undefined ? undefined : encodeComment(NFTNL_UDATA_RULE_COMMENT, rule.comment, 'rule.comment');
}

/** The attributes of `add rule`, after `struct nfgenmsg`, in nft's order. */
export function encodeRule(rule: Rule, userdata: Uint8Array | undefined, writer: MessageWriter): void {
  writer.attrString(NFTA_RULE_TABLE, rule.table.name).attrString(NFTA_RULE_CHAIN, rule.chain);
  writer.nest(NFTA_RULE_EXPRESSIONS, (list) => {
    for (const expression of rule.expressions) encodeExpression(expression, list);
  });
  if (userdata !== undefined) writer.attrBytes(NFTA_RULE_USERDATA, userdata);
}

/** Reads an NFT_MSG_NEWRULE; nothing for a family that is not ours. @throws {NetlinkError} `ERR_NETLINK_MALFORMED` */
export function decodeRule(message: NetlinkMessage): InstalledRule | undefined {
  const family = familyName(message.payload[0] ?? 0);
  const reader = new AttributeReader(message.payload, 4);
  let table = '';
  let chain = '';
  let handle = 0n;
  let comment: string | undefined;
  const expressions: Expression[] = [];
  while (reader.next()) {
    if (reader.type === NFTA_RULE_TABLE) table = reader.string();
    else if (reader.type === NFTA_RULE_CHAIN) chain = reader.string();
    else if (reader.type === NFTA_RULE_HANDLE) handle = reader.u64be();
    else if (reader.type === NFTA_RULE_USERDATA) comment = decodeComment(NFTNL_UDATA_RULE_COMMENT, reader.bytes());
    else if (reader.type === NFTA_RULE_EXPRESSIONS) {
      const list = reader.nested();
      while (list.next()) if (list.type === NFTA_LIST_ELEM) expressions.push(decodeExpression(list.nested()));
    }
  }
  reader.check();
  if (family === undefined) return undefined;
  const rule = { table: { family, name: table }, chain, handle, expressions };
  return comment === undefined ? rule : { ...rule, comment };
}
