import { formatIp, ipFromBytes } from '../ip/index.ts';
import { NFT_REG_VERDICT } from '../netlink/nftables/constants.ts';
import { NFT_BITWISE_LSHIFT } from '../netlink/nftables/expressions/bitwise.ts';
import type { Opaque } from '../netlink/nftables/expressions/opaque.ts';
import type { Expression, Rule } from '../netlink/nftables/index.ts';
import { readForeign } from './foreign-expression.ts';
import * as n from './kernel-numbers.ts';
import type { KernelView, ViewSet } from './kernel-view.ts';
import { xtName } from './xtables/entry.ts';
import { decodeMatch } from './xtables/match.ts';
import { decodeTarget } from './xtables/target.ts';

const META: Readonly<Record<number, string>> = {
  [n.NFT_META_PROTOCOL]: 'meta protocol',
  [n.NFT_META_MARK]: 'meta mark',
  [n.NFT_META_IIF]: 'iif',
  [n.NFT_META_OIF]: 'oif',
  [n.NFT_META_IIFNAME]: 'iifname',
  [n.NFT_META_OIFNAME]: 'oifname',
  [n.NFT_META_SKUID]: 'meta skuid',
  [n.NFT_META_SKGID]: 'meta skgid',
  [n.NFT_META_NFTRACE]: 'meta nftrace',
  [n.NFT_META_NFPROTO]: 'meta nfproto',
  [n.NFT_META_L4PROTO]: 'meta l4proto',
  [n.NFT_META_PRANDOM]: 'meta random',
  [n.NFT_META_IIFTYPE]: 'iiftype',
  [n.NFT_META_OIFTYPE]: 'oiftype',
  [n.NFT_META_IIFKIND]: 'meta iifkind',
  [n.NFT_META_OIFKIND]: 'meta oifkind',
};
const CT: Readonly<Record<number, string>> = {
  [n.NFT_CT_STATE]: 'ct state',
  [n.NFT_CT_DIRECTION]: 'ct direction',
  [n.NFT_CT_STATUS]: 'ct status',
  [n.NFT_CT_MARK]: 'ct mark',
  [n.NFT_CT_ZONE]: 'ct zone',
  [n.NFT_CT_PROTOCOL]: 'ct protocol',
  [n.NFT_CT_PROTO_SRC]: 'ct proto-src',
  [n.NFT_CT_PROTO_DST]: 'ct proto-dst',
  [n.NFT_CT_SRC]: 'ct saddr',
  [n.NFT_CT_DST]: 'ct daddr',
  [n.NFT_CT_SRC_IP]: 'ct ip saddr',
  [n.NFT_CT_DST_IP]: 'ct ip daddr',
};
const FIB_FLAGS = ['saddr', 'daddr', 'mark', 'iif', 'oif'];
const OPERATORS = ['==', '!=', '<', '<=', '>', '>='];

/** What a register holds: how it reads, and how values compared with it read. */
interface Held {
  readonly text: string;
  readonly format: (value: Uint8Array) => string;
}

/** What a text is made with. */
type TextView = Pick<KernelView, 'sets' | 'ipsets'>;

/**
 * A rule much as nft writes it, and what iptables put into it as iptables does; counters and comment left out: for people, not for
 * `nft -f`.
 */
export function ruleText(rule: Pick<Rule, 'expressions' | 'table'>, view: TextView): string {
  const held = new Map<number, Held>();
  const parts: string[] = [];
  const setOf = (name: string) =>
    view.sets.find(
      (set) => set.name === name && set.table.name === rule.table.name && set.table.family === rule.table.family,
    );
  for (const expression of rule.expressions) {
    const part =
      expression.type === 'opaque'
        ? foreignText(expression, held, rule.table.family === 'ip6' ? 6 : 4, view)
        : partText(expression, held, setOf);
    if (part !== undefined) parts.push(part);
  }
  return parts.join(' ');
}

function partText(
  expression: Exclude<Expression, { type: 'opaque' }>,
  held: Map<number, Held>,
  setOf: (name: string) => ViewSet | undefined,
): string | undefined {
  const at = (register: number | undefined) =>
    (register === undefined ? undefined : held.get(register)) ?? { text: '?', format: hex };
  switch (expression.type) {
    case 'meta':
    case 'ct': {
      const names = expression.type === 'meta' ? META : CT;
      const name = names[expression.key] ?? `${expression.type} ${expression.key}`;
      if ('sreg' in expression) return `${name} set ${at(expression.sreg).text}`;
      const way =
        'direction' in expression ? (expression.direction === n.IP_CT_DIR_REPLY ? 'reply ' : 'original ') : '';
      held.set(expression.dreg, { text: name.replace(/(?<=^ct )/, way), format: formatOf(name) });
      return undefined;
    }
    case 'payload':
      held.set(expression.dreg, payloadHeld(expression));
      return undefined;
    case 'fib': {
      const flags = FIB_FLAGS.filter((_, bit) => (expression.flags & (1 << bit)) !== 0).join(' . ');
      if (expression.result !== n.NFT_FIB_RESULT_ADDRTYPE) {
        const result = expression.result === n.NFT_FIB_RESULT_OIFNAME ? 'oifname' : 'oif';
        const isPresent = (expression.flags & n.NFTA_FIB_F_PRESENT) !== 0;
        const exists = (value: Uint8Array) => (value[0] === 0 ? 'missing' : 'exists');
        held.set(expression.dreg, { text: `fib ${flags} ${result}`, format: isPresent ? exists : number });
        return undefined;
      }
      const types = Object.entries(n.RTN_NUMBERS);
      const format = (value: Uint8Array) => types.find(([, number]) => number === value[0])?.[0] ?? hex(value);
      held.set(expression.dreg, { text: `fib ${flags} type`, format });
      return undefined;
    }
    case 'bitwise': {
      const { shift } = expression;
      if (shift !== undefined) {
        const arrows = expression.op === NFT_BITWISE_LSHIFT ? '<<' : '>>';
        held.set(expression.dreg, { text: `${at(expression.sreg).text} ${arrows} ${shift.bits}`, format: number });
        return undefined;
      }
      const { text, format } = at(expression.sreg);
      const mask =
        expression.mask.length === 4 && format !== address ? number(expression.mask) : format(expression.mask);
      if (isOr(expression)) {
        held.set(expression.dreg, { text: `${text} | ${number(expression.xor)}`, format });
        return undefined;
      }
      const xor = expression.xor.every((byte) => byte === 0) ? '' : ` ^ ${number(expression.xor)}`;
      held.set(expression.dreg, { text: `${text} & ${mask}${xor}`, format });
      return undefined;
    }
    case 'immediate':
      if ('verdict' in expression) {
        const { verdict } = expression;
        return 'chain' in verdict ? `${verdict.kind} ${verdict.chain}` : verdict.kind;
      }
      held.set(expression.dreg, { text: immediateText(expression.value), format: hex });
      return undefined;
    case 'cmp': {
      const { text, format } = at(expression.sreg);
      const operator = expression.op === n.NFT_CMP_EQ ? '' : `${OPERATORS[expression.op] ?? '?'} `;
      const isMasked = text.includes(' & ');
      return `${text} ${isMasked && operator === '' ? '== ' : operator}${format(expression.value)}`;
    }
    case 'lookup': {
      const { sreg, dreg, set: name, invert } = expression;
      const key = keyText(sreg, setOf(name)?.keyBytes ?? 0, held);
      if (dreg === NFT_REG_VERDICT) return `${key} vmap @${name}`;
      if (dreg === undefined) return `${key} ${invert ? '!= ' : ''}@${name}`;
      held.set(dreg, { text: `${key} map @${name}`, format: hex });
      return undefined;
    }
    case 'socket':
      held.set(expression.dreg, { text: 'socket', format: hex });
      return undefined;
    case 'tproxy':
    case 'nat':
    case 'redirect': {
      const name = expression.type === 'nat' ? expression.kind : expression.type;
      const ip = 'addressRegister' in expression ? at(expression.addressRegister).text : '';
      // Address and port may come out of one map.
      const known = expression.portRegister === undefined ? undefined : held.get(expression.portRegister);
      const port =
        expression.portRegister === undefined || (known === undefined && ip !== '') ? '' : `:${known?.text ?? '?'}`;
      return ip === '' && port === '' ? name : `${name} to ${ip}${port}`;
    }
    case 'masquerade':
      return 'masquerade';
    case 'reject':
      return 'reject';
    case 'counter':
      return undefined;
  }
}

/** A key of several parts, which lie in registers one behind the other. */
function keyText(register: number, keyBytes: number, held: ReadonlyMap<number, Held>): string {
  const first = held.get(register)?.text ?? '?';
  const parts = [first];
  const start = slotOf(register);
  for (const [other, { text }] of [...held].sort(([a], [b]) => slotOf(a) - slotOf(b))) {
    const slot = slotOf(other);
    if (slot > start && slot < start + keyBytes / 4) parts.push(text);
  }
  return parts.join(' . ');
}

/** Registers 1 to 4 are 16 bytes each, 8 to 23 the same memory in pieces of four. */
function slotOf(register: number): number {
  return register >= 8 ? register - 8 : (register - 1) * 4;
}

function foreignText(opaque: Opaque, held: Map<number, Held>, family: 4 | 6, view: TextView): string | undefined {
  const expression = readForeign(opaque);
  switch (expression.type) {
    case 'range': {
      const { text, format } = held.get(expression.sreg) ?? { text: '?', format: hex };
      return `${text} ${expression.invert ? '!= ' : ''}${format(expression.from)}-${format(expression.to)}`;
    }
    case 'number':
      held.set(expression.dreg, { text: expression.by, format: number });
      return undefined;
    case 'byteorder': {
      const before = held.get(expression.sreg);
      if (before !== undefined) held.set(expression.dreg, { ...before, format: hex });
      return undefined;
    }
    case 'harmless':
      return expression.text;
    case 'notrack':
      return 'notrack';
    case 'match': {
      const match = decodeMatch(expression, family);
      return match === undefined ? `[match ${xtName(expression)}]` : namedIpset(match.text, view);
    }
    case 'target':
      return decodeTarget(expression, family)?.text ?? `[target ${xtName(expression)}]`;
    case 'unknown':
      return `[${opaque.name}]`;
  }
}

/** A rule has the number of an ipset, people have its name. */
function namedIpset(text: string, { ipsets }: TextView): string {
  return text.replace(/--match-set #(\d+)/, (all, number) => {
    const name = ipsets.find(({ index }) => index === Number(number))?.name;
    return name === undefined ? all : `--match-set ${name}`;
  });
}

/** `(x & ~bits) ^ bits` is how the kernel has `x | bits`. */
function isOr({ mask, xor }: Extract<Expression, { type: 'bitwise' }>): boolean {
  return xor.some((byte) => byte !== 0) && mask.every((byte, i) => (byte ^ (xor[i] ?? 0)) === 0xff);
}

function payloadHeld({ base, offset, length }: Extract<Expression, { type: 'payload' }>): Held {
  if (base === n.NFT_PAYLOAD_NETWORK_HEADER) {
    if (length === 4 && (offset === 12 || offset === 16)) {
      return { text: offset === 12 ? 'ip saddr' : 'ip daddr', format: address };
    }
    if (length === 16 && (offset === 8 || offset === 24)) {
      return { text: offset === 8 ? 'ip6 saddr' : 'ip6 daddr', format: address };
    }
  }
  if (base === n.NFT_PAYLOAD_TRANSPORT_HEADER && length === 2 && (offset === 0 || offset === 2)) {
    return { text: offset === 0 ? 'sport' : 'dport', format: (value) => String((value[0]! << 8) | value[1]!) };
  }
  return { text: `@${['ll', 'nh', 'th'][base] ?? base},${offset * 8},${length * 8}`, format: hex };
}

function formatOf(name: string): (value: Uint8Array) => string {
  if (name.endsWith('name'))
    return (value) => JSON.stringify(Buffer.from(value).toString('latin1').replace(/\0.*$/s, ''));
  if (name === 'meta nfproto') return (value) => ({ 2: 'ipv4', 10: 'ipv6' })[value[0]!] ?? hex(value);
  if (name === 'meta l4proto')
    return (value) => ({ 6: 'tcp', 17: 'udp', 1: 'icmp', 58: 'icmpv6' })[value[0]!] ?? hex(value);
  return number;
}

function address(value: Uint8Array): string {
  return value.length === 4 || value.length === 16 ? formatIp(ipFromBytes(value)) : hex(value);
}

/** Host byte order. */
function number(value: Uint8Array): string {
  return `0x${Buffer.from(value)
    .reverse()
    .toString('hex')
    .replace(/^0+(?=.)/, '')}`;
}

function hex(value: Uint8Array): string {
  return `0x${Buffer.from(value).toString('hex')}`;
}

/** Where an immediate goes is not known yet: two bytes are a port, four or sixteen an address. */
function immediateText(value: Uint8Array): string {
  if (value.length === 2) return String((value[0]! << 8) | value[1]!);
  return address(value);
}
