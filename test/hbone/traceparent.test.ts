import { randomFillSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatTraceParent, makeTraceParent, parseTraceParent } from '../../src/hbone/traceparent.ts';

const text = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

describe('traceparent (W3C Trace Context section 3.2, facts sections 1.2 and 1.3)', () => {
  it('reads and writes the example of the specification', () => {
    const read = parseTraceParent(text);
    expect(read).toEqual({ traceId: '4bf92f3577b34da6a3ce929d0e0e4736', parentId: '00f067aa0ba902b7', flags: '01' });
    expect(formatTraceParent(read!)).toBe(text);
    expect(parseTraceParent(text.toUpperCase())).toEqual(read);
  });

  it.each([
    ['one character more', `${text}0`],
    ['one character less', text.slice(0, -1)],
    ['no hex', text.replace('4bf9', '4bg9')],
    ['dashes elsewhere', text.replace('-', '0').replace('0f06', '0-06')],
    ['the version that never is', text.replace('00-', 'ff-')],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`],
    ['a parent id of zeros', `00-4bf92f3577b34da6a3ce929d0e0e4736-${'0'.repeat(16)}-01`],
    ['nothing', ''],
  ])('refuses %s', (_what, value) => {
    expect(parseTraceParent(value)).toBeUndefined();
  });

  it('makes ids of the random bytes it is given, not sampled', () => {
    const made = makeTraceParent((into) => into.map((_, at) => at + 1));
    expect(formatTraceParent(made)).toBe('00-0102030405060708090a0b0c0d0e0f10-1112131415161718-00');
  });

  it('makes valid ids even where chance gives nothing but zeros', () => {
    const made = makeTraceParent((into) => into);
    expect(parseTraceParent(formatTraceParent(made))).toEqual(made);
  });

  it('property: what is made reads back', () => {
    for (let turn = 0; turn < 100; turn++) {
      const made = makeTraceParent((into) => randomFillSync(into));
      expect(parseTraceParent(formatTraceParent(made))).toEqual(made);
    }
  });

  it('property: 55 hostile characters are read only when they are the format', () => {
    const hostile = fc.string({ unit: fc.constantFrom('0', 'a', 'F', '-', 'g', ' '), minLength: 55, maxLength: 55 });
    fc.assert(
      fc.property(hostile, (value) => {
        const read = parseTraceParent(value);
        if (read !== undefined)
          expect(`${value.slice(0, 2)}${formatTraceParent(read).slice(2)}`.toLowerCase()).toBe(value.toLowerCase());
      }),
    );
  });
});
