import { lookUpRoute } from '../route-lookup.ts';
import type { XtMatch } from './entry.ts';

// <linux/netfilter/xt_rpfilter.h>
const XT_RPFILTER_LOOSE = 1;
const XT_RPFILTER_VALID_MARK = 2;
const XT_RPFILTER_ACCEPT_LOCAL = 4;
const XT_RPFILTER_INVERT = 8;

/** `-m rpfilter`: whether an answer would leave by the device that the packet came by. */
export function rpfilter(info: Buffer): XtMatch {
  const flags = info[0]!;
  const has = (flag: number) => (flags & flag) !== 0;
  const inverted = has(XT_RPFILTER_INVERT);
  const options = [
    ...(has(XT_RPFILTER_LOOSE) ? ['--loose'] : []),
    ...(has(XT_RPFILTER_VALID_MARK) ? ['--validmark'] : []),
    ...(has(XT_RPFILTER_ACCEPT_LOCAL) ? ['--accept-local'] : []),
  ];
  return {
    text: ['-m rpfilter', ...options, ...(inverted ? ['--invert'] : [])].join(' '),
    holds: ({ family, source, destination, mark, inDevice }, view) => {
      if (inDevice === 'lo') return !inverted;
      const answer = lookUpRoute(view, {
        family,
        source: destination,
        destination: source,
        mark: has(XT_RPFILTER_VALID_MARK) ? mark : 0,
        device: 'lo',
      });
      if (answer.kind === 'unknown') return { doubt: `the way back to ${source}` };
      if (answer.kind !== 'route') return inverted;
      const { type, device, nextHops } = answer.route;
      if (type !== 'unicast' && !(type === 'local' && has(XT_RPFILTER_ACCEPT_LOCAL))) return inverted;
      const uses = device === inDevice || (nextHops?.some((hop) => hop.device === inDevice) ?? false);
      return (uses || has(XT_RPFILTER_LOOSE)) !== inverted;
    },
  };
}
