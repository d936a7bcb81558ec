import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ViewElement, ViewSet } from '../../src/explain/index.ts';
import { lookUpSet } from '../../src/explain/look-up-set.ts';

const UNKNOWN = -1;
const table = { family: 'ip', name: 't' } as const;

function set(
  kind: ViewSet['kind'],
  keyBytes: number,
  elements: readonly ViewElement[],
  fieldBytes?: number[],
): ViewSet {
  return { table, name: 's', kind, keyBytes, elements, ...(fieldBytes === undefined ? {} : { fieldBytes }) };
}

function key(value: string, more: Partial<ViewElement> = {}): ViewElement {
  return { key: value, end: false, ...more };
}

describe('lookUpSet', () => {
  // 10.96.0.10 . udp . 53, each part at a multiple of four bytes
  const service = key('0a60000a1100000000350000', { verdict: { kind: 'goto', chain: 'dns' } });
  const services = set('keys', 12, [service]);
  const udp53 = [10, 96, 0, 10, 17, 0, 0, 0, 0, 53, 0, 0];

  it('finds a key of several parts, and gives what the map has for it', () => {
    expect(lookUpSet(services, udp53)).toBe(service);
    expect(lookUpSet(services, [10, 96, 0, 11, ...udp53.slice(4)])).toBe('missing');
  });

  it('with an unknown part: sure that it is not there where the known parts fit nothing, else not sure', () => {
    const [a, b, c, d, ...rest] = udp53 as [number, number, number, number, ...number[]];
    expect(lookUpSet(services, [a, b, c, d, ...rest.slice(0, 4), UNKNOWN, UNKNOWN, 0, 0])).toBe('unknown');
    expect(lookUpSet(services, [a, b, c, 9, ...rest.slice(0, 4), UNKNOWN, UNKNOWN, 0, 0])).toBe('missing');
  });

  it('gives the catch-all element where no other has the key, in an empty set too', () => {
    const rest = key('', { isRest: true, value: '01' });
    expect(lookUpSet(set('keys', 4, [key('00000001'), rest]), [0, 0, 0, 2])).toBe(rest);
    expect(lookUpSet(set('keys', 4, [key('00000001'), rest]), [0, 0, 0, 1])).not.toBe(rest);
    expect(lookUpSet(set('other', 4, [rest]), [UNKNOWN, 0, 0, 1])).toBe(rest);
  });

  it('compares ranges of several fields field by field, not as one number', () => {
    // 10.0.0.0/24 . 1000-1999
    const element = key('0a00000003e80000', { last: '0a0000ff07cf0000' });
    const fields = set('fields', 8, [element], [4, 2]);
    const at = (last: number, port: number) => [10, 0, 0, last, port >> 8, port & 255, 0, 0];
    expect(lookUpSet(fields, at(0, 1000))).toBe(element);
    expect(lookUpSet(fields, at(255, 1999))).toBe(element);
    // As one number it would be inside: the address is.
    expect(lookUpSet(fields, at(7, 999))).toBe('missing');
    expect(lookUpSet(fields, at(7, 2000))).toBe('missing');
    expect(lookUpSet(fields, [10, 0, 0, 7, UNKNOWN, UNKNOWN, 0, 0])).toBe('unknown');
    expect(lookUpSet(fields, [10, 0, 1, 7, UNKNOWN, UNKNOWN, 0, 0])).toBe('missing');
    const anyPort = key('0a00000000000000', { last: '0a0000ffffff0000' });
    expect(lookUpSet(set('fields', 8, [anyPort], [4, 2]), [10, 0, 0, 7, UNKNOWN, UNKNOWN, 0, 0])).toBe(anyPort);
  });

  it('never says yes or no of a key with unknown bytes that some value of them would contradict', () => {
    const byte = fc.integer({ min: 0, max: 3 });
    const keys = fc.array(fc.tuple(byte, byte), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(keys, byte, (pairs, known) => {
        const some = set(
          'keys',
          2,
          pairs.map(([a, b]) => key(`0${a}0${b}`)),
        );
        const possible = new Set([0, 1, 2, 3].map((last) => lookUpSet(some, [known, last]) !== 'missing'));
        const found = lookUpSet(some, [known, UNKNOWN]);
        // A value outside of the four is always missing.
        expect(found).toBe(possible.has(true) ? 'unknown' : 'missing');
      }),
    );
  });
});
