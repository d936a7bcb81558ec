import { ipBytes, parseIp } from '../ip/index.ts';
import { type ConntrackEntry, IPS_SEEN_REPLY } from '../netlink/conntrack/index.ts';
import type { Hook } from '../netlink/nftables/index.ts';
import { IPPROTO_TCP, IPPROTO_UDP } from '../system/index.ts';
import type { Packet } from './packet.ts';
import { networkBytes, UNKNOWN } from './registers.ts';

const TH_SYN = 0x02;
const TH_ACK = 0x10;

/** What connection tracking knows of the packet; before its place in the hook (-200) nothing. */
export interface Connection {
  state: 'untracked' | 'new' | 'established';
  direction: 'original' | 'reply';
  /** Undefined: unknown. */
  mark: number | undefined;
  entry: ConntrackEntry | undefined;
  /** Whether its destination and its source are settled: nat chains are asked once for each. */
  destinationSettled: boolean;
  sourceSettled: boolean;
  /** Whether a rule gave the connection another destination or source than it came with. */
  destinationChanged: boolean;
  sourceChanged: boolean;
  /** The packet as connection tracking saw it first, in its own direction. */
  readonly seen: Endpoints;
}

/** Both ends of a packet; ports undefined where they are unknown. */
export interface Endpoints {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
}

/** A packet under way: the walk changes it as the kernel would. */
export class PacketState {
  readonly family: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  readonly isLocal: boolean;
  source: string;
  destination: string;
  sourcePort: number | undefined;
  destinationPort: number | undefined;
  /** Undefined: a rule wrote something unknown. */
  mark: number | undefined;
  hook: Hook = 'prerouting';
  /** The hook's devices, empty for none; undefined for one of several. */
  inDevice: string | undefined;
  outDevice: string | undefined = '';
  connection: Connection | undefined;
  zone = 0;
  /** Set by `notrack`. */
  isUntracked = false;
  /** Of the socket that sends it; undefined: unknown. */
  readonly user: number | undefined;
  readonly group: number | undefined;
  tproxy: { readonly ip: string | undefined; readonly port: number } | undefined;

  constructor(packet: Packet) {
    this.family = parseIp(packet.source).family;
    this.protocol = packet.protocol;
    this.isLocal = packet.device === undefined;
    this.source = packet.source;
    this.destination = packet.destination;
    this.sourcePort = packet.sourcePort;
    this.destinationPort = packet.destinationPort;
    this.user = packet.user;
    this.group = packet.group;
    this.mark = packet.mark ?? 0;
    this.inDevice = packet.device ?? '';
  }

  get protocolNumber(): number {
    return this.protocol === 'tcp' ? IPPROTO_TCP : IPPROTO_UDP;
  }

  /** Whether the hook knows the socket that sends the packet: only hooks on the way out do. */
  get hasSocket(): boolean {
    return this.isLocal && (this.hook === 'output' || this.hook === 'postrouting');
  }

  /** The fixed part of the IP header; lengths, identification, TTL and checksum are unknown. */
  networkHeader(): number[] {
    const addresses = [...ipBytes(parseIp(this.source)), ...ipBytes(parseIp(this.destination))];
    if (this.family === 6) {
      return [0x60, 0, 0, 0, UNKNOWN, UNKNOWN, this.protocolNumber, UNKNOWN, ...addresses];
    }
    const middle = new Array<number>(7).fill(UNKNOWN);
    return [0x45, 0, ...middle, this.protocolNumber, UNKNOWN, UNKNOWN, ...addresses];
  }

  /**
   * The flags of a TCP packet in its place: SYN opens a connection, SYN and ACK answer it, ACK is on all that follow. Of those it is
   * one that begins and ends nothing.
   */
  get tcpFlags(): number {
    const { state, direction, entry } = this.connection ?? {};
    if (state === 'new') return TH_SYN;
    if (state !== 'established') return UNKNOWN;
    const isAnswer = direction === 'reply' && entry !== undefined && (entry.status & IPS_SEEN_REPLY) === 0;
    return isAnswer ? TH_SYN | TH_ACK : TH_ACK;
  }

  /** Ports, and of TCP the flags. */
  transportHeader(): number[] {
    const header = [...networkBytes(this.sourcePort, 2), ...networkBytes(this.destinationPort, 2)];
    if (this.protocol === 'udp') return [...header, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN];
    const unknown = new Array<number>(8).fill(UNKNOWN);
    return [...header, ...unknown, UNKNOWN, this.tcpFlags, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN];
  }
}
