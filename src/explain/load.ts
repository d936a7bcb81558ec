import { ipBytes, parseIp } from '../ip/index.ts';
import type { ConntrackTuple } from '../netlink/conntrack/index.ts';
import type { Expression } from '../netlink/nftables/index.ts';
import { addressType } from './address-type.ts';
import { connectionStatus } from './connection.ts';
import * as n from './kernel-numbers.ts';
import type { KernelView } from './kernel-view.ts';
import type { Connection, Endpoints, PacketState } from './packet-state.ts';
import { type Bytes, hostBytes, networkBytes, unknownBytes } from './registers.ts';
import { lookUpRoute } from './route-lookup.ts';

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
      return loadCt(expression, state);
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
      if (!state.hasSocket) return unknown(4, 'whose socket it is for');
      return known(hostBytes(key === n.NFT_META_SKUID ? state.user : state.group, 4), 'whose socket sends it');
    case n.NFT_META_IIFTYPE:
    case n.NFT_META_OIFTYPE:
      return deviceType(key === n.NFT_META_IIFTYPE ? state.inDevice : state.outDevice, view);
    case n.NFT_META_IIFKIND:
    case n.NFT_META_OIFKIND:
      return deviceKind(key === n.NFT_META_IIFKIND ? state.inDevice : state.outDevice, view);
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

/** ARPHRD_ETHER or ARPHRD_LOOPBACK; what hardware is, is not known here. */
function deviceType(name: string | undefined, { links }: KernelView): Loaded {
  const link = links.find((one) => one.name === name);
  const isEthernet = link !== undefined && link.kind !== 'other';
  return known(hostBytes(link?.loopback ? 772 : isEthernet ? 1 : undefined, 2), 'the type of the device');
}

function deviceKind(name: string | undefined, { links }: KernelView): Loaded {
  const link = links.find((one) => one.name === name);
  if (link === undefined) return unknown(n.IFNAMSIZ, 'the kind of the device');
  return nameBytes(link.kind === 'other' ? link.kernelKind : link.kind);
}

function loadCt(
  { key, direction }: Extract<Loading, { type: 'ct' }> & { readonly direction?: number },
  state: PacketState,
): Loaded | 'break' {
  const { connection } = state;
  if (key === n.NFT_CT_STATE) {
    // Before its place in the hook there is no connection, and the kernel says "invalid".
    return { bytes: hostBytes(connection === undefined ? 1 : n.CT_STATE_BITS[connection.state], 4) };
  }
  if (connection === undefined || connection.state === 'untracked') return 'break';
  switch (key) {
    case n.NFT_CT_MARK:
      return known(hostBytes(connection.mark, 4), 'the connection mark');
    case n.NFT_CT_DIRECTION:
      return { bytes: [connection.direction === 'original' ? 0 : 1] };
    case n.NFT_CT_STATUS:
      return known(hostBytes(connectionStatus(connection), 4), 'the connection’s status');
    case n.NFT_CT_L3PROTOCOL:
      return { bytes: [state.family === 4 ? n.NFPROTO_IPV4 : n.NFPROTO_IPV6] };
    case n.NFT_CT_PROTOCOL:
      return { bytes: [state.protocolNumber] };
    case n.NFT_CT_ZONE:
      if (direction === undefined) return { bytes: hostBytes(state.zone, 2) };
  }
  const first = direction === n.IP_CT_DIR_ORIGINAL ? originalPacket(connection) : replyPacket(connection);
  const end = direction === undefined || first === undefined ? undefined : endOf(key, first);
  if (end === undefined) return unknown(16, `ct key ${key}`);
  if (typeof end === 'string') return { bytes: [...ipBytes(parseIp(end))] };
  return known(networkBytes(end.port, 2), 'a port of the connection');
}

/** The connection's first packet, as it was before any rule changed it. */
function originalPacket({ entry, direction, seen }: Connection): ConntrackTuple | Endpoints | undefined {
  return entry?.original ?? (direction === 'original' ? seen : undefined);
}

/** What an answer to it looks like as it comes in, where that is known. */
function replyPacket({ entry, direction, seen }: Connection): ConntrackTuple | Endpoints | undefined {
  return entry?.reply ?? (direction === 'reply' ? seen : undefined);
}

/** One part of a packet, by the key that asks for it. */
function endOf(key: number, { source, destination, sourcePort, destinationPort }: ConntrackTuple | Endpoints) {
  switch (key) {
    case n.NFT_CT_SRC:
    case n.NFT_CT_SRC_IP:
    case n.NFT_CT_SRC_IP6:
      return source;
    case n.NFT_CT_DST:
    case n.NFT_CT_DST_IP:
    case n.NFT_CT_DST_IP6:
      return destination;
    case n.NFT_CT_PROTO_SRC:
      return { port: sourcePort };
    case n.NFT_CT_PROTO_DST:
      return { port: destinationPort };
    default:
      return undefined;
  }
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

function loadFib(expression: Extract<Loading, { type: 'fib' }>, state: PacketState, view: KernelView): Loaded {
  const { result, flags } = expression;
  const isSource = (flags & n.NFTA_FIB_F_SADDR) !== 0;
  const address = isSource ? state.source : state.destination;
  const device =
    (flags & n.NFTA_FIB_F_IIF) !== 0 ? state.inDevice : (flags & n.NFTA_FIB_F_OIF) !== 0 ? state.outDevice : '';
  if (device === undefined) return unknown(4, 'which of several devices it leaves by');
  const bound = device === '' ? undefined : device;
  if (result === n.NFT_FIB_RESULT_ADDRTYPE) {
    const type = addressType(view, address, bound);
    return known(hostBytes(n.RTN_NUMBERS[type], 4), 'the type of the address');
  }
  const { family, source, destination, mark, inDevice } = state;
  const isPresent = (flags & n.NFTA_FIB_F_PRESENT) !== 0;
  const isIn = state.hook === 'prerouting' || state.hook === 'input';
  const out = isIn && inDevice === 'lo' ? 'lo' : routeOut();
  if (out === undefined) return unknown(n.IFNAMSIZ, 'a fib lookup');
  if (isPresent) return { bytes: [out === '' ? 0 : 1] };
  return result === n.NFT_FIB_RESULT_OIFNAME ? nameBytes(out) : indexBytes(out, view);

  /** `nft_fib4_eval`: the way to the address, turned round for the source; empty where there is none. */
  function routeOut(): string | undefined {
    const answer = lookUpRoute(view, {
      family,
      source: isSource ? destination : source,
      destination: address,
      mark: (flags & n.NFTA_FIB_F_MARK) === 0 ? 0 : mark,
      device: 'lo',
    });
    if (answer.kind === 'unknown') return undefined;
    if (answer.kind !== 'route' || answer.route.type !== 'unicast') return '';
    const { device: by, nextHops } = answer.route;
    if (bound === undefined) return by;
    const uses = by === bound || (nextHops?.some((hop) => hop.device === bound) ?? false);
    return uses ? bound : '';
  }
}
