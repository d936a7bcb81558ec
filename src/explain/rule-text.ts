import { formatIp, ipFromBytes } from '../ip/index.ts';
import type { Expression, Rule } from '../netlink/nftables/index.ts';
import * as n from './kernel-numbers.ts';

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
};
const CT: Readonly<Record<number, string>> = {
  [n.NFT_CT_STATE]: 'ct state',
  [n.NFT_CT_DIRECTION]: 'ct direction',
  [n.NFT_CT_STATUS]: 'ct status',
  [n.NFT_CT_MARK]: 'ct mark',
  [n.NFT_CT_ZONE]: 'ct zone',
};
const OPERATORS = ['==', '!=', '<', '<=', '>', '>='];

/** What a register holds: how it reads, and how values compared with it read. */
interface Held {
  readonly text: string;
  readonly format: (value: Uint8Array) => string;
}

/** A rule much as nft writes it, counters and comment left out: for people, not for `nft -f`. */
export function ruleText(rule: Pick<Rule, 'expressions'>): string {
  const held = new Map<number, Held>();
  const parts: string[] = [];
  for (const expression of rule.expressions) {
    const part = partText(expression, held);
    if (part !== undefined) parts.push(part);
  }
  return parts.join(' ');
}

function partText(expression: Expression, held: Map<number, Held>): string | undefined {
  const at = (register: number | undefined) =>
    (register === undefined ? undefined : held.get(register)) ?? { text: '?', format: hex };
  switch (expression.type) {
    case 'meta':
    case 'ct': {
      const names = expression.type === 'meta' ? META : CT;
      const name = names[expression.key] ?? `${expression.type} ${expression.key}`;
      if ('sreg' in expression) return `${name} set ${at(expression.sreg).text}`;
      held.set(expression.dreg, { text: name, format: formatOf(name) });
      return undefined;
    }
    case 'payload':
      held.set(expression.dreg, payloadHeld(expression));
      return undefined;
    case 'fib': {
      const which = expression.flags === n.NFTA_FIB_F_SADDR ? 'saddr' : 'daddr';
      const types = Object.entries(n.RTN_NUMBERS);
      const format = (value: Uint8Array) => types.find(([, number]) => number === value[0])?.[0] ?? hex(value);
      held.set(expression.dreg, { text: `fib ${which} type`, format });
      return undefined;
    }
    case 'bitwise': {
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
    case 'lookup':
      return `${at(expression.sreg).text} ${expression.invert ? '!= ' : ''}@${expression.set}`;
    case 'socket':
      held.set(expression.dreg, { text: 'socket', format: hex });
      return undefined;
    case 'tproxy':
    case 'nat':
    case 'redirect': {
      const name = expression.type === 'nat' ? expression.kind : expression.type;
      const ip = 'addressRegister' in expression ? at(expression.addressRegister).text : '';
      const port = expression.portRegister === undefined ? '' : `:${at(expression.portRegister).text}`;
      return ip === '' && port === '' ? name : `${name} to ${ip}${port}`;
    }
    case 'masquerade':
      return 'masquerade';
    case 'reject':
      return 'reject';
    case 'counter':
      return undefined;
    case 'opaque':
      return `[${expression.name}]`;
  }
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
