import { ipBytes, parseIp } from '../../ip/index.ts';
import { IPPROTO_TCP, IPPROTO_UDP } from '../../system/index.ts';
import { NFT_REG_1 } from './constants.ts';
import { hostU32, networkU16 } from './data.ts';
import { NFT_CMP_EQ, NFT_CMP_GTE, NFT_CMP_NEQ } from './expressions/cmp.ts';
import {
  IP_CT_DIR_ORIGINAL,
  IP_CT_DIR_REPLY,
  NFT_CT_MARK,
  NFT_CT_SRC_IP,
  NFT_CT_SRC_IP6,
  NFT_CT_STATE,
} from './expressions/ct.ts';
import { NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR, NFTA_FIB_F_SADDR, RTN_LOCAL } from './expressions/fib.ts';
import type { Expression } from './expressions/index.ts';
import {
  NFT_META_IIFNAME,
  NFT_META_L4PROTO,
  NFT_META_MARK,
  NFT_META_OIFNAME,
  NFT_META_SKUID,
} from './expressions/meta.ts';
import { NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER } from './expressions/payload.ts';
import { checkInterfaceName, checkName, checkPort } from './names.ts';

/** `==` unless it says `!=`. */
export type Comparison = '==' | '!=';

/** Connection states by their bit in the register: `NF_CT_STATE_BIT`. */
const states = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;

const IFNAMSIZ = 16;

// <linux/tcp.h>: byte 13 of the header.
const TCP_FLAGS_OFFSET = 13;
const TCP_FIN_SYN_RST_ACK = 0x17;
const TCP_SYN = 0x02;

function compare(value: Uint8Array, comparison: Comparison): Expression {
  return { type: 'cmp', sreg: NFT_REG_1, op: comparison === '==' ? NFT_CMP_EQ : NFT_CMP_NEQ, value };
}

function loadMeta(key: number): Expression {
  return { type: 'meta', key, dreg: NFT_REG_1 };
}

function interfaceName(key: number, name: string, comparison: Comparison): Expression[] {
  const value = Buffer.alloc(IFNAMSIZ);
  value.write(checkInterfaceName(name, 'interface'));
  return [loadMeta(key), compare(value, comparison)];
}

/** `meta l4proto tcp` and the like. */
function l4proto(protocol: 'tcp' | 'udp'): Expression[] {
  return [loadMeta(NFT_META_L4PROTO), compare(Uint8Array.of(protocol === 'tcp' ? IPPROTO_TCP : IPPROTO_UDP), '==')];
}

/** Source address: 12 bytes into an IPv4 header, 8 into an IPv6 one; destination right behind it. */
function loadAddress(which: 'source' | 'destination', family: 4 | 6): Expression {
  const length = family === 4 ? 4 : 16;
  const offset = (family === 4 ? 12 : 8) + (which === 'source' ? 0 : length);
  return { type: 'payload', dreg: NFT_REG_1, base: NFT_PAYLOAD_NETWORK_HEADER, offset, length };
}

function address(which: 'source' | 'destination', ip: string, comparison: Comparison): Expression[] {
  const parsed = parseIp(ip, which);
  return [loadAddress(which, parsed.family), compare(ipBytes(parsed), comparison)];
}

function addressInSet(
  which: 'source' | 'destination',
  set: string,
  family: 4 | 6,
  comparison: Comparison,
): Expression[] {
  checkName(set, 'set');
  return [loadAddress(which, family), { type: 'lookup', set, sreg: NFT_REG_1, invert: comparison === '!=' }];
}

function connectionSourceInSet(direction: number, set: string, family: 4 | 6): Expression[] {
  checkName(set, 'set');
  const key = family === 4 ? NFT_CT_SRC_IP : NFT_CT_SRC_IP6;
  return [
    { type: 'ct', key, dreg: NFT_REG_1, direction },
    { type: 'lookup', set, sreg: NFT_REG_1, invert: false },
  ];
}

function port(offset: 0 | 2, protocol: 'tcp' | 'udp', number: number, comparison: Comparison): Expression[] {
  return [
    ...l4proto(protocol),
    { type: 'payload', dreg: NFT_REG_1, base: NFT_PAYLOAD_TRANSPORT_HEADER, offset, length: 2 },
    compare(networkU16(checkPort(number, 'port')), comparison),
  ];
}

function masked(load: Expression, value: number, mask: number, comparison: Comparison): Expression[] {
  if (mask === 0xffffffff) return [load, compare(hostU32(value), comparison)];
  return [
    load,
    { type: 'bitwise', sreg: NFT_REG_1, dreg: NFT_REG_1, mask: hostU32(mask), xor: hostU32(0) },
    compare(hostU32(value), comparison),
  ];
}

function addressType(flag: number): Expression[] {
  return [
    { type: 'fib', dreg: NFT_REG_1, result: NFT_FIB_RESULT_ADDRTYPE, flags: flag },
    compare(hostU32(RTN_LOCAL), '=='),
  ];
}

/**
 * Conditions of a rule, each a few expressions by way of register 1, so that they can be put one after another in any order.
 * The nft text of each is beside it. All throw InvalidInputError `ERR_NFTABLES_INVALID` (or `ERR_IP_ADDRESS`).
 */
export const match = {
  /** `iifname "istioin"` */
  iifname: (name: string, comparison: Comparison = '=='): Expression[] =>
    interfaceName(NFT_META_IIFNAME, name, comparison),
  /** `oifname "eth0"` */
  oifname: (name: string, comparison: Comparison = '=='): Expression[] =>
    interfaceName(NFT_META_OIFNAME, name, comparison),
  /** `meta mark and 0x220 == 0x220` */
  mark: (value: number, mask = 0xffffffff, comparison: Comparison = '=='): Expression[] =>
    masked(loadMeta(NFT_META_MARK), value, mask, comparison),
  /** `ct mark and 0x210 == 0x210` */
  ctMark: (value: number, mask = 0xffffffff, comparison: Comparison = '=='): Expression[] =>
    masked({ type: 'ct', key: NFT_CT_MARK, dreg: NFT_REG_1 }, value, mask, comparison),
  /** `ct state established,related` */
  ctState: (...wanted: (keyof typeof states)[]): Expression[] => [
    { type: 'ct', key: NFT_CT_STATE, dreg: NFT_REG_1 },
    {
      type: 'bitwise',
      sreg: NFT_REG_1,
      dreg: NFT_REG_1,
      mask: hostU32(wanted.reduce((bits, state) => bits | states[state], 0)),
      xor: hostU32(0),
    },
    compare(hostU32(0), '!='),
  ],
  /** `ct original ip saddr @ztunnel-pods-ips`: who opened the connection (family 4), `ct original ip6 saddr @…` (6) */
  originalSourceInSet: (set: string, family: 4 | 6 = 4): Expression[] =>
    connectionSourceInSet(IP_CT_DIR_ORIGINAL, set, family),
  /** `ct reply ip saddr @ztunnel-pods-ips`: who answers, behind whatever NAT says */
  replySourceInSet: (set: string, family: 4 | 6 = 4): Expression[] =>
    connectionSourceInSet(IP_CT_DIR_REPLY, set, family),
  /** `meta l4proto tcp` */
  l4proto,
  /** `tcp flags & (fin | syn | rst | ack) == syn`, iptables' `--syn`: the packet that opens a connection */
  tcpSyn: (): Expression[] => [
    ...l4proto('tcp'),
    { type: 'payload', dreg: NFT_REG_1, base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: TCP_FLAGS_OFFSET, length: 1 },
    {
      type: 'bitwise',
      sreg: NFT_REG_1,
      dreg: NFT_REG_1,
      mask: Uint8Array.of(TCP_FIN_SYN_RST_ACK),
      xor: Uint8Array.of(0),
    },
    compare(Uint8Array.of(TCP_SYN), '=='),
  ],
  /** `ip saddr 10.0.0.1`, `ip6 saddr fd00::1`: the address says which */
  source: (ip: string, comparison: Comparison = '=='): Expression[] => address('source', ip, comparison),
  /** `ip daddr != 10.244.1.2` */
  destination: (ip: string, comparison: Comparison = '=='): Expression[] => address('destination', ip, comparison),
  /** `ip saddr @ztunnel-pods-ips` (family 4), `ip6 saddr @…` (6) */
  sourceInSet: (set: string, family: 4 | 6 = 4, comparison: Comparison = '=='): Expression[] =>
    addressInSet('source', set, family, comparison),
  /** `ip daddr @ztunnel-pods-ips` */
  destinationInSet: (set: string, family: 4 | 6 = 4, comparison: Comparison = '=='): Expression[] =>
    addressInSet('destination', set, family, comparison),
  /** `tcp sport 80` */
  sourcePort: (protocol: 'tcp' | 'udp', number: number, comparison: Comparison = '=='): Expression[] =>
    port(0, protocol, number, comparison),
  /** `tcp dport 15008` */
  destinationPort: (protocol: 'tcp' | 'udp', number: number, comparison: Comparison = '=='): Expression[] =>
    port(2, protocol, number, comparison),
  /** `fib saddr type local` */
  sourceIsLocal: (): Expression[] => addressType(NFTA_FIB_F_SADDR),
  /** `fib daddr type local` */
  destinationIsLocal: (): Expression[] => addressType(NFTA_FIB_F_DADDR),
  /** `meta skuid 1337` */
  socketUser: (uid: number): Expression[] => [loadMeta(NFT_META_SKUID), compare(hostU32(uid), '==')],
  /** `meta skuid >= 0`, true of any user: what nft has for iptables' `-m owner --socket-exists` */
  hasSocket: (): Expression[] => [
    loadMeta(NFT_META_SKUID),
    { type: 'cmp', sreg: NFT_REG_1, op: NFT_CMP_GTE, value: hostU32(0) },
  ],
} as const;
