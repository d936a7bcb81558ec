import { ipBytes, parseIp } from '../../ip/index.ts';
import { NFPROTO_IPV4, NFPROTO_IPV6, NFT_REG_1, NFT_REG_2 } from './constants.ts';
import { hostU16, hostU32, networkU16 } from './data.ts';
import { NFT_CT_MARK, NFT_CT_ZONE } from './expressions/ct.ts';
import type { Expression, Verdict } from './expressions/index.ts';
import { NFT_META_MARK } from './expressions/meta.ts';
import { NFT_PAYLOAD_NETWORK_HEADER } from './expressions/payload.ts';
import { NFT_REJECT_TCP_RST } from './expressions/reject.ts';
import { checkName, checkPort, checkZone } from './names.ts';

function verdict(value: Verdict): Expression[] {
  return [{ type: 'immediate', verdict: value }];
}

/** Into register 1: `(old & ~mask) ^ value`, or `value` itself where nothing is kept of the old one. */
function rewritten(load: Expression, value: number, mask: number): Expression[] {
  if (mask === 0xffffffff) return [{ type: 'immediate', dreg: NFT_REG_1, value: hostU32(value) }];
  return [load, { type: 'bitwise', sreg: NFT_REG_1, dreg: NFT_REG_1, mask: hostU32(~mask), xor: hostU32(value) }];
}

/** Address into register 1, port into register 2; either may be missing. */
function target(ip: string | undefined, port: number | undefined) {
  const load: Expression[] = [];
  let family = NFPROTO_IPV4;
  if (ip !== undefined) {
    const parsed = parseIp(ip, 'to.ip');
    family = parsed.family === 4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
    load.push({ type: 'immediate', dreg: NFT_REG_1, value: ipBytes(parsed) });
  }
  if (port !== undefined)
    load.push({ type: 'immediate', dreg: NFT_REG_2, value: networkU16(checkPort(port, 'to.port')) });
  const registers = {
    ...(ip === undefined ? {} : { addressRegister: NFT_REG_1 }),
    ...(port === undefined ? {} : { portRegister: NFT_REG_2 }),
  };
  return { load, family, registers };
}

/** The packet's own address into register 1, and back as its NAT target: nothing is changed, and the flow is settled. */
function nullNat(kind: 'snat' | 'dnat', family: 4 | 6): Expression[] {
  const length = family === 4 ? 4 : 16;
  const offset = (family === 4 ? 12 : 8) + (kind === 'snat' ? 0 : length);
  return [
    { type: 'payload', dreg: NFT_REG_1, base: NFT_PAYLOAD_NETWORK_HEADER, offset, length },
    { type: 'nat', kind, family: family === 4 ? NFPROTO_IPV4 : NFPROTO_IPV6, addressRegister: NFT_REG_1 },
  ];
}

/** What a rule does with a packet that came through its conditions. The nft text of each is beside it. */
export const statement = {
  /** `counter` */
  counter: (): Expression[] => [{ type: 'counter', packets: 0, bytes: 0 }],
  /** `accept`: ends this base chain only; chains of later priority still see the packet */
  accept: (): Expression[] => verdict({ kind: 'accept' }),
  /** `drop` */
  drop: (): Expression[] => verdict({ kind: 'drop' }),
  /** `return` */
  return: (): Expression[] => verdict({ kind: 'return' }),
  /** `jump save` */
  jump: (chain: string): Expression[] => verdict({ kind: 'jump', chain: checkName(chain, 'chain') }),
  /** `goto save` */
  goto: (chain: string): Expression[] => verdict({ kind: 'goto', chain: checkName(chain, 'chain') }),
  /** iptables' `--set-xmark value/mask`; `meta mark set meta mark and ~mask xor value`, which is `or value` for value = mask */
  mark: (value: number, mask = 0xffffffff): Expression[] => [
    ...rewritten({ type: 'meta', key: NFT_META_MARK, dreg: NFT_REG_1 }, value, mask),
    { type: 'meta', key: NFT_META_MARK, sreg: NFT_REG_1 },
  ],
  /** `ct mark set ct mark and ~mask xor value` */
  ctMark: (value: number, mask = 0xffffffff): Expression[] => [
    ...rewritten({ type: 'ct', key: NFT_CT_MARK, dreg: NFT_REG_1 }, value, mask),
    { type: 'ct', key: NFT_CT_MARK, sreg: NFT_REG_1 },
  ],
  /** `meta mark set ct mark` */
  restoreMark: (): Expression[] => [
    { type: 'ct', key: NFT_CT_MARK, dreg: NFT_REG_1 },
    { type: 'meta', key: NFT_META_MARK, sreg: NFT_REG_1 },
  ],
  /** `ct zone set 1`; before connection tracking, so at a priority below -200 */
  ctZone: (zone: number): Expression[] => [
    { type: 'immediate', dreg: NFT_REG_1, value: hostU16(checkZone(zone)) },
    { type: 'ct', key: NFT_CT_ZONE, sreg: NFT_REG_1 },
  ],
  /** `tproxy to 127.0.0.1:15001`; breaks to the next rule where no socket listens */
  tproxy: (ip: string, port: number): Expression[] => {
    const { load, family, registers } = target(ip, port);
    return [...load, { type: 'tproxy', family, ...registers }];
  },
  /** `tproxy to :15006`: at any address of the incoming device; `family` is the table's */
  tproxyPort: (port: number, family: 4 | 6 = 4): Expression[] => {
    const { load, registers } = target(undefined, port);
    return [...load, { type: 'tproxy', family: family === 4 ? NFPROTO_IPV4 : NFPROTO_IPV6, ...registers }];
  },
  /** `dnat to 10.244.1.2:15053`; needs a match on the l4 protocol before it where there is a port */
  dnat: (ip: string, port?: number): Expression[] => {
    const { load, family, registers } = target(ip, port);
    return [...load, { type: 'nat', kind: 'dnat', family, ...registers }];
  },
  /** `snat to 10.0.0.1` */
  snat: (ip: string, port?: number): Expression[] => {
    const { load, family, registers } = target(ip, port);
    return [...load, { type: 'nat', kind: 'snat', family, ...registers }];
  },
  /** `dnat to ip daddr`: keeps the destination, and keeps later nat chains from changing it */
  keepDestination: (family: 4 | 6 = 4): Expression[] => nullNat('dnat', family),
  /** `snat to ip saddr` */
  keepSource: (family: 4 | 6 = 4): Expression[] => nullNat('snat', family),
  /** `redirect to :15001` */
  redirect: (port?: number): Expression[] =>
    port === undefined
      ? [{ type: 'redirect' }]
      : [
          { type: 'immediate', dreg: NFT_REG_1, value: networkU16(checkPort(port, 'port')) },
          { type: 'redirect', portRegister: NFT_REG_1 },
        ],
  /** `masquerade` */
  masquerade: (): Expression[] => [{ type: 'masquerade' }],
  /** `reject with tcp reset`; needs `meta l4proto tcp` before it */
  resetTcp: (): Expression[] => [{ type: 'reject', kind: NFT_REJECT_TCP_RST, icmpCode: 0 }],
} as const;
