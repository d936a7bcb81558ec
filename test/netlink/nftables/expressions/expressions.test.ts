import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AttributeReader } from '../../../../src/netlink/attribute-reader.ts';
import { MessageWriter } from '../../../../src/netlink/message-writer.ts';
import {
  decodeExpression,
  type Expression,
  encodeExpression,
} from '../../../../src/netlink/nftables/expressions/index.ts';
import { golden } from '../golden.ts';

function encode(expressions: readonly Expression[]): Buffer {
  const writer = new MessageWriter();
  for (const expression of expressions) encodeExpression(expression, writer);
  return writer.finish();
}

function decode(bytes: Buffer): Expression[] {
  const reader = new AttributeReader(bytes);
  const expressions: Expression[] = [];
  while (reader.next()) expressions.push(decodeExpression(reader.nested()));
  reader.check();
  return expressions;
}

/** Buffers and Uint8Arrays alike, as plain bytes. */
function plain(expressions: readonly Expression[]): unknown {
  return JSON.parse(
    JSON.stringify(expressions, (_key, value) => {
      if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
      return value?.type === 'Buffer' ? Buffer.from(value.data).toString('hex') : value;
    }),
  );
}

describe('expressions, against the bytes nft sends', () => {
  // nft leaves NFTA_BITWISE_OP out of a flag comparison; its absence means NFT_BITWISE_MASK_XOR, which we write.
  const withoutOperation = new Set(['ct state']);

  for (const { name, text, debug, hex, ours } of golden) {
    if (!withoutOperation.has(name))
      it(`${name}: "${text}" encodes to the bytes of ${debug.join(' ')}`, () => {
        expect(encode(ours).toString('hex')).toBe(hex);
      });
    it(`${name}: those bytes decode to what the builder says`, () => {
      expect(plain(decode(Buffer.from(hex, 'hex')))).toEqual(plain(ours));
    });
  }
});

describe('expressions', () => {
  const register = fc.integer({ min: 0, max: 4 });
  const otherRegister = fc.integer({ min: 5, max: 9 });
  const u32 = fc.nat(0xffff_ffff);
  const value = fc.uint8Array({ minLength: 1, maxLength: 64 });
  const name = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_-]{0,30}$/);
  const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
  const present = <T extends object>(object: T): T =>
    Object.fromEntries(Object.entries(object).filter(([, entry]) => entry !== undefined)) as T;
  // All but those that follow from the registers.
  const natFlags = optional(fc.constantFrom(4, 8, 16, 28));
  const verdict = fc.oneof(
    fc.record({ kind: fc.constantFrom('accept', 'drop', 'return', 'continue', 'break') }),
    fc.record({ kind: fc.constantFrom('jump', 'goto'), chain: name }),
  );
  const any = fc.oneof(
    fc.record({ type: fc.constant('meta'), key: u32, dreg: register }),
    fc.record({ type: fc.constant('meta'), key: u32, sreg: register }),
    fc.record({ type: fc.constant('payload'), dreg: register, base: u32, offset: u32, length: u32 }),
    fc.record({ type: fc.constant('cmp'), sreg: register, op: u32, value }),
    fc.record({ type: fc.constant('bitwise'), sreg: register, dreg: register, mask: value, xor: value }),
    fc.record({ type: fc.constant('ct'), key: u32, sreg: register }),
    fc
      .record({
        type: fc.constant('ct'),
        key: u32,
        dreg: register,
        direction: optional(fc.integer({ min: 0, max: 1 })),
      })
      .map(present),
    fc
      .record({ type: fc.constant('lookup'), set: name, sreg: register, invert: fc.boolean(), setId: optional(u32) })
      .map(present),
    fc.record({ type: fc.constant('immediate'), dreg: register, value }),
    fc.record({ type: fc.constant('immediate'), verdict }),
    fc.record({ type: fc.constant('counter'), packets: fc.maxSafeNat(), bytes: fc.maxSafeNat() }),
    fc
      .record({
        type: fc.constant('tproxy'),
        family: u32,
        addressRegister: optional(register),
        portRegister: optional(register),
      })
      .map(present),
    fc
      .record({
        type: fc.constant('nat'),
        kind: fc.constantFrom('snat', 'dnat'),
        family: u32,
        addressRegister: optional(register),
        portRegister: optional(register),
        flags: natFlags,
      })
      .map(present),
    // A maximum in the register of the minimum is none.
    fc
      .record({
        type: fc.constant('nat'),
        kind: fc.constantFrom('snat', 'dnat'),
        family: u32,
        addressRegister: register,
        lastAddressRegister: otherRegister,
        portRegister: register,
        lastPortRegister: otherRegister,
      })
      .map(present),
    fc.record({ type: fc.constant('redirect'), portRegister: optional(register), flags: natFlags }).map(present),
    fc.record({ type: fc.constant('redirect'), portRegister: register, lastPortRegister: otherRegister }),
    fc.record({ type: fc.constant('masquerade'), flags: optional(fc.integer({ min: 1, max: 255 })) }).map(present),
    fc.record({ type: fc.constant('fib'), dreg: register, result: u32, flags: u32 }),
    fc.record({ type: fc.constant('socket'), key: u32, dreg: register }),
    fc.record({ type: fc.constant('reject'), kind: u32, icmpCode: fc.nat(255) }),
  ) as fc.Arbitrary<Expression>;

  it('decode to what was encoded, whatever the values', () => {
    fc.assert(
      fc.property(fc.array(any, { maxLength: 12 }), (expressions) => {
        expect(plain(decode(Buffer.from(encode(expressions))))).toEqual(plain(expressions));
      }),
    );
  });

  it('never read beyond cut bytes: the rest is an error, not an exception of Buffer', () => {
    fc.assert(
      fc.property(fc.array(any, { minLength: 1, maxLength: 4 }), fc.nat(), (expressions, cut) => {
        const bytes = Buffer.from(encode(expressions));
        try {
          decode(bytes.subarray(0, cut % bytes.length));
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_NETLINK_MALFORMED' });
        }
      }),
    );
  });

  it('keep those of other programs as they are: iptables-nft "match"', () => {
    const foreign: Expression = { type: 'opaque', name: 'match', data: Buffer.from('0800010001000000', 'hex') };
    expect(plain(decode(Buffer.from(encode([foreign]))))).toEqual(plain([foreign]));
  });
});
