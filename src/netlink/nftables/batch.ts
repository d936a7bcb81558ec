import {
  NFNETLINK_V0,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REQUEST,
} from '../constants.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import { NetlinkError } from '../netlink-error.ts';
import { type Chain, checkChain, encodeChain } from './chain.ts';
import {
  NFT_MSG_DELCHAIN,
  NFT_MSG_DELRULE,
  NFT_MSG_DELSET,
  NFT_MSG_DELSETELEM,
  NFT_MSG_DELTABLE,
  NFT_MSG_NEWCHAIN,
  NFT_MSG_NEWRULE,
  NFT_MSG_NEWSET,
  NFT_MSG_NEWSETELEM,
  NFT_MSG_NEWTABLE,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_TABLE,
  NFTA_RULE_CHAIN,
  NFTA_RULE_HANDLE,
  NFTA_RULE_TABLE,
  NFTA_SET_ELEM_LIST_SET,
  NFTA_SET_ELEM_LIST_TABLE,
  NFTA_SET_NAME,
  NFTA_SET_TABLE,
  NFTA_TABLE_NAME,
} from './constants.ts';
import { type Element, encodeElements, prepareElement } from './element.ts';
import { NftablesError } from './error.ts';
import { beginMessage, familyNumber } from './family.ts';
import { checkName } from './names.ts';
import { encodeRule, type InstalledRule, type Rule, ruleUserdata } from './rule.ts';
import { encodeSet, type NamedSet } from './set.ts';
import { encodeTable, type Table, tableText } from './table.ts';

/** Limits of a {@link Batch}. */
export interface BatchOptions {
  /** The whole transaction may be this long. Default 16 MiB, about 300,000 commented addresses. */
  readonly maxBytes?: number;
  /** Elements are spread over messages whose list is no longer than this; at most 65,000, an attribute's own limit. Default 60,000. */
  readonly maxElementListBytes?: number;
}

/**
 * Commands collected, then carried out as one transaction: the kernel takes all of them or none, and no packet ever meets a part.
 *
 * Adding what exists is no error (as with `nft add`) unless the method says otherwise; deleting what does not exist is one.
 * Every method checks what it is given and throws InvalidInputError `ERR_NFTABLES_INVALID`, with nothing added.
 */
export class Batch {
  readonly #writer: MessageWriter;
  readonly #commands: string[] = [];
  readonly #setIds = new Map<string, number>();
  readonly #maxElementListBytes: number;

  constructor(options: BatchOptions = {}) {
    this.#writer = new MessageWriter({ initialBytes: 16 << 10, maxBytes: options.maxBytes ?? 16 << 20 });
    this.#maxElementListBytes = Math.min(options.maxElementListBytes ?? 60_000, 65_000);
    this.#mark(NFNL_MSG_BATCH_BEGIN);
  }

  /** The commands so far, as nft would write them, one per netlink message. */
  get commands(): readonly string[] {
    return this.#commands;
  }

  addTable(table: Table): this {
    this.#begin(table, NFT_MSG_NEWTABLE, NLM_F_CREATE, `add table ${tableText(table)}`);
    encodeTable(table, this.#writer);
    return this.#end();
  }

  /** With everything in it. */
  deleteTable(table: Table): this {
    this.#begin(table, NFT_MSG_DELTABLE, 0, `delete table ${tableText(table)}`);
    this.#writer.attrString(NFTA_TABLE_NAME, table.name);
    return this.#end();
  }

  /** Takes the table away if there is one: it is added first, so that this cannot fail, on any kernel. */
  destroyTable(table: Table): this {
    return this.addTable(table).deleteTable(table);
  }

  addChain(chain: Chain): this {
    checkChain(chain);
    this.#begin(chain.table, NFT_MSG_NEWCHAIN, NLM_F_CREATE, `add chain ${tableText(chain.table)} ${chain.name}`);
    encodeChain(chain, this.#writer);
    return this.#end();
  }

  /** Takes a chain's rules away. */
  flushChain(chain: Pick<Chain, 'table' | 'name'>): this {
    checkName(chain.name, 'chain.name');
    this.#begin(chain.table, NFT_MSG_DELRULE, 0, `flush chain ${tableText(chain.table)} ${chain.name}`);
    this.#writer.attrString(NFTA_RULE_TABLE, chain.table.name).attrString(NFTA_RULE_CHAIN, chain.name);
    return this.#end();
  }

  /** The chain must be empty, and no rule may jump to it. */
  deleteChain(chain: Pick<Chain, 'table' | 'name'>): this {
    checkName(chain.name, 'chain.name');
    this.#begin(chain.table, NFT_MSG_DELCHAIN, 0, `delete chain ${tableText(chain.table)} ${chain.name}`);
    this.#writer.attrString(NFTA_CHAIN_TABLE, chain.table.name).attrString(NFTA_CHAIN_NAME, chain.name);
    return this.#end();
  }

  /** At the end of its chain. Rules have no identity: adding one twice makes two. */
  addRule(rule: Rule): this {
    return this.#rule(rule, NLM_F_CREATE | NLM_F_APPEND, 'add');
  }

  /** At the head of its chain. */
  insertRule(rule: Rule): this {
    return this.#rule(rule, NLM_F_CREATE, 'insert');
  }

  deleteRule(rule: Pick<InstalledRule, 'table' | 'chain' | 'handle'>): this {
    checkName(rule.chain, 'rule.chain');
    const command = `delete rule ${tableText(rule.table)} ${rule.chain} handle ${rule.handle}`;
    this.#begin(rule.table, NFT_MSG_DELRULE, 0, command);
    this.#writer.attrString(NFTA_RULE_TABLE, rule.table.name).attrString(NFTA_RULE_CHAIN, rule.chain);
    this.#writer.attrU64be(NFTA_RULE_HANDLE, rule.handle);
    return this.#end();
  }

  addSet(set: NamedSet): this {
    checkName(set.name, 'set.name');
    const id = this.#setIds.size + 1;
    this.#begin(set.table, NFT_MSG_NEWSET, NLM_F_CREATE, `add set ${tableText(set.table)} ${set.name}`);
    this.#setIds.set(`${tableText(set.table)} ${set.name}`, id);
    encodeSet(set, id, this.#writer);
    return this.#end();
  }

  /** No rule may use it. */
  deleteSet(set: Pick<NamedSet, 'table' | 'name'>): this {
    checkName(set.name, 'set.name');
    this.#begin(set.table, NFT_MSG_DELSET, 0, `delete set ${tableText(set.table)} ${set.name}`);
    this.#writer.attrString(NFTA_SET_TABLE, set.table.name).attrString(NFTA_SET_NAME, set.name);
    return this.#end();
  }

  /** Elements that are there stay, with the comment they had. */
  addElements(set: NamedSet, elements: readonly Element[]): this {
    return this.#elements(set, elements, NFT_MSG_NEWSETELEM, NLM_F_CREATE, 'add');
  }

  /** Fails where one of them is there already. */
  createElements(set: NamedSet, elements: readonly Element[]): this {
    return this.#elements(set, elements, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, 'create');
  }

  /** By key; fails where one of them is not there. */
  deleteElements(set: NamedSet, elements: readonly Element[]): this {
    return this.#elements(set, elements, NFT_MSG_DELSETELEM, 0, 'delete');
  }

  /** Takes every element away. */
  flushSet(set: Pick<NamedSet, 'table' | 'name'>): this {
    checkName(set.name, 'set.name');
    this.#begin(set.table, NFT_MSG_DELSETELEM, 0, `flush set ${tableText(set.table)} ${set.name}`);
    this.#writer.attrString(NFTA_SET_ELEM_LIST_TABLE, set.table.name).attrString(NFTA_SET_ELEM_LIST_SET, set.name);
    return this.#end();
  }

  /**
   * Sends the transaction in one `sendmsg` and waits for the kernel's word. The batch is used up by it; an empty one sends nothing.
   *
   * @throws {NftablesError} `ERR_NFTABLES_REJECTED`, naming the command at fault; nothing was changed
   * @throws {NetlinkError} `ERR_NETLINK_…` where the conversation itself failed
   */
  commit(netlink: Netlink, options: { readonly signal?: AbortSignal | undefined } = {}): void {
    if (this.#commands.length === 0) return;
    this.#mark(NFNL_MSG_BATCH_END);
    try {
      netlink.batch(this.#writer.finish(), { op: 'nftables.commit', signal: options.signal });
    } catch (error) {
      if (error instanceof NetlinkError && error.errno !== undefined && error.index !== undefined) {
        throw this.#rejected(error, error.index);
      }
      throw error;
    }
  }

  #rejected(error: NetlinkError, index: number): NftablesError {
    // The first message of the transaction is NFNL_MSG_BATCH_BEGIN.
    const command = this.#commands[index - 1] ?? 'commit';
    const where = error.attributePath === undefined ? '' : ` at attribute ${error.attributePath.join('.')}`;
    return new NftablesError({
      command,
      index: index - 1,
      errno: error.errno ?? 0,
      kernel: `${error.code}${error.extAck === undefined ? '' : `, ${error.extAck}`}${where}`,
      cause: error,
    });
  }

  #rule(rule: Rule, flags: number, verb: string): this {
    checkName(rule.chain, 'rule.chain');
    const userdata = ruleUserdata(rule);
    const comment = rule.comment === undefined ? '' : ` "${rule.comment}"`;
    this.#begin(rule.table, NFT_MSG_NEWRULE, flags, `${verb} rule ${tableText(rule.table)} ${rule.chain}${comment}`);
    encodeRule(rule, userdata, this.#writer);
    return this.#end();
  }

  #elements(set: NamedSet, elements: readonly Element[], type: number, flags: number, verb: string): this {
    checkName(set.name, 'set.name');
    const ready = elements.map((element, i) => prepareElement(element, set.keyType, `elements[${i}]`));
    const id = this.#setIds.get(`${tableText(set.table)} ${set.name}`);
    for (let start = 0; start < ready.length; ) {
      let end = start;
      for (let bytes = 4; end < ready.length; end++) {
        bytes += ready[end]!.bytes;
        if (bytes > this.#maxElementListBytes && end > start) break;
      }
      const first = elements[start]!.key;
      const count = end - start === 1 ? first : `${first} and ${end - start - 1} more`;
      this.#begin(set.table, type, flags, `${verb} element ${tableText(set.table)} ${set.name} { ${count} }`);
      encodeElements(set, id, ready, start, end, this.#writer);
      this.#end();
      start = end;
    }
    return this;
  }

  #begin(table: Table, type: number, flags: number, command: string): void {
    const family = familyNumber(table.family, 'table.family');
    checkName(table.name, 'table.name');
    this.#commands.push(command);
    beginMessage(this.#writer, type, flags | NLM_F_REQUEST, family);
  }

  #end(): this {
    this.#writer.end();
    return this;
  }

  #mark(type: number): void {
    this.#writer.begin(type, NLM_F_REQUEST).u8(0).u8(NFNETLINK_V0).u16be(NFNL_SUBSYS_NFTABLES).end();
  }
}
