import { NFNL_SUBSYS_NFTABLES } from '../constants.ts';
import type { NetlinkFamily } from '../family.ts';
import { type NetlinkMessage, readMessages } from '../message-reader.ts';
import { formatMessages, messageTypeName } from '../message-text.ts';
import { NFPROTO_IPV6, NFT_MSG_NEWRULE } from './constants.ts';
import type { Expression } from './expressions/index.ts';
import { decodeRule, type InstalledRule, type Rule } from './rule.ts';

// Names as libnftnl prints them, by the kernel's numbers.
const metaKeys = [
  'len',
  'protocol',
  'priority',
  'mark',
  'iif',
  'oif',
  'iifname',
  'oifname',
  'iftype',
  'oiftype',
  'skuid',
  'skgid',
  'nftrace',
  'rtclassid',
  'secmark',
  'nfproto',
  'l4proto',
];
const ctKeys = ['state', 'direction', 'status', 'mark', 'secmark', 'expiration', 'helper', 'l3protocol', 'src', 'dst'];
/** Those past a gap. */
const laterCtKeys = new Map([
  [17, 'zone'],
  [19, 'src_ip'],
  [20, 'dst_ip'],
  [21, 'src_ip6'],
  [22, 'dst_ip6'],
]);
const comparisons = ['eq', 'neq', 'lt', 'lte', 'gt', 'gte'];
const payloadBases = ['link', 'network', 'transport'];
const socketKeys = ['transparent', 'mark', 'wildcard'];
const fibResults = ['unspec', 'oif', 'oifname', 'type'];
const fibFlags = ['saddr', 'daddr', 'mark', 'iif', 'oif'];
const FIB_PRESENT = 1 << 5;

/**
 * A rule as `nft --debug=netlink` prints it: family, table and chain (and handle, of an installed rule), then one expression a line.
 * Ends with a line end.
 */
export function ruleDebugText(rule: Rule | InstalledRule): string {
  const handle = 'handle' in rule ? ` ${rule.handle}` : '';
  const lines = rule.expressions.map((expression) => `  [ ${expressionDebugText(expression)} ]\n`);
  return `${rule.table.family} ${rule.table.name} ${rule.chain}${handle}\n${lines.join('')}`;
}

/** The rule in a message that adds one, as {@link ruleDebugText}; nothing for other messages, or bytes that are no rule. */
export function messageDebugText(message: NetlinkMessage): string | undefined {
  if (message.type !== ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWRULE)) return undefined;
  try {
    const rule = decodeRule(message);
    if (rule === undefined) return undefined;
    // A rule that is being added has no handle yet.
    const { handle, ...rest } = rule;
    return ruleDebugText(handle === 0n ? rest : rule);
  } catch {
    return undefined;
  }
}

/**
 * Messages as nft's `--debug=netlink` has them: rules as {@link messageDebugText}, every other message by its name alone. Does not
 * throw. This is what AMBIENT_NETLINK_DEBUG=nft prints.
 */
export function formatMessagesForNft(buffer: Buffer, family: NetlinkFamily): string {
  let messages: readonly NetlinkMessage[];
  try {
    messages = readMessages(buffer);
  } catch {
    return formatMessages(buffer, family);
  }
  const texts = messages.map((message) => {
    const rule = family === 'netfilter' ? messageDebugText(message) : undefined;
    return rule ?? `${messageTypeName(message.type, family)}\n`;
  });
  return texts.join('');
}

function expressionDebugText(expression: Expression): string {
  switch (expression.type) {
    case 'meta': {
      const key = metaKeys[expression.key] ?? expression.key;
      return 'sreg' in expression
        ? `meta set ${key} with reg ${expression.sreg}`
        : `meta load ${key} => reg ${expression.dreg}`;
    }
    case 'ct': {
      const key = ctKeys[expression.key] ?? laterCtKeys.get(expression.key) ?? expression.key;
      if ('sreg' in expression) return `ct set ${key} with reg ${expression.sreg}`;
      const { direction } = expression;
      const suffix = direction === undefined ? '' : ` , dir ${direction === 0 ? 'original' : 'reply'}`;
      return `ct load ${key} => reg ${expression.dreg}${suffix}`;
    }
    case 'payload': {
      const { length, base, offset, dreg } = expression;
      return `payload load ${length}b @ ${payloadBases[base] ?? base} header + ${offset} => reg ${dreg}`;
    }
    case 'cmp':
      return `cmp ${comparisons[expression.op] ?? expression.op} reg ${expression.sreg} ${words(expression.value)}`;
    case 'bitwise': {
      const { dreg, sreg, mask, xor } = expression;
      return `bitwise reg ${dreg} = ( reg ${sreg} & ${words(mask)} ) ^ ${words(xor)}`;
    }
    case 'immediate': {
      if ('value' in expression) return `immediate reg ${expression.dreg} ${words(expression.value)}`;
      const { verdict } = expression;
      return `immediate reg 0 ${'chain' in verdict ? `${verdict.kind} -> ${verdict.chain}` : verdict.kind}`;
    }
    case 'counter':
      return `counter pkts ${expression.packets} bytes ${expression.bytes}`;
    case 'lookup':
      return `lookup reg ${expression.sreg} set ${expression.set} 0x${expression.invert ? 1 : 0}`;
    case 'nat': {
      const { kind, family, addressRegister: address, portRegister: port } = expression;
      const flags = (address === undefined ? 0 : 1) | (port === undefined ? 0 : 2);
      const parts = [range('addr', address), range('proto', port), flags === 0 ? '' : ` flags 0x${flags}`];
      return `nat ${kind} ${familyText(family)}${parts.join('')}`;
    }
    case 'redirect':
      return `redir${range('proto', expression.portRegister)}${expression.portRegister === undefined ? '' : ' flags 0x2'}`;
    case 'masquerade':
      return expression.flags === undefined ? 'masq' : `masq flags 0x${expression.flags.toString(16)}`;
    case 'tproxy': {
      const { family, addressRegister: address, portRegister: port } = expression;
      const at = address === undefined ? '' : ` addr reg ${address}`;
      return `tproxy ${familyText(family)}${at}${port === undefined ? '' : ` port reg ${port}`}`;
    }
    case 'fib': {
      const { flags, result, dreg } = expression;
      const what = fibFlags.filter((_, bit) => (flags & (1 << bit)) !== 0).join(' . ');
      const present = (flags & FIB_PRESENT) === 0 ? '' : ' present';
      return `fib ${what} ${fibResults[result] ?? result}${present} => reg ${dreg}`;
    }
    case 'socket':
      return `socket load ${socketKeys[expression.key] ?? expression.key} => reg ${expression.dreg}`;
    case 'reject':
      return `reject type ${expression.kind} code ${expression.icmpCode}`;
    case 'opaque':
      return `${expression.name} ${Buffer.from(expression.data).toString('hex')}`;
  }
}

function range(what: string, register: number | undefined): string {
  return register === undefined ? '' : ` ${what}_min reg ${register} ${what}_max reg ${register}`;
}

function familyText(family: number): string {
  return family === 0 ? 'unspec' : family === NFPROTO_IPV6 ? 'ip6' : 'ip';
}

/** Four bytes a word, each as a number of this machine. */
function words(bytes: Uint8Array): string {
  const padded = Buffer.alloc((bytes.length + 3) & ~3);
  padded.set(bytes);
  const numbers: string[] = [];
  for (let at = 0; at < padded.length; at += 4)
    numbers.push(`0x${padded.readUInt32LE(at).toString(16).padStart(8, '0')}`);
  return numbers.join(' ');
}
