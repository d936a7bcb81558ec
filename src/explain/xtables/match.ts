import { ipBytes, parseIp } from '../../ip/index.ts';
import { addressType } from '../address-type.ts';
import { connectionStatus } from '../connection.ts';
import { RTN_NUMBERS } from '../kernel-numbers.ts';
import type { KernelView } from '../kernel-view.ts';
import type { PacketState } from '../packet-state.ts';
import { ipsetMatch } from './ipset-match.ts';
import { agreesMasked, inetAddress, maskedText, not, portText } from './ranges.ts';

/** A match or target as nf_tables (`nft_compat`) and ip_tables carry it: a name, a revision, and the structure that goes with them. */
export interface XtEntry {
  readonly name: string;
  readonly revision: number;
  readonly info: Buffer;
}

/** What a match says of a packet: yes, no, a reason why that cannot be told, or that the kernel throws dice. */
export type XtAnswer = boolean | { readonly doubt: string } | { readonly by: string; readonly probability: number };

/** A match of xtables that this library can read. */
export interface XtMatch {
  /** As iptables writes it: `-m mark --mark 0x1/0x3`. */
  readonly text: string;
  holds(state: PacketState, view: KernelView): XtAnswer;
}

type Decoder = (info: Buffer, revision: number, family: 4 | 6) => XtMatch | undefined;

/** Bytes that a match's structure has at least, by name and revision; those that are not here cannot be read. */
const SIZES: Readonly<Record<string, readonly number[]>> = {
  tcp: [12],
  udp: [10],
  comment: [0],
  mark: [12, 9],
  connmark: [12, 9],
  multiport: [32, 48],
  owner: [16, 18],
  addrtype: [12, 8],
  conntrack: [Number.POSITIVE_INFINITY, 152, 154, 162],
  state: [4],
  statistic: [16],
  iprange: [Number.POSITIVE_INFINITY, 65],
  set: [Number.POSITIVE_INFINITY, 4, 4, 4, 4],
  icmp: [0],
  icmp6: [0],
};

/** @returns undefined for a match, or a revision of one, that this library does not know */
export function decodeMatch({ name, revision, info }: XtEntry, family: 4 | 6): XtMatch | undefined {
  const size = SIZES[name]?.[revision];
  if (size === undefined || info.length < size) return undefined;
  return decoders[name]?.(info, revision, family);
}

/** `owner revision 3`, for a message. */
export function xtName({ name, revision }: Pick<XtEntry, 'name' | 'revision'>): string {
  return `${name} (revision ${revision})`;
}

const decoders: Readonly<Record<string, Decoder>> = {
  comment: () => ({ text: '', holds: () => true }),
  // The packets of this library are TCP and UDP.
  icmp: () => ({ text: '-m icmp', holds: () => false }),
  icmp6: () => ({ text: '-m icmp6', holds: () => false }),
  tcp,
  udp: (info) => ports(info, 'udp', info[8]!),
  mark,
  connmark,
  multiport,
  owner,
  addrtype,
  conntrack,
  state: (info) => {
    const wanted = info.readUInt32LE(0);
    return {
      text: `-m state --state ${stateText(wanted, XT_STATE_UNTRACKED)}`,
      holds: ({ connection }) => {
        const bit =
          connection === undefined ? 1 : { ...CT_STATE_BITS, untracked: XT_STATE_UNTRACKED }[connection.state];
        return (wanted & bit) !== 0;
      },
    };
  },
  statistic,
  iprange,
  set: (info) => {
    const set = ipsetMatch(info, 0);
    return { text: set.text, holds: (state, view) => set.holds(state, view) };
  },
};

// <linux/netfilter/xt_tcpudp.h>
const XT_TCP_INV_SRCPT = 1;
const XT_TCP_INV_DSTPT = 2;
const XT_TCP_INV_FLAGS = 4;
const XT_TCP_INV_OPTION = 8;
const TH_SYN = 2;

function tcp(info: Buffer): XtMatch {
  const base = ports(info, 'tcp', info[11]!);
  const [option, mask, wanted, inverted] = [info[8]!, info[9]!, info[10]!, info[11]!];
  const flags =
    mask === 0
      ? ''
      : ` ${not((inverted & XT_TCP_INV_FLAGS) !== 0)}--tcp-flags 0x${mask.toString(16)} 0x${wanted.toString(16)}`;
  const options = option === 0 ? '' : ` ${not((inverted & XT_TCP_INV_OPTION) !== 0)}--tcp-option ${option}`;
  return {
    text: `${base.text}${flags}${options}`,
    holds: (state, view) => {
      const agrees = base.holds(state, view);
      if (agrees === false) return false;
      if (mask !== 0) {
        if (state.connection?.state === 'established') return { doubt: 'the flags of the TCP header' };
        if (((TH_SYN & mask) === wanted) === ((inverted & XT_TCP_INV_FLAGS) !== 0)) return false;
      }
      return option === 0 ? agrees : { doubt: 'the options of the TCP header' };
    },
  };
}

/** `__u16 spts[2], dpts[2]`, in host byte order. */
function ports(info: Buffer, protocol: 'tcp' | 'udp', inverted: number): XtMatch {
  const [sFirst, sLast, dFirst, dLast] = [0, 2, 4, 6].map((at) => info.readUInt16LE(at)) as [
    number,
    number,
    number,
    number,
  ];
  const parts = [`-m ${protocol}`];
  if (sFirst !== 0 || sLast !== 0xffff)
    parts.push(`${not((inverted & XT_TCP_INV_SRCPT) !== 0)}--sport ${portText(sFirst, sLast)}`);
  if (dFirst !== 0 || dLast !== 0xffff)
    parts.push(`${not((inverted & XT_TCP_INV_DSTPT) !== 0)}--dport ${portText(dFirst, dLast)}`);
  return {
    text: parts.join(' '),
    holds: (state) =>
      state.protocol === protocol &&
      both(
        portIn(state.sourcePort, sFirst, sLast, (inverted & XT_TCP_INV_SRCPT) !== 0, 'source'),
        portIn(state.destinationPort, dFirst, dLast, (inverted & XT_TCP_INV_DSTPT) !== 0, 'destination'),
      ),
  };
}

function portIn(port: number | undefined, first: number, last: number, inverted: boolean, which: string): XtAnswer {
  if (first === 0 && last === 0xffff) return !inverted;
  if (port === undefined) return { doubt: `the ${which} port` };
  return (port >= first && port <= last) !== inverted;
}

/** No beats a doubt, a doubt beats yes. */
function both(...answers: readonly XtAnswer[]): XtAnswer {
  if (answers.includes(false)) return false;
  return answers.find((answer) => answer !== true) ?? true;
}

/** Revision 0 has C's long, revision 1 32 bits. */
function markAndMask(info: Buffer, revision: number): [number, number, boolean] {
  const wide = revision === 0 && info.length >= 17;
  const maskAt = wide ? 8 : 4;
  return [info.readUInt32LE(0), info.readUInt32LE(maskAt), info[maskAt * 2] === 1];
}

function mark(info: Buffer, revision: number): XtMatch {
  const [value, mask, inverted] = markAndMask(info, revision);
  return {
    text: `-m mark ${not(inverted)}--mark ${maskedText(value, mask)}`,
    holds: (state) =>
      state.mark === undefined ? { doubt: 'the packet mark' } : ((state.mark & mask) >>> 0 === value) !== inverted,
  };
}

function connmark(info: Buffer, revision: number): XtMatch {
  const [value, mask, inverted] = markAndMask(info, revision);
  return {
    text: `-m connmark ${not(inverted)}--mark ${maskedText(value, mask)}`,
    holds: ({ connection }) => {
      if (connection === undefined || connection.state === 'untracked') return false;
      if (connection.mark === undefined) return { doubt: 'the connection mark' };
      return ((connection.mark & mask) >>> 0 === value) !== inverted;
    },
  };
}

/** Revision 0: flags, count, ports[15]; revision 1 has pflags[15] and an inversion behind. A pflag begins a range. */
function multiport(info: Buffer, revision: number): XtMatch {
  const which = info[0]!;
  const inverted = revision === 1 && info[47] === 1;
  const ranges: [number, number][] = [];
  for (let i = 0; i < Math.min(info[1]!, 15); i++) {
    const first = info.readUInt16LE(2 + i * 2);
    const isRange = revision === 1 && info[32 + i] === 1;
    if (isRange) i++;
    ranges.push([first, isRange ? info.readUInt16LE(2 + i * 2) : first]);
  }
  const option = ['--sports', '--dports', '--ports'][which] ?? '--ports';
  const has = (port: number | undefined): XtAnswer =>
    port === undefined ? { doubt: 'a port' } : ranges.some(([first, last]) => port >= first && port <= last);
  return {
    text: `-m multiport ${not(inverted)}${option} ${ranges.map(([first, last]) => portText(first, last)).join(',')}`,
    holds: ({ sourcePort, destinationPort }) => {
      const answers = [...(which === 1 ? [] : [has(sourcePort)]), ...(which === 0 ? [] : [has(destinationPort)])];
      if (answers.includes(true)) return !inverted;
      return answers.find((answer) => answer !== false) ?? inverted;
    },
  };
}

// <linux/netfilter/xt_owner.h>
const XT_OWNER_UID = 1;
const XT_OWNER_GID = 2;
const XT_OWNER_SOCKET = 4;
const XT_OWNER_SUPPL_GROUPS = 8;

function owner(info: Buffer, revision: number): XtMatch | undefined {
  // Revision 0 (ipt_owner) is out of the kernel since 2.6.
  if (revision !== 1) return undefined;
  const [uidMin, uidMax, gidMin, gidMax] = [0, 4, 8, 12].map((at) => info.readUInt32LE(at)) as [
    number,
    number,
    number,
    number,
  ];
  const [asked, inverted] = [info[16]!, info[17]!];
  const parts: string[] = [];
  if ((asked & XT_OWNER_UID) !== 0)
    parts.push(
      `${not((inverted & XT_OWNER_UID) !== 0)}--uid-owner ${uidMin === uidMax ? uidMin : `${uidMin}-${uidMax}`}`,
    );
  if ((asked & XT_OWNER_GID) !== 0)
    parts.push(
      `${not((inverted & XT_OWNER_GID) !== 0)}--gid-owner ${gidMin === gidMax ? gidMin : `${gidMin}-${gidMax}`}`,
    );
  if ((asked & XT_OWNER_SOCKET) !== 0) parts.push(`${not((inverted & XT_OWNER_SOCKET) !== 0)}--socket-exists`);
  return {
    text: `-m owner ${parts.join(' ')}`,
    holds: (state) => {
      // owner_mt: without a socket only what is inverted holds.
      if (!state.hasSocket) return ((asked ^ inverted) & 0xff) === 0;
      if ((asked & inverted & XT_OWNER_SOCKET) !== 0) return false;
      const answers: XtAnswer[] = [];
      if ((asked & XT_OWNER_UID) !== 0)
        answers.push(within(state.user, uidMin, uidMax, (inverted & XT_OWNER_UID) !== 0, 'user'));
      if ((asked & XT_OWNER_GID) !== 0) {
        const supplementary = (asked & XT_OWNER_SUPPL_GROUPS) !== 0;
        answers.push(
          supplementary
            ? { doubt: 'all groups of whose socket sends it' }
            : within(state.group, gidMin, gidMax, (inverted & XT_OWNER_GID) !== 0, 'group'),
        );
      }
      return both(...answers);
    },
  };
}

function within(value: number | undefined, min: number, max: number, inverted: boolean, what: string): XtAnswer {
  if (value === undefined) return { doubt: `whose socket sends it (its ${what})` };
  return (value >= min && value <= max) !== inverted;
}

// <linux/netfilter/xt_addrtype.h>
const XT_ADDRTYPE_INVERT_SOURCE = 1;
const XT_ADDRTYPE_INVERT_DEST = 2;
const XT_ADDRTYPE_LIMIT_IFACE_IN = 4;
const XT_ADDRTYPE_LIMIT_IFACE_OUT = 8;

function addrtype(info: Buffer, revision: number): XtMatch {
  const [source, destination] = [info.readUInt16LE(0), info.readUInt16LE(2)];
  const flags =
    revision === 1
      ? info.readUInt32LE(4)
      : (info.readUInt32LE(4) === 0 ? 0 : XT_ADDRTYPE_INVERT_SOURCE) |
        (info.readUInt32LE(8) === 0 ? 0 : XT_ADDRTYPE_INVERT_DEST);
  const invertSource = (flags & XT_ADDRTYPE_INVERT_SOURCE) !== 0;
  const invertDestination = (flags & XT_ADDRTYPE_INVERT_DEST) !== 0;
  const parts = ['-m addrtype'];
  if (source !== 0) parts.push(`${not(invertSource)}--src-type ${typesText(source)}`);
  if (destination !== 0) parts.push(`${not(invertDestination)}--dst-type ${typesText(destination)}`);
  if ((flags & XT_ADDRTYPE_LIMIT_IFACE_IN) !== 0) parts.push('--limit-iface-in');
  if ((flags & XT_ADDRTYPE_LIMIT_IFACE_OUT) !== 0) parts.push('--limit-iface-out');
  return {
    text: parts.join(' '),
    holds: (state, view) => {
      const device =
        (flags & XT_ADDRTYPE_LIMIT_IFACE_IN) !== 0
          ? state.inDevice
          : (flags & XT_ADDRTYPE_LIMIT_IFACE_OUT) !== 0
            ? state.outDevice
            : '';
      if (device === undefined) return { doubt: 'which of several devices it leaves by' };
      const has = (address: string, types: number, inverted: boolean): boolean => {
        if (types === 0) return true;
        const number = RTN_NUMBERS[addressType(view, address, device === '' ? undefined : device)] ?? 0;
        return ((types & (1 << number)) !== 0) !== inverted;
      };
      return has(state.source, source, invertSource) && has(state.destination, destination, invertDestination);
    },
  };
}

function typesText(types: number): string {
  const names = Object.entries(RTN_NUMBERS).filter(([, number]) => (types & (1 << number)) !== 0);
  return names.map(([name]) => name.toUpperCase()).join(',');
}

// <linux/netfilter/xt_conntrack.h>: XT_CONNTRACK_STATE_BIT, and match_flags
const CT_STATE_BITS = { established: 2, new: 8 } as const;
const XT_STATE_UNTRACKED = 1 << 6;
const XT_CONNTRACK_STATE_SNAT = 1 << 6;
const XT_CONNTRACK_STATE_DNAT = 1 << 7;
const XT_CONNTRACK_STATE_UNTRACKED = 1 << 8;
const XT_CONNTRACK_STATE = 1;
const XT_CONNTRACK_PROTO = 2;
const XT_CONNTRACK_ORIGSRC = 4;
const XT_CONNTRACK_ORIGDST = 8;
const XT_CONNTRACK_REPLSRC = 16;
const XT_CONNTRACK_REPLDST = 32;
const XT_CONNTRACK_STATUS = 64;
const XT_CONNTRACK_EXPIRES = 128;
const XT_CONNTRACK_ORIGSRC_PORT = 256;
const XT_CONNTRACK_ORIGDST_PORT = 512;
const XT_CONNTRACK_REPLSRC_PORT = 1024;
const XT_CONNTRACK_REPLDST_PORT = 2048;
const XT_CONNTRACK_DIRECTION = 4096;
const UNREAD =
  XT_CONNTRACK_REPLSRC |
  XT_CONNTRACK_REPLDST |
  XT_CONNTRACK_EXPIRES |
  XT_CONNTRACK_REPLSRC_PORT |
  XT_CONNTRACK_REPLDST_PORT;

function stateText(states: number, untracked: number): string {
  const names = { INVALID: 1, ESTABLISHED: 2, RELATED: 4, NEW: 8, UNTRACKED: untracked };
  const all =
    untracked === XT_STATE_UNTRACKED
      ? names
      : { ...names, SNAT: XT_CONNTRACK_STATE_SNAT, DNAT: XT_CONNTRACK_STATE_DNAT };
  return Object.entries(all)
    .flatMap(([name, bit]) => ((states & bit) === 0 ? [] : [name]))
    .join(',');
}

/** Revisions 1 to 3 differ in the width of two masks and in ranges of ports. */
function conntrack(info: Buffer, revision: number, family: 4 | 6): XtMatch {
  const flags = info.readUInt16LE(146);
  const inverted = info.readUInt16LE(148);
  const states = revision === 1 ? info[150]! : info.readUInt16LE(150);
  const statuses = revision === 1 ? info[151]! : info.readUInt16LE(152);
  const has = (flag: number) => (flags & flag) !== 0;
  const isNot = (flag: number) => (inverted & flag) !== 0;
  /** Revision 3 has ports in host byte order and a last one; the others one port in network byte order. */
  const portAt = (at: number, highAt: number): [number, number] => {
    if (revision < 3) return [info.readUInt16BE(at), info.readUInt16BE(at)];
    return [info.readUInt16LE(at), info.readUInt16LE(highAt)];
  };
  const sourcePorts = portAt(138, 154);
  const destinationPorts = portAt(140, 156);
  const parts = ['-m conntrack'];
  const say = (flag: number, text: () => string) => {
    if (has(flag)) parts.push(`${not(isNot(flag))}${text()}`);
  };
  say(XT_CONNTRACK_STATE, () => `--ctstate ${stateText(states, XT_CONNTRACK_STATE_UNTRACKED)}`);
  say(XT_CONNTRACK_PROTO, () => `--ctproto ${info.readUInt16LE(136)}`);
  say(XT_CONNTRACK_ORIGSRC, () => `--ctorigsrc ${inetAddress(info, 0, family)}`);
  say(XT_CONNTRACK_ORIGDST, () => `--ctorigdst ${inetAddress(info, 32, family)}`);
  say(XT_CONNTRACK_ORIGSRC_PORT, () => `--ctorigsrcport ${portText(...sourcePorts)}`);
  say(XT_CONNTRACK_ORIGDST_PORT, () => `--ctorigdstport ${portText(...destinationPorts)}`);
  say(XT_CONNTRACK_STATUS, () => `--ctstatus 0x${statuses.toString(16)}`);
  if (has(XT_CONNTRACK_DIRECTION)) parts.push(`--ctdir ${isNot(XT_CONNTRACK_DIRECTION) ? 'REPLY' : 'ORIGINAL'}`);
  return {
    text: parts.join(' '),
    holds: (state) => {
      const { connection } = state;
      const isTracked = connection !== undefined && connection.state !== 'untracked';
      if (has(XT_CONNTRACK_STATE)) {
        let bits = 1;
        if (connection?.state === 'untracked') bits = XT_CONNTRACK_STATE_UNTRACKED;
        else if (isTracked) {
          const status = connectionStatus(connection);
          const asksNat = (states & (XT_CONNTRACK_STATE_SNAT | XT_CONNTRACK_STATE_DNAT)) !== 0;
          if (status === undefined && asksNat) return { doubt: 'the connection’s status' };
          bits = CT_STATE_BITS[connection.state as keyof typeof CT_STATE_BITS];
          if (((status ?? 0) & (1 << 4)) !== 0) bits |= XT_CONNTRACK_STATE_SNAT;
          if (((status ?? 0) & (1 << 5)) !== 0) bits |= XT_CONNTRACK_STATE_DNAT;
        }
        if (((bits & states) !== 0) === isNot(XT_CONNTRACK_STATE)) return false;
      }
      // conntrack_mt: what is not tracked fails every other question, and holds where none is asked.
      if (!isTracked) return (flags & ~(XT_CONNTRACK_STATE | XT_CONNTRACK_STATE_ALIAS)) === 0;
      const isReply = connection.direction === 'reply';
      if (has(XT_CONNTRACK_DIRECTION) && isReply !== isNot(XT_CONNTRACK_DIRECTION)) return false;
      const original = connection.entry?.original ?? (isReply ? undefined : connection.seen);
      const answers: XtAnswer[] = [];
      const address = (flag: number, which: 'source' | 'destination', at: number) => {
        if (!has(flag)) return;
        if (original === undefined) answers.push({ doubt: 'the first packet of the connection' });
        else answers.push(agreesMasked(ipBytes(parseIp(original[which])), info, at, at + 16) !== isNot(flag));
      };
      address(XT_CONNTRACK_ORIGSRC, 'source', 0);
      address(XT_CONNTRACK_ORIGDST, 'destination', 32);
      if (has(XT_CONNTRACK_ORIGSRC_PORT))
        answers.push(portIn(original?.sourcePort, ...sourcePorts, isNot(XT_CONNTRACK_ORIGSRC_PORT), 'first source'));
      if (has(XT_CONNTRACK_ORIGDST_PORT))
        answers.push(
          portIn(original?.destinationPort, ...destinationPorts, isNot(XT_CONNTRACK_ORIGDST_PORT), 'first destination'),
        );
      if (has(XT_CONNTRACK_PROTO))
        answers.push((info.readUInt16LE(136) === state.protocolNumber) !== isNot(XT_CONNTRACK_PROTO));
      if (has(XT_CONNTRACK_STATUS)) {
        const status = connectionStatus(connection);
        if (status === undefined) answers.push({ doubt: 'the connection’s status' });
        else
          answers.push(
            (statuses === 0 ? (status & 0x3f) === 0 : (status & statuses) !== 0) !== isNot(XT_CONNTRACK_STATUS),
          );
      }
      if ((flags & UNREAD) !== 0) answers.push({ doubt: 'the connection’s answers or its age' });
      return both(...answers);
    },
  };
}

const XT_CONNTRACK_STATE_ALIAS = 8192;

// <linux/netfilter/xt_statistic.h>
const XT_STATISTIC_MODE_RANDOM = 0;
const XT_STATISTIC_INVERT = 1;

function statistic(info: Buffer): XtMatch {
  const isRandom = info.readUInt16LE(0) === XT_STATISTIC_MODE_RANDOM;
  const inverted = (info.readUInt16LE(2) & XT_STATISTIC_INVERT) !== 0;
  // Every nth packet: the kernel has one less.
  const share = isRandom ? info.readUInt32LE(4) / 0x8000_0000 : 1 / (info.readUInt32LE(4) + 1);
  const how = isRandom
    ? `--mode random ${not(inverted)}--probability ${share.toFixed(5)}`
    : `--mode nth ${not(inverted)}--every ${info.readUInt32LE(4) + 1}`;
  const probability = inverted ? 1 - share : share;
  return {
    text: `-m statistic ${how}`,
    holds: () => (probability <= 0 ? false : probability >= 1 ? true : { by: 'statistic', probability }),
  };
}

// <linux/netfilter/xt_iprange.h>
const IPRANGE_SRC = 1;
const IPRANGE_DST = 2;
const IPRANGE_SRC_INV = 16;
const IPRANGE_DST_INV = 32;

function iprange(info: Buffer, _revision: number, family: 4 | 6): XtMatch {
  const flags = info[64]!;
  const length = family === 4 ? 4 : 16;
  const parts = ['-m iprange'];
  const text = (at: number) => `${inetAddress(info, at, family)}-${inetAddress(info, at + 16, family)}`;
  if ((flags & IPRANGE_SRC) !== 0) parts.push(`${not((flags & IPRANGE_SRC_INV) !== 0)}--src-range ${text(0)}`);
  if ((flags & IPRANGE_DST) !== 0) parts.push(`${not((flags & IPRANGE_DST_INV) !== 0)}--dst-range ${text(32)}`);
  const isIn = (address: string, at: number) => {
    const bytes = ipBytes(parseIp(address));
    return (
      Buffer.compare(bytes, info.subarray(at, at + length)) >= 0 &&
      Buffer.compare(bytes, info.subarray(at + 16, at + 16 + length)) <= 0
    );
  };
  return {
    text: parts.join(' '),
    holds: ({ source, destination }) => {
      if ((flags & IPRANGE_SRC) !== 0 && isIn(source, 0) === ((flags & IPRANGE_SRC_INV) !== 0)) return false;
      return (flags & IPRANGE_DST) === 0 || isIn(destination, 32) !== ((flags & IPRANGE_DST_INV) !== 0);
    },
  };
}
