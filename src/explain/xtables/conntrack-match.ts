import { ipBytes, parseIp } from '../../ip/index.ts';
import { connectionStatus } from '../connection.ts';
import { both, type XtAnswer, type XtMatch } from './entry.ts';
import { portIn } from './port-match.ts';
import { agreesMasked, inetAddress, not, portText } from './ranges.ts';

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
const XT_CONNTRACK_STATE_ALIAS = 8192;
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
export function conntrack(info: Buffer, revision: number, family: 4 | 6): XtMatch {
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

/** `-m state`, which conntrack has taken the place of. */
export function state(info: Buffer): XtMatch {
  const wanted = info.readUInt32LE(0);
  return {
    text: `-m state --state ${stateText(wanted, XT_STATE_UNTRACKED)}`,
    holds: ({ connection }) => {
      const bit = connection === undefined ? 1 : { ...CT_STATE_BITS, untracked: XT_STATE_UNTRACKED }[connection.state];
      return (wanted & bit) !== 0;
    },
  };
}
