import { type BaseChain, type Chain, type Hook, NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC } from './chain.ts';
import { NFT_CMP_EQ, NFT_CMP_NEQ } from './expressions/cmp.ts';
import type { Expression } from './expressions/index.ts';
import { NFT_META_IIFNAME, NFT_META_L4PROTO, NFT_META_OIFNAME } from './expressions/meta.ts';
import { NFT_PAYLOAD_NETWORK_HEADER } from './expressions/payload.ts';
import type { InstalledRule } from './rule.ts';
import type { Table } from './table.ts';

/** One table of iptables-legacy as `IPT_SO_GET_ENTRIES` gives it. */
export interface LegacyTable {
  readonly family: 4 | 6;
  readonly name: string;
  /** Bit by hook number: which of its chains the kernel calls. */
  readonly validHooks: number;
  /** Offset of each called chain's first entry, by hook number, and of its policy. */
  readonly hookEntries: readonly number[];
  readonly underflows: readonly number[];
  /** `struct ipt_entry` or `struct ip6t_entry`, one behind the other. */
  readonly entries: Buffer;
}

/** What a table becomes for a view: chains and rules as nf_tables would have them, in a table `nat (legacy)`. */
export interface LegacyChains {
  readonly chains: Chain[];
  readonly rules: InstalledRule[];
}

/** Behind the name of a table, since nf_tables may have one of the same name. */
const LEGACY = ' (legacy)';

const HOOKS: readonly Hook[] = ['prerouting', 'input', 'forward', 'output', 'postrouting'];
// <linux/netfilter_ipv4.h>; nat has one place for destinations and one for sources.
const PRIORITIES: Readonly<Record<string, number>> = { raw: -300, mangle: -150, filter: 0, security: 50 };

// Where the fields of struct ipt_entry and struct ip6t_entry are, in bytes.
const LAYOUTS = {
  4: { width: 4, protocol: 80, flags: 82, inverted: 83, gotoFlag: 2, targetOffset: 88, counters: 96, elements: 112 },
  6: {
    width: 16,
    protocol: 128,
    flags: 131,
    inverted: 132,
    gotoFlag: 4,
    targetOffset: 140,
    counters: 152,
    elements: 168,
  },
} as const;
type Layout = (typeof LAYOUTS)[4 | 6];

// <linux/netfilter_ipv4/ip_tables.h>: invflags
const IPT_INV_VIA_IN = 1;
const IPT_INV_VIA_OUT = 2;
const IPT_INV_SRCIP = 8;
const IPT_INV_DSTIP = 16;
const IPT_INV_PROTO = 64;

// struct xt_entry_match and xt_entry_target: u16 size, char name[29], u8 revision, data
const XT_NAME_AT = 2;
const XT_REVISION_AT = 31;
const XT_HEADER_BYTES = 32;
const XT_ERROR_TARGET = 'ERROR';
/** `-NF_REPEAT - 1`. */
const XT_RETURN = -5;
const NF_DROP = -1;
const NF_ACCEPT = -2;

const REGISTER = 1;

/** Whether a table of a view is one of iptables-legacy. */
export function isLegacy({ name }: Table): boolean {
  return name.endsWith(LEGACY);
}

/** A table of iptables-legacy in terms of nf_tables. Bytes that make no sense end it; what was read until then is given. */
export function decodeLegacyTable(legacy: LegacyTable): LegacyChains {
  const layout = LAYOUTS[legacy.family];
  const table: Table = { family: legacy.family === 4 ? 'ip' : 'ip6', name: `${legacy.name}${LEGACY}` };
  const entries = readEntries(legacy.entries, layout);
  const names = chainNames(legacy, entries);
  const chains: Chain[] = [];
  const rules: InstalledRule[] = [];
  let chain = '';
  for (const [i, entry] of entries.entries()) {
    const hook = HOOKS.findIndex((_, h) => isValid(legacy, h) && legacy.hookEntries[h] === entry.at);
    if (hook >= 0) {
      chain = HOOKS[hook]!.toUpperCase();
      const policy = entries.find(({ at }) => at === legacy.underflows[hook]);
      chains.push({ table, name: chain, base: baseOf(legacy.name, HOOKS[hook]!, policy?.verdict === NF_DROP) });
    }
    if (entry.target === XT_ERROR_TARGET) {
      chain = names.get(entry.at + entry.length) ?? '';
      if (chain !== '') chains.push({ table, name: chain });
      continue;
    }
    const next = entries[i + 1];
    const endsUserChain = next?.target === XT_ERROR_TARGET && entry.verdict === XT_RETURN && !entry.isBuiltIn(legacy);
    if (legacy.underflows.some((at, h) => isValid(legacy, h) && at === entry.at) || endsUserChain) continue;
    rules.push({ table, chain, handle: BigInt(i), expressions: expressionsOf(entry, layout, names) });
  }
  return { chains, rules };
}

interface Entry {
  readonly at: number;
  readonly length: number;
  readonly bytes: Buffer;
  readonly targetAt: number;
  readonly target: string;
  /** Of a standard target. */
  readonly verdict: number | undefined;
  readonly isBuiltIn: (table: LegacyTable) => boolean;
}

function isValid({ validHooks }: LegacyTable, hook: number): boolean {
  return (validHooks & (1 << hook)) !== 0;
}

function readEntries(bytes: Buffer, layout: Layout): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at + layout.elements + XT_HEADER_BYTES <= bytes.length; ) {
    const targetAt = bytes.readUInt16LE(at + layout.targetOffset);
    const length = bytes.readUInt16LE(at + layout.targetOffset + 2);
    if (targetAt < layout.elements || length < targetAt + XT_HEADER_BYTES || at + length > bytes.length) break;
    const entry = bytes.subarray(at, at + length);
    const target = nameAt(entry, targetAt);
    const isStandard = target === '' && length >= targetAt + XT_HEADER_BYTES + 4;
    const verdict = isStandard ? entry.readInt32LE(targetAt + XT_HEADER_BYTES) : undefined;
    const start = at;
    const isBuiltIn = (table: LegacyTable) =>
      table.hookEntries.some((first, h) => isValid(table, h) && start >= first && start <= table.underflows[h]!);
    entries.push({ at, length, bytes: entry, targetAt, target, verdict, isBuiltIn });
    at += length;
  }
  return entries;
}

/** Chains of users by the offset of their first rule, which is what a jump names. */
function chainNames(legacy: LegacyTable, entries: readonly Entry[]): Map<number, string> {
  const names = new Map<number, string>();
  for (const { at, length, bytes, targetAt, target } of entries.slice(0, -1)) {
    if (target === XT_ERROR_TARGET) names.set(at + length, text(bytes, targetAt + XT_HEADER_BYTES, length));
  }
  for (const [hook, at] of legacy.hookEntries.entries())
    if (isValid(legacy, hook)) names.set(at, HOOKS[hook]!.toUpperCase());
  return names;
}

function baseOf(table: string, hook: Hook, isDrop: boolean): BaseChain {
  const policy = isDrop ? 'drop' : 'accept';
  if (table === 'nat') {
    const isDestination = hook === 'prerouting' || hook === 'output';
    return { type: 'nat', hook, priority: isDestination ? NF_IP_PRI_NAT_DST : NF_IP_PRI_NAT_SRC, policy };
  }
  const type = table === 'mangle' && hook === 'output' ? 'route' : 'filter';
  return { type, hook, priority: PRIORITIES[table] ?? 0, policy };
}

function expressionsOf(entry: Entry, layout: Layout, names: Map<number, string>): Expression[] {
  const { bytes, targetAt, at, length, verdict, target } = entry;
  const expressions: Expression[] = [];
  const inverted = bytes[layout.inverted]!;
  const isNot = (flag: number) => (inverted & flag) !== 0;
  const { width } = layout;
  const base = width === 4 ? 12 : 8;
  for (const [offset, flag, which] of [
    [0, IPT_INV_SRCIP, 0],
    [width, IPT_INV_DSTIP, 1],
  ] as const) {
    const value = bytes.subarray(offset, offset + width);
    const mask = bytes.subarray(offset + width * 2, offset + width * 3);
    if (mask.every((byte) => byte === 0) && !isNot(flag)) continue;
    const from = { type: 'payload', dreg: REGISTER, base: NFT_PAYLOAD_NETWORK_HEADER } as const;
    expressions.push({ ...from, offset: base + which * width, length: width });
    if (mask.some((byte) => byte !== 0xff)) {
      expressions.push({ type: 'bitwise', sreg: REGISTER, dreg: REGISTER, mask, xor: Buffer.alloc(width) });
    }
    expressions.push(comparison(value, isNot(flag)));
  }
  const devices = width * 4;
  for (const [offset, flag, key] of [
    [devices, IPT_INV_VIA_IN, NFT_META_IIFNAME],
    [devices + 16, IPT_INV_VIA_OUT, NFT_META_OIFNAME],
  ] as const) {
    // `eth+` has a mask without the end of the name.
    const mask = bytes.subarray(offset + 32, offset + 48);
    const asked = mask.findLastIndex((byte) => byte !== 0) + 1;
    if (asked === 0) continue;
    expressions.push({ type: 'meta', key, dreg: REGISTER });
    expressions.push(comparison(bytes.subarray(offset, offset + asked), isNot(flag)));
  }
  const protocol = bytes.readUInt16LE(layout.protocol);
  if (protocol !== 0) {
    expressions.push({ type: 'meta', key: NFT_META_L4PROTO, dreg: REGISTER });
    expressions.push(comparison(Uint8Array.of(protocol), isNot(IPT_INV_PROTO)));
  }
  for (let element = layout.elements; element + XT_HEADER_BYTES <= targetAt; ) {
    const size = bytes.readUInt16LE(element);
    if (size < XT_HEADER_BYTES || element + size > targetAt) break;
    expressions.push(xt('match', bytes, element, size));
    element += size;
  }
  const [packets, byteCount] = [0, 8].map((offset) => Number(bytes.readBigUInt64LE(layout.counters + offset)));
  expressions.push({ type: 'counter', packets: packets!, bytes: byteCount! });
  if (verdict === undefined) {
    expressions.push(target === '' ? unreadable() : xt('target', bytes, targetAt, length - targetAt));
  } else if (verdict >= 0) {
    const chain = names.get(verdict);
    // A rule without a target goes on to the one behind it.
    if (verdict === at + length && chain === undefined) return expressions;
    const isGoto = (bytes[layout.flags]! & layout.gotoFlag) !== 0;
    expressions.push(
      chain === undefined ? unreadable() : { type: 'immediate', verdict: { kind: isGoto ? 'goto' : 'jump', chain } },
    );
  } else {
    const kind =
      verdict === XT_RETURN ? 'return' : verdict === NF_ACCEPT ? 'accept' : verdict === NF_DROP ? 'drop' : undefined;
    expressions.push(kind === undefined ? unreadable() : { type: 'immediate', verdict: { kind } });
  }
  return expressions;
}

function comparison(value: Uint8Array, isNot: boolean): Expression {
  return { type: 'cmp', sreg: REGISTER, op: isNot ? NFT_CMP_NEQ : NFT_CMP_EQ, value };
}

/** The `match` or `target` that nft_compat would have. */
function xt(kind: 'match' | 'target', bytes: Buffer, at: number, size: number): Expression {
  const revision = Buffer.of(0, 0, 0, bytes[at + XT_REVISION_AT]!);
  const info = bytes.subarray(at + XT_HEADER_BYTES, at + size);
  const name = Buffer.from(`${nameAt(bytes, at)}\0`);
  return {
    type: 'opaque',
    name: kind,
    data: Buffer.concat([attribute(1, name), attribute(2, revision), attribute(3, info)]),
  };
}

function attribute(type: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc(4 + ((value.length + 3) & ~3));
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, 4);
  return bytes;
}

function unreadable(): Expression {
  return { type: 'opaque', name: 'a verdict that is not known here', data: Buffer.alloc(0) };
}

function nameAt(bytes: Buffer, at: number): string {
  return text(bytes, at + XT_NAME_AT, at + XT_REVISION_AT);
}

function text(bytes: Buffer, start: number, end: number): string {
  return bytes.toString('latin1', start, end).replace(/\0.*$/s, '');
}
