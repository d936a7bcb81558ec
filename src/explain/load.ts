import type { Expression } from '../netlink/nftables/index.ts';
import * as n from './kernel-numbers.ts';
import type { KernelView } from './kernel-view.ts';
import type { PacketState } from './packet-state.ts';
import { type Bytes, hostBytes, networkBytes, unknownBytes } from './registers.ts';
import { longestPrefix, RT_TABLE_LOCAL } from './route-lookup.ts';

/** An expression that puts something into a register. */
export type Loading = Extract<Expression, { type: 'meta' | 'ct' | 'payload' | 'fib' }> & { readonly dreg: number };

/** Why a load cannot give a value, for a person; the bytes it leaves are unknown then. */
export interface Loaded {
  readonly bytes: Bytes;
  readonly unknown?: string;
}

/** What an expression puts into its register; `break` where the kernel leaves the rule instead. */
export function load(expression: Loading, state: PacketState, view: KernelView): Loaded | 'break' {
  switch (expression.type) {
    case 'meta':
      return loadMeta(expression.key, state, view);
    case 'ct':
      return loadCt(expression.key, state, 'direction' in expression);
    case 'payload':
      return loadPayload(expression, state);
    case 'fib':
      return loadFib(expression, state, view);
  }
}

function unknown(length: number, why: string): Loaded {
  return { bytes: unknownBytes(length), unknown: why };
}

function known(bytes: Bytes, what: string): Loaded {
  return bytes.includes(-1) ? { bytes, unknown: what } : { bytes };
}

function loadMeta(key: number, state: PacketState, view: KernelView): Loaded | 'break' {
  switch (key) {
    case n.NFT_META_MARK:
      return known(hostBytes(state.mark, 4), 'the packet mark');
    case n.NFT_META_L4PROTO:
      return { bytes: [state.protocolNumber] };
    case n.NFT_META_NFPROTO:
      return { bytes: [state.family === 4 ? n.NFPROTO_IPV4 : n.NFPROTO_IPV6] };
    case n.NFT_META_PROTOCOL:
      return { bytes: networkBytes(state.family === 4 ? n.ETH_P_IP : n.ETH_P_IPV6, 2) };
    case n.NFT_META_IIFNAME:
      return nameBytes(state.inDevice);
    case n.NFT_META_OIFNAME:
      return nameBytes(state.outDevice);
    case n.NFT_META_IIF:
      return indexBytes(state.inDevice, view);
    case n.NFT_META_OIF:
      return indexBytes(state.outDevice, view);
    case n.NFT_META_SKUID:
    case n.NFT_META_SKGID:
      // A forwarded packet has no socket, and the kernel leaves the rule; an incoming one may have been given one already.
      if (!state.isLocal && (state.hook === 'forward' || state.hook === 'postrouting')) return 'break';
      return unknown(4, 'whose socket sends it');
    default:
      return unknown(4, `meta key ${key}`);
  }
}

function nameBytes(name: string | undefined): Loaded {
  if (name === undefined) return unknown(n.IFNAMSIZ, 'which of several devices it leaves by');
  const bytes = [...Buffer.from(name)];
  return { bytes: Array.from({ length: n.IFNAMSIZ }, (_, i) => bytes[i] ?? 0) };
}

function indexBytes(name: string | undefined, { links }: KernelView): Loaded {
  if (name === '') return { bytes: hostBytes(0, 4) };
  const index = links.find((link) => link.name === name)?.index;
  return known(hostBytes(index, 4), 'the device');
}

function loadCt(key: number, state: PacketState, hasDirection: boolean): Loaded | 'break' {
  const { connection } = state;
  if (key === n.NFT_CT_STATE) {
    // Before its place in the hook there is no connection, and the kernel says "invalid".
    return { bytes: hostBytes(connection === undefined ? 1 : n.CT_STATE_BITS[connection.state], 4) };
  }
  if (connection === undefined || connection.state === 'untracked') return 'break';
  if (key === n.NFT_CT_MARK) return known(hostBytes(connection.mark, 4), 'the connection mark');
  if (key === n.NFT_CT_DIRECTION) return { bytes: [connection.direction === 'original' ? 0 : 1] };
  if (key === n.NFT_CT_STATUS) return known(hostBytes(connection.entry?.status, 4), 'the connection’s status');
  if (key === n.NFT_CT_ZONE && !hasDirection) return { bytes: hostBytes(state.zone, 2) };
  return unknown(16, `ct key ${key}`);
}

function loadPayload(expression: Extract<Loading, { type: 'payload' }>, state: PacketState): Loaded {
  const { base, offset, length } = expression;
  const header =
    base === n.NFT_PAYLOAD_NETWORK_HEADER
      ? state.networkHeader()
      : base === n.NFT_PAYLOAD_TRANSPORT_HEADER
        ? state.transportHeader()
        : [];
  const bytes = Array.from({ length }, (_, i) => header[offset + i] ?? -1);
  const names = ['link header', 'IP header', `${state.protocol} header`];
  return known(bytes, `${length} bytes at ${offset} of the ${names[base] ?? 'packet'}`);
}

function loadFib({ result, flags }: Extract<Loading, { type: 'fib' }>, state: PacketState, view: KernelView): Loaded {
  const address =
    flags === n.NFTA_FIB_F_SADDR ? state.source : flags === n.NFTA_FIB_F_DADDR ? state.destination : undefined;
  if (result !== n.NFT_FIB_RESULT_ADDRTYPE || address === undefined) return unknown(4, 'a fib lookup of this kind');
  const type = longestPrefix(view, RT_TABLE_LOCAL, address)?.type ?? 'unicast';
  return known(hostBytes(n.RTN_NUMBERS[type], 4), 'the type of the address');
}
