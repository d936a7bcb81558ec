import { parseIp } from '../ip/index.ts';
import { invalid } from './errors.ts';

/** A packet that need not exist. What is left out of ports is unknown, not zero: a rule that asks for it cannot be judged. */
export interface Packet {
  readonly source: string;
  /** Of the same family as `source`. */
  readonly destination: string;
  readonly protocol: 'tcp' | 'udp';
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** The device it comes in by. Left out: a socket of this namespace sends it. */
  readonly device?: string;
  /** The packet mark to begin with; of a locally made packet, its socket's SO_MARK. Default 0. */
  readonly mark?: number;
  /** User and group of the socket that sends it, of a packet made here. Default: unknown. */
  readonly user?: number;
  readonly group?: number;
  /**
   * Default: what the connection tracking table says, and `new` for a connection that is not in it. Of TCP a new packet is a SYN, and
   * an established one has ACK, and neither SYN, FIN nor RST, unless it is the answer to a SYN.
   */
  readonly state?: 'new' | 'established';
  /** The connection mark, for an established connection that is not in the table. Default: unknown. */
  readonly connectionMark?: number;
}

/** @throws {InvalidInputError} `ERR_EXPLAIN_INVALID`; {@link InvalidIpError} `ERR_IP_ADDRESS`, with the field at fault */
export function checkPacket(packet: Packet): void {
  const source = parseIp(packet.source, 'source');
  const destination = parseIp(packet.destination, 'destination');
  if (source.family !== destination.family) {
    throw invalid('destination', `${packet.destination} is not IPv${source.family}, as the source is`);
  }
  if (packet.protocol !== 'tcp' && packet.protocol !== 'udp') {
    throw invalid('protocol', `${JSON.stringify(packet.protocol)} is neither tcp nor udp`);
  }
  whole(packet.sourcePort, 0xffff, 'sourcePort');
  whole(packet.destinationPort, 0xffff, 'destinationPort');
  whole(packet.mark, 0xffff_ffff, 'mark');
  whole(packet.connectionMark, 0xffff_ffff, 'connectionMark');
  whole(packet.user, 0xffff_ffff, 'user');
  whole(packet.group, 0xffff_ffff, 'group');
  if (packet.state !== undefined && packet.state !== 'new' && packet.state !== 'established') {
    throw invalid('state', `${JSON.stringify(packet.state)} is neither new nor established`);
  }
}

function whole(value: number | undefined, max: number, field: string): void {
  if (value === undefined || (Number.isInteger(value) && value >= 0 && value <= max)) return;
  throw invalid(field, `${value} is no whole number from 0 to ${max}`);
}
