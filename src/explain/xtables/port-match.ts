import { UNKNOWN } from '../registers.ts';
import { both, type XtAnswer, type XtMatch } from './entry.ts';
import { not, portText } from './ranges.ts';

// <linux/netfilter/xt_tcpudp.h>
const XT_TCP_INV_SRCPT = 1;
const XT_TCP_INV_DSTPT = 2;
const XT_TCP_INV_FLAGS = 4;
const XT_TCP_INV_OPTION = 8;

export function tcp(info: Buffer): XtMatch {
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
        const { tcpFlags } = state;
        if (tcpFlags === UNKNOWN) return { doubt: 'the flags of the TCP header' };
        if (((tcpFlags & mask) === wanted) === ((inverted & XT_TCP_INV_FLAGS) !== 0)) return false;
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

/** Whether a port is in a range. */
export function portIn(
  port: number | undefined,
  first: number,
  last: number,
  inverted: boolean,
  which: string,
): XtAnswer {
  if (first === 0 && last === 0xffff) return !inverted;
  if (port === undefined) return { doubt: `the ${which} port` };
  return (port >= first && port <= last) !== inverted;
}

export function udp(info: Buffer): XtMatch {
  return ports(info, 'udp', info[8]!);
}

/** Revision 0: flags, count, ports[15]; revision 1 has pflags[15] and an inversion behind. A pflag begins a range. */
export function multiport(info: Buffer, revision: number): XtMatch {
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
