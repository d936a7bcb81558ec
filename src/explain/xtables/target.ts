import { formatSocketAddress } from '../../ip/index.ts';
import type { Verdict } from '../../netlink/nftables/index.ts';
import type { Effect } from '../evaluate-rule.ts';
import type { KernelView } from '../kernel-view.ts';
import { ownAddress, translate } from '../nat.ts';
import type { PacketState } from '../packet-state.ts';
import { findListener } from '../tproxy.ts';
import type { XtEntry } from './entry.ts';
import { hex, inetAddress, maskedText, portText } from './ranges.ts';

/** A target of xtables that this library can read. */
export interface XtTarget {
  /** As iptables writes it: `-j MARK --set-xmark 0x1/0x3`. */
  readonly text: string;
  /** It neither decides nor changes anything that matters here. */
  readonly isHarmless?: boolean;
  /**
   * Does to the packet what the kernel does.
   *
   * @returns the verdict, nothing for "on to the next rule", or what cannot be told
   */
  apply(state: PacketState, view: KernelView, effects: Effect[]): Verdict | undefined | string;
}

type Decoder = (info: Buffer, revision: number, family: 4 | 6) => XtTarget | undefined;

const ACCEPT: Verdict = { kind: 'accept' };
const DROP: Verdict = { kind: 'drop' };

/** Targets that go on to the next rule and change nothing that decides. */
const HARMLESS = new Set([
  'LOG',
  'NFLOG',
  'CHECKSUM',
  'TCPMSS',
  'TCPOPTSTRIP',
  'CLASSIFY',
  'DSCP',
  'TOS',
  'TTL',
  'HL',
  'TRACE',
  'AUDIT',
  'RATEEST',
  'IDLETIMER',
  'LED',
  'TEE',
  'SET',
  'SECMARK',
]);

/** @returns undefined for a target, or a revision of one, that this library does not know */
export function decodeTarget({ name, revision, info }: XtEntry, family: 4 | 6): XtTarget | undefined {
  if (HARMLESS.has(name)) return { text: `-j ${name}`, isHarmless: true, apply: () => undefined };
  return decoders[name]?.(info, revision, family);
}

/** From here on connection tracking leaves the packet alone. */
export function notrack(state: PacketState, effects: Effect[]): void {
  if (state.connection === undefined) state.isUntracked = true;
  effects.push({ kind: 'untracked' });
}

const decoders: Readonly<Record<string, Decoder>> = {
  MARK: mark,
  CONNMARK: connmark,
  TPROXY: tproxy,
  REDIRECT: (info, revision, family) => address('redirect', info, revision, family),
  MASQUERADE: (info, revision, family) => address('masquerade', info, revision, family),
  DNAT: (info, revision, family) => address('dnat', info, revision, family),
  SNAT: (info, revision, family) => address('snat', info, revision, family),
  CT: conntrack,
  NOTRACK: () => ({
    text: '-j NOTRACK',
    apply: (state, _view, effects) => {
      notrack(state, effects);
      return undefined;
    },
  }),
  REJECT: () => ({
    text: '-j REJECT',
    apply: (_state, _view, effects) => {
      effects.push({ kind: 'reject' });
      return DROP;
    },
  }),
};

/** xt_mark_tginfo2: `mark = (mark & ~mask) ^ value`. */
function mark(info: Buffer, revision: number): XtTarget | undefined {
  if (revision !== 2 || info.length < 8) return undefined;
  const [value, mask] = [info.readUInt32LE(0), info.readUInt32LE(4)];
  return {
    text: `-j MARK --set-xmark ${maskedText(value, mask)}`,
    apply: (state, _view, effects) => {
      const before = state.mark;
      state.mark = mixed(before, mask, value);
      effects.push({ kind: 'mark', before, after: state.mark });
      return undefined;
    },
  };
}

/** `(before & ~mask) ^ value`; unknown where a bit that is kept is. */
function mixed(before: number | undefined, mask: number, value: number | undefined): number | undefined {
  if (value === undefined || (before === undefined && mask !== 0xffff_ffff)) return undefined;
  return (((before ?? 0) & ~mask) ^ value) >>> 0;
}

// <linux/netfilter/xt_connmark.h>
const XT_CONNMARK_SET = 0;
const XT_CONNMARK_SAVE = 1;
const XT_CONNMARK_RESTORE = 2;

function connmark(info: Buffer, revision: number): XtTarget | undefined {
  if ((revision !== 1 && revision !== 2) || info.length < 13) return undefined;
  const [ctMark, ctMask, nfMask] = [0, 4, 8].map((at) => info.readUInt32LE(at)) as [number, number, number];
  // struct xt_connmark_tginfo2 has the shift before the mode.
  const mode = revision === 1 ? info[12] : info[14];
  const bits = revision === 1 ? 0 : (info[13] ?? 0);
  const isRight = revision === 2 && info[12] === 1;
  if (mode === undefined || mode > XT_CONNMARK_RESTORE) return undefined;
  const shifted = (value: number) => (bits === 0 ? value : isRight ? value >>> bits : value << bits) >>> 0;
  const masks = `--nfmask ${hex(nfMask)} --ctmask ${hex(ctMask)}`;
  const text =
    mode === XT_CONNMARK_SET
      ? `--set-xmark ${maskedText(ctMark, ctMask)}`
      : `${mode === XT_CONNMARK_SAVE ? '--save-mark' : '--restore-mark'}${nfMask === 0xffff_ffff && ctMask === nfMask ? '' : ` ${masks}`}`;
  return {
    text: `-j CONNMARK ${text}`,
    apply: (state, _view, effects) => {
      const { connection } = state;
      if (connection === undefined || connection.state === 'untracked') return undefined;
      if (mode === XT_CONNMARK_RESTORE) {
        const before = state.mark;
        const value = connection.mark === undefined ? undefined : shifted((connection.mark & ctMask) >>> 0);
        state.mark = mixed(before, nfMask, value);
        effects.push({ kind: 'mark', before, after: state.mark });
        return undefined;
      }
      const before = connection.mark;
      const saved = state.mark === undefined ? undefined : shifted((state.mark & nfMask) >>> 0);
      connection.mark =
        mode === XT_CONNMARK_SAVE ? mixed(before, ctMask, saved) : mixedThenShifted(before, ctMask, ctMark, shifted);
      effects.push({ kind: 'connmark', before, after: connection.mark });
      return undefined;
    },
  };
}

function mixedThenShifted(
  before: number | undefined,
  mask: number,
  value: number,
  shifted: (value: number) => number,
): number | undefined {
  const mark = mixed(before, mask, value);
  return mark === undefined ? undefined : shifted(mark);
}

/** xt_tproxy_target_info (IPv4 only) and xt_tproxy_target_info_v1. Unlike nftables' tproxy it drops where nobody listens. */
function tproxy(info: Buffer, revision: number, family: 4 | 6): XtTarget | undefined {
  const isShort = info.length < (revision === 0 ? 14 : 26);
  if (revision > 1 || isShort || (revision === 0 && family === 6)) return undefined;
  const [mask, value] = [info.readUInt32LE(0), info.readUInt32LE(4)];
  const written = inetAddress(info, 8, family);
  const ip = written === '0.0.0.0' || written === '::' ? undefined : written;
  const port = info.readUInt16BE(revision === 0 ? 12 : 24);
  const marks = mask === 0 ? '' : ` --tproxy-mark ${maskedText(value, mask)}`;
  const onIp = ip === undefined ? '' : ` --on-ip ${ip}`;
  return {
    text: `-j TPROXY --on-port ${port}${onIp}${marks}`,
    apply: (state, view, effects) => {
      const to = port === 0 ? state.destinationPort : port;
      if (to === undefined) return 'where TPROXY leads';
      const found = findListener(ip, to, state, view);
      if (found === undefined) return DROP;
      if ('doubt' in found) return found.doubt;
      const before = state.mark;
      state.mark = mixed(before, mask, value);
      state.tproxy = found;
      effects.push({ kind: 'tproxy', ...found });
      if (mask !== 0) effects.push({ kind: 'mark', before, after: state.mark });
      return ACCEPT;
    },
  };
}

// <linux/netfilter/nf_nat.h>
const NF_NAT_RANGE_MAP_IPS = 1;
const NF_NAT_RANGE_PROTO_SPECIFIED = 2;

/** The one range of `struct nf_nat_ipv4_multi_range_compat`, or a `struct nf_nat_range` and what later revisions add to it. */
function natRange(info: Buffer, isCompat: boolean) {
  const family = isCompat ? 4 : undefined;
  if (info.length < (isCompat ? 20 : 40)) return undefined;
  const flagsAt = isCompat ? 4 : 0;
  const width = isCompat ? 4 : 16;
  const ipAt = flagsAt + 4;
  const portsAt = ipAt + width * 2;
  return {
    flags: info.readUInt32LE(flagsAt),
    first: (of: 4 | 6) => inetAddress(info, ipAt, family ?? of),
    last: (of: 4 | 6) => inetAddress(info, ipAt + width, family ?? of),
    firstPort: info.readUInt16BE(portsAt),
    lastPort: info.readUInt16BE(portsAt + 2),
  };
}

function address(
  kind: 'dnat' | 'snat' | 'redirect' | 'masquerade',
  info: Buffer,
  revision: number,
  family: 4 | 6,
): XtTarget | undefined {
  if (revision > 2) return undefined;
  const range = natRange(info, revision === 0 && family === 4);
  if (range === undefined) return undefined;
  const { flags, firstPort, lastPort } = range;
  const hasPort = (flags & NF_NAT_RANGE_PROTO_SPECIFIED) !== 0;
  const hasIp = (kind === 'dnat' || kind === 'snat') && (flags & NF_NAT_RANGE_MAP_IPS) !== 0;
  const [first, last] = [range.first(family), range.last(family)];
  const ports = hasPort ? portText(firstPort, lastPort).replace(':', '-') : '';
  const ips = first === last ? first : `${first}-${last}`;
  const option = kind === 'dnat' ? '--to-destination' : '--to-source';
  const to = hasIp
    ? ` ${option} ${hasPort ? (ips === first && firstPort === lastPort ? formatSocketAddress(first, firstPort) : `${ips}:${ports}`) : ips}`
    : hasPort
      ? ` --to-ports ${ports}`
      : '';
  return {
    text: `-j ${kind.toUpperCase()}${to}`,
    apply: (state, view, effects) => {
      if (hasIp && first !== last) return `which address of ${ips} it takes`;
      const same = kind === 'snat' ? state.source : state.destination;
      const ip = hasIp ? first : kind === 'redirect' || kind === 'masquerade' ? ownAddress(kind, state, view) : same;
      if (ip === undefined) return `the address that ${kind.toUpperCase()} writes`;
      const port = !hasPort ? undefined : firstPort === lastPort ? firstPort : 'one of several';
      effects.push(translate(kind, ip, port, state));
      return ACCEPT;
    },
  };
}

// <linux/netfilter/xt_CT.h>
const XT_CT_NOTRACK = 1;
const XT_CT_NOTRACK_ALIAS = 2;
const XT_CT_ZONE_MARK = 16;

function conntrack(info: Buffer, revision: number): XtTarget | undefined {
  if (revision > 2 || info.length < 4) return undefined;
  const [flags, zone] = [info.readUInt16LE(0), info.readUInt16LE(2)];
  const isUntracked = (flags & (XT_CT_NOTRACK | XT_CT_NOTRACK_ALIAS)) !== 0;
  const byMark = (flags & XT_CT_ZONE_MARK) !== 0;
  return {
    text: isUntracked ? '-j CT --notrack' : `-j CT${byMark ? ' --zone mark' : zone === 0 ? '' : ` --zone ${zone}`}`,
    apply: (state, _view, effects) => {
      // xt_ct_target: a packet that is tracked already is left alone.
      if (state.connection !== undefined) return undefined;
      if (isUntracked) {
        notrack(state, effects);
        return undefined;
      }
      if (byMark && state.mark === undefined) return 'the packet mark, which names the zone';
      const chosen = byMark ? state.mark! & 0xffff : zone;
      if (chosen === 0) return undefined;
      state.zone = chosen;
      effects.push({ kind: 'zone', zone: chosen });
      return undefined;
    },
  };
}
