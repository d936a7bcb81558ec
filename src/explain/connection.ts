import { type ConntrackEntry, type ConntrackTuple, IPS_SEEN_REPLY } from '../netlink/conntrack/index.ts';
import type { KernelView } from './kernel-view.ts';
import type { Packet } from './packet.ts';
import type { Connection, PacketState } from './packet-state.ts';

/** What connection tracking makes of the packet as it stands. */
export function trackConnection(state: PacketState, packet: Packet, view: KernelView): Connection {
  const { source, destination, sourcePort, destinationPort } = state;
  const seen = { source, destination, sourcePort, destinationPort };
  const unchanged = { destinationChanged: false, sourceChanged: false, seen };
  const settled = { destinationSettled: true, sourceSettled: true, ...unchanged };
  if (state.isUntracked) {
    return { state: 'untracked', direction: 'original', mark: undefined, entry: undefined, ...settled };
  }
  const found = packet.state === 'new' ? undefined : findConnection(state, view.connections);
  if (found !== undefined) {
    const { entry, direction } = found;
    const answered = direction === 'reply' || (entry.status & IPS_SEEN_REPLY) !== 0;
    const isEstablished = answered || packet.state === 'established';
    return { state: isEstablished ? 'established' : 'new', direction, mark: entry.mark, entry, ...settled };
  }
  if (packet.state === 'established') {
    const mark = packet.connectionMark;
    return { state: 'established', direction: 'original', mark, entry: undefined, ...settled };
  }
  const open = { destinationSettled: false, sourceSettled: false, ...unchanged };
  return { state: 'new', direction: 'original', mark: 0, entry: undefined, ...open };
}

function findConnection(
  state: PacketState,
  connections: readonly ConntrackEntry[],
): { entry: ConntrackEntry; direction: 'original' | 'reply' } | undefined {
  for (const entry of connections) {
    if (entry.zone !== state.zone) continue;
    if (isTuple(entry.original, state)) return { entry, direction: 'original' };
    if (isTuple(entry.reply, state)) return { entry, direction: 'reply' };
  }
  return undefined;
}

function isTuple(tuple: ConntrackTuple, state: PacketState): boolean {
  return (
    tuple.protocol === state.protocolNumber &&
    tuple.source === state.source &&
    tuple.destination === state.destination &&
    tuple.sourcePort === state.sourcePort &&
    tuple.destinationPort === state.destinationPort
  );
}

/** Rewrites the packet by the translation that its connection has; nothing where it has none. */
export function translateByConnection(
  state: PacketState,
  part: 'source' | 'destination',
): { ip: string; port: number | undefined } | undefined {
  const { connection } = state;
  if (connection?.entry === undefined) return undefined;
  // A packet of either direction ends up as the other direction's tuple, turned round.
  const other = connection.direction === 'original' ? connection.entry.reply : connection.entry.original;
  const ip = part === 'destination' ? other.source : other.destination;
  const port = part === 'destination' ? other.sourcePort : other.destinationPort;
  if (part === 'destination') {
    if (state.destination === ip && state.destinationPort === port) return undefined;
    state.destination = ip;
    state.destinationPort = port;
  } else {
    if (state.source === ip && state.sourcePort === port) return undefined;
    state.source = ip;
    state.sourcePort = port;
  }
  return { ip, port };
}

// <linux/netfilter/nf_conntrack_common.h>
const IPS_SRC_NAT = 1 << 4;
const IPS_DST_NAT = 1 << 5;
const IPS_SRC_NAT_DONE = 1 << 7;
const IPS_DST_NAT_DONE = 1 << 8;

/** `ct status`; undefined where the connection is not in the table and not new either. */
export function connectionStatus(connection: Connection): number | undefined {
  if (connection.entry !== undefined) return connection.entry.status;
  if (connection.state !== 'new') return undefined;
  const { sourceChanged, destinationChanged, sourceSettled, destinationSettled } = connection;
  return (
    (sourceChanged ? IPS_SRC_NAT : 0) |
    (destinationChanged ? IPS_DST_NAT : 0) |
    (sourceSettled ? IPS_SRC_NAT_DONE : 0) |
    (destinationSettled ? IPS_DST_NAT_DONE : 0)
  );
}
