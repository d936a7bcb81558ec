import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Expression, match, statement } from '../../src/netlink/nftables/index.ts';
import { meaningOf, sameMeaning } from '../../src/redirection/verify-meaning.ts';

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};
const loadMark: Expression = { type: 'meta', key: 3, dreg: 1 };
const bitwise = (mask: number, xor: number, sreg = 1, dreg = 1): Expression => ({
  type: 'bitwise',
  sreg,
  dreg,
  mask: u32(mask),
  xor: u32(xor),
});
const storeMark = (sreg = 1): Expression => ({ type: 'meta', key: 3, sreg });
const same = (a: Expression[], b: Expression[]) => sameMeaning(meaningOf(a), meaningOf(b));

describe('meaningOf', () => {
  it('does not depend on registers, the order of conditions, or counters', () => {
    const ours = [...match.iifname('eth0'), ...match.l4proto('tcp'), ...statement.counter(), ...statement.drop()];
    const theirs: Expression[] = [
      { type: 'meta', key: 16, dreg: 9 },
      { type: 'cmp', sreg: 9, op: 0, value: Buffer.from([6]) },
      ...match.iifname('eth0'),
      ...match.l4proto('tcp'),
      ...statement.drop(),
    ];
    expect(same(ours, theirs)).toBe(true);
    expect(same(ours, [...match.iifname('eth0'), ...statement.drop()])).toBe(false);
    expect(same(ours, [...match.iifname('eth0'), ...match.l4proto('udp'), ...statement.drop()])).toBe(false);
    expect(same(ours, [...match.iifname('eth0', '!='), ...match.l4proto('tcp'), ...statement.drop()])).toBe(false);
  });

  it('keeps an interface’s name apart from a beginning of names', () => {
    const starts: Expression[] = [
      { type: 'meta', key: 6, dreg: 1 },
      { type: 'cmp', sreg: 1, op: 0, value: Buffer.from('eth0') },
    ];
    expect(same(match.iifname('eth0'), starts)).toBe(false);
  });

  // `set meta mark & 0xfffff400 | 0x400` is how nft prints it (node mode, section 5).
  it('takes `& 0xfffff000 ^ 0x400` written in two steps for one', () => {
    expect(
      same(statement.mark(0x400, 0xfff), [loadMark, bitwise(0xfffff000, 0), bitwise(~0x400, 0x400), storeMark()]),
    ).toBe(true);
    expect(same(statement.mark(0x400, 0xfff), statement.mark(0x400, 0x400))).toBe(false);
  });

  it('tells order of actions, sets, verdicts and targets apart', () => {
    expect(
      same([...statement.mark(1, 1), ...statement.accept()], [...statement.accept(), ...statement.mark(1, 1)]),
    ).toBe(false);
    expect(same(match.sourceInSet('a'), match.sourceInSet('b'))).toBe(false);
    expect(same(match.sourceInSet('a'), match.sourceInSet('a', 4, '!='))).toBe(false);
    expect(same(statement.jump('a'), statement.jump('b'))).toBe(false);
    expect(same(statement.tproxy('127.0.0.1', 15001), statement.tproxy('127.0.0.1', 15006))).toBe(false);
    expect(same(statement.keepSource(), statement.keepDestination())).toBe(false);
  });

  it('tells ranges, flags, shifts and maps apart', () => {
    const nat = (more: object): Expression[] => [
      ...match.sourceInSet('a'),
      { type: 'nat', kind: 'dnat', family: 2, addressRegister: 1, portRegister: 1, ...more },
    ];
    const redirect = (more: object): Expression[] => [{ type: 'redirect', portRegister: 1, ...more }];
    const masquerade = (more: object): Expression[] => [{ type: 'masquerade', ...more }];
    const shift = (more: object): Expression[] => [loadMark, { ...bitwise(0xff, 0), ...more }, storeMark()];
    const lookup = (more: object): Expression[] => [{ type: 'lookup', set: 's', sreg: 1, invert: false, ...more }];
    for (const [of, more] of [
      [nat, { flags: 4 }],
      [nat, { lastAddressRegister: 2 }],
      [nat, { lastPortRegister: 2 }],
      [redirect, { flags: 16 }],
      [redirect, { lastPortRegister: 2 }],
      [masquerade, { flags: 4 }],
      [shift, { op: 1, shift: { bits: 4, bytes: 4 } }],
      [lookup, { dreg: 0 }],
    ] as const) {
      expect(same(of(more), of(more))).toBe(true);
      expect(same(of(more), of({})), JSON.stringify(more)).toBe(false);
    }
  });

  it('has the same meaning for two bitwise chains exactly where they do the same to every mark', () => {
    const step = fc.tuple(fc.integer({ min: 0, max: 0xffffffff }), fc.integer({ min: 0, max: 0xffffffff }));
    const run = (steps: readonly (readonly [number, number])[], mark: number) =>
      steps.reduce((value, [mask, xor]) => ((value & mask) ^ xor) >>> 0, mark >>> 0);
    fc.assert(
      fc.property(fc.array(step, { maxLength: 4 }), fc.array(step, { maxLength: 4 }), (a, b) => {
        const rule = (steps: readonly (readonly [number, number])[]) => [
          loadMark,
          ...steps.map(([mask, xor]) => bitwise(mask, xor)),
          storeMark(),
        ];
        // A function of the bits one by one: what it does to no bits and to all bits is what it does.
        const equal = [0, 0xffffffff].every((mark) => run(a, mark) === run(b, mark));
        expect(same(rule(a), rule(b))).toBe(equal);
        const single = [[run(a, 0xffffffff) ^ run(a, 0), run(a, 0)] as const].map(
          ([mask, xor]) => [mask >>> 0, xor] as const,
        );
        expect(same(rule(a), rule(single))).toBe(true);
      }),
    );
  });

  it('compares behind a mask as the kernel does: (x & m) ^ v == w is x & m == w ^ v', () => {
    const compare = (mask: number, xor: number, value: number): Expression[] => [
      loadMark,
      bitwise(mask, xor),
      { type: 'cmp', sreg: 1, op: 0, value: u32(value) },
    ];
    expect(same(compare(0xff, 0x0f, 0x00), match.mark(0x0f, 0xff))).toBe(true);
    expect(same(compare(0xff, 0x0f, 0x01), match.mark(0x0f, 0xff))).toBe(false);
  });
});
