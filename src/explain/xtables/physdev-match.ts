import type { XtMatch } from './entry.ts';
import { not } from './ranges.ts';

// struct xt_physdev_info: physindev[16], in_mask[16], physoutdev[16], out_mask[16], invert, bitmask
const INVERT_AT = 64;
const OPERATIONS = [
  [1, '--physdev-in'],
  [2, '--physdev-out'],
  [4, '--physdev-is-bridged'],
  [8, '--physdev-is-in'],
  [16, '--physdev-is-out'],
] as const;

/** `-m physdev`: the port of a bridge. A packet that comes over no bridge has none, and only what is inverted holds. */
export function physdev(info: Buffer): XtMatch {
  const [inverted, asked] = [info[INVERT_AT]!, info[INVERT_AT + 1]!];
  const parts = OPERATIONS.filter(([bit]) => (asked & bit) !== 0).map(([bit, name]) => {
    const device = bit === 1 ? nameAt(info, 0) : bit === 2 ? nameAt(info, 32) : '';
    return `${not((inverted & bit) !== 0)}${name}${device === '' ? '' : ` ${device}`}`;
  });
  return {
    text: `-m physdev ${parts.join(' ')}`,
    holds: ({ inDevice }, { links }) => {
      const isOverBridge = links.some(({ name, kind }) => name === inDevice && kind === 'bridge');
      if (isOverBridge || inDevice === undefined)
        return { doubt: `the port of the bridge ${inDevice} that it came by` };
      return OPERATIONS.every(([bit]) => (asked & bit) === 0 || (inverted & bit) !== 0);
    },
  };
}

function nameAt(info: Buffer, at: number): string {
  return info.toString('latin1', at, at + 16).replace(/\0.*$/s, '');
}
