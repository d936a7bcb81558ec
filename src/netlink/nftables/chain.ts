import { AttributeReader } from '../attribute-reader.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import type { MessageWriter } from '../message-writer.ts';
import {
  NF_ACCEPT,
  NF_DROP,
  NF_INET_FORWARD,
  NF_INET_LOCAL_IN,
  NF_INET_LOCAL_OUT,
  NF_INET_POST_ROUTING,
  NF_INET_PRE_ROUTING,
  NFTA_CHAIN_HOOK,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_POLICY,
  NFTA_CHAIN_TABLE,
  NFTA_CHAIN_TYPE,
  NFTA_HOOK_HOOKNUM,
  NFTA_HOOK_PRIORITY,
} from './constants.ts';
import { invalid } from './error.ts';
import { familyName } from './family.ts';
import { checkName } from './names.ts';
import type { Table } from './table.ts';

/** Where packets meet a base chain. */
export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

const hookNumbers: Readonly<Record<Hook, number>> = {
  prerouting: NF_INET_PRE_ROUTING,
  input: NF_INET_LOCAL_IN,
  forward: NF_INET_FORWARD,
  output: NF_INET_LOCAL_OUT,
  postrouting: NF_INET_POST_ROUTING,
};
const hookNames = Object.keys(hookNumbers) as Hook[];

/** Priorities of `<linux/netfilter_ipv4.h>`: lower ones meet a packet first. */
export const NF_IP_PRI_RAW = -300;
export const NF_IP_PRI_MANGLE = -150;
export const NF_IP_PRI_NAT_DST = -100;
export const NF_IP_PRI_FILTER = 0;
export const NF_IP_PRI_NAT_SRC = 100;

/** What makes a chain a base chain: the kernel calls it. */
export interface BaseChain {
  /** `route` has a changed mark routed again, and exists for `output` only. */
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: Hook;
  /** Signed 32-bit. nat chains need more than -200. */
  readonly priority: number;
  /** What happens to a packet that no rule ended. */
  readonly policy: 'accept' | 'drop';
}

/** A chain: with `base` the kernel calls it, without it only a jump does. */
export interface Chain {
  readonly table: Table;
  readonly name: string;
  readonly base?: BaseChain;
}

/** @throws {InvalidInputError} `ERR_NFTABLES_INVALID` naming the field */
export function checkChain(chain: Chain): void {
  checkName(chain.name, 'chain.name');
  const { base } = chain;
  if (base === undefined) return;
  if (hookNumbers[base.hook] === undefined) throw invalid('chain.base.hook', `${JSON.stringify(base.hook)} is no hook`);
  if ((base.priority | 0) !== base.priority)
    throw invalid('chain.base.priority', `${base.priority} is no signed 32-bit number`);
  if (!['filter', 'nat', 'route'].includes(base.type))
    throw invalid('chain.base.type', `${JSON.stringify(base.type)} is not filter, nat or route`);
  if (base.policy !== 'accept' && base.policy !== 'drop')
    throw invalid('chain.base.policy', `${JSON.stringify(base.policy)} is not accept or drop`);
  if (base.type === 'route' && base.hook !== 'output') {
    throw invalid('chain.base.type', `a route chain is for output only, not ${base.hook}`);
  }
}

/** The attributes of `add chain`, after `struct nfgenmsg`, in nft's order. */
export function encodeChain(chain: Chain, writer: MessageWriter): void {
  writer.attrString(NFTA_CHAIN_TABLE, chain.table.name).attrString(NFTA_CHAIN_NAME, chain.name);
  const { base } = chain;
  if (base === undefined) return;
  writer.attrString(NFTA_CHAIN_TYPE, base.type);
  writer.attrU32be(NFTA_CHAIN_POLICY, base.policy === 'drop' ? NF_DROP : NF_ACCEPT);
  writer.nest(NFTA_CHAIN_HOOK, (hook) => {
    hook.attrU32be(NFTA_HOOK_HOOKNUM, hookNumbers[base.hook]).attrS32be(NFTA_HOOK_PRIORITY, base.priority);
  });
}

/** Reads an NFT_MSG_NEWCHAIN; nothing for a family that is not ours. @throws {NetlinkError} `ERR_NETLINK_MALFORMED` */
export function decodeChain(message: NetlinkMessage): Chain | undefined {
  const family = familyName(message.payload[0] ?? 0);
  const reader = new AttributeReader(message.payload, 4);
  let table = '';
  let name = '';
  let type: BaseChain['type'] = 'filter';
  let policy: BaseChain['policy'] = 'accept';
  let hook: Hook | undefined;
  let priority = 0;
  while (reader.next()) {
    if (reader.type === NFTA_CHAIN_TABLE) table = reader.string();
    else if (reader.type === NFTA_CHAIN_NAME) name = reader.string();
    else if (reader.type === NFTA_CHAIN_TYPE) type = reader.string() as BaseChain['type'];
    else if (reader.type === NFTA_CHAIN_POLICY) policy = reader.u32be() === NF_DROP ? 'drop' : 'accept';
    else if (reader.type === NFTA_CHAIN_HOOK) {
      const nested = reader.nested();
      while (nested.next()) {
        if (nested.type === NFTA_HOOK_HOOKNUM) hook = hookNames[nested.u32be()];
        else if (nested.type === NFTA_HOOK_PRIORITY) priority = nested.s32be();
      }
    }
  }
  reader.check();
  if (family === undefined) return undefined;
  const chain = { table: { family, name: table }, name };
  return hook === undefined ? chain : { ...chain, base: { type, hook, priority, policy } };
}
