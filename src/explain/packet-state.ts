import { ipBytes, parseIp } from '../ip/index.ts';
import type { ConntrackEntry } from '../netlink/conntrack/index.ts';
import type { Hook } from '../netlink/nftables/index.ts';
import { IPPROTO_TCP, IPPROTO_UDP } from '../system/index.ts';
import type { Packet } from './packet.ts';
import { networkBytes, UNKNOWN } from './registers.ts';

const TH_SYN = 0x02;

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
  tproxy: { readonly ip: string | undefined; readonly port: number } | undefined;

  constructor(packet: Packet) {
    this.family = parseIp(packet.source).family;
    this.protocol = packet.protocol;
    this.isLocal = packet.device === undefined;
    this.source = packet.source;
    this.destination = packet.destination;
    this.sourcePort = packet.sourcePort;
    this.destinationPort = packet.destinationPort;
    this.mark = packet.mark ?? 0;
    this.inDevice = packet.device ?? '';
  }

  get protocolNumber(): number {
    return this.protocol === 'tcp' ? IPPROTO_TCP : IPPROTO_UDP;
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

  /** Ports, and of TCP the flags of a first packet. */
  transportHeader(): number[] {
    const header = [...networkBytes(this.sourcePort, 2), ...networkBytes(this.destinationPort, 2)];
    if (this.protocol === 'udp') return [...header, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN];
    const flags = this.connection?.state === 'new' ? TH_SYN : UNKNOWN;
    const unknown = new Array<number>(8).fill(UNKNOWN);
    return [...header, ...unknown, UNKNOWN, flags, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN];
  }
}
