import { ipBytes, parseIp } from '../../ip/index.ts';
import { addressType } from '../address-type.ts';
import { RTN_NUMBERS } from '../kernel-numbers.ts';
import { conntrack, state } from './conntrack-match.ts';
import { both, type XtAnswer, type XtEntry, type XtMatch } from './entry.ts';
import { ipsetMatch } from './ipset-match.ts';
import { physdev } from './physdev-match.ts';
import { multiport, tcp, udp } from './port-match.ts';
import { inetAddress, maskedText, not } from './ranges.ts';
import { rpfilter } from './rpfilter-match.ts';

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
  rpfilter: [1],
  physdev: [66],
};

/** @returns undefined for a match, or a revision of one, that this library does not know */
export function decodeMatch({ name, revision, info }: XtEntry, family: 4 | 6): XtMatch | undefined {
  const size = SIZES[name]?.[revision];
  if (size === undefined || info.length < size) return undefined;
  return decoders[name]?.(info, revision, family);
}

const decoders: Readonly<Record<string, Decoder>> = {
  comment: (info) => ({ text: `/* ${info.toString('utf8').replace(/\0.*$/s, '')} */`, holds: () => true }),
  // The packets of this library are TCP and UDP.
  icmp: () => ({ text: '-m icmp', holds: () => false }),
  icmp6: () => ({ text: '-m icmp6', holds: () => false }),
  tcp,
  udp,
  mark,
  connmark,
  multiport,
  owner,
  addrtype,
  conntrack,
  state,
  statistic,
  iprange,
  set: ipsetMatch,
  rpfilter,
  physdev,
};

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
