import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AttributeReader, MessageWriter, type NetlinkError, readMessages } from '../../src/netlink/index.ts';
import { hex } from './golden.ts';

function encodeError(write: (writer: MessageWriter) => void, maxBytes?: number): NetlinkError {
  const writer = new MessageWriter(maxBytes === undefined ? {} : { initialBytes: 16, maxBytes });
  write(writer);
  try {
    writer.finish();
  } catch (error) {
    return error as NetlinkError;
  }
  throw new Error('nothing was thrown');
}

describe('MessageWriter', () => {
  it('writes nlmsghdr and nlattr as linux/netlink.h lays them out', () => {
    // Length 48, RTM_NEWLINK, CREATE|EXCL; ifinfomsg; IFLA_IFNAME "va", padded from 7 to 8; IFLA_MTU 1400.
    const message = new MessageWriter()
      .begin(16, 0x600)
      .bytes(new Uint8Array(16))
      .attrString(3, 'va')
      .attrU32(4, 1400)
      .end()
      .finish();
    expect(message.toString('hex')).toBe(
      hex(`30000000 1000 0006 00000000 00000000
           00000000 00000000 00000000 00000000
           0700 0300 76610000
           0800 0400 78050000`).toString('hex'),
    );
  });

  it('writes numbers of every width in both byte orders', () => {
    const message = new MessageWriter()
      .begin(0, 0)
      .u8(1)
      .u16(0x0203)
      .u16be(0x0203)
      .u32(0x04050607)
      .u32be(0x04050607)
      .s32(-2)
      .end()
      .finish();
    expect(message.toString('hex', 16)).toBe('01 0302 0203 07060504 04050607 feffffff'.replaceAll(' ', ''));
  });

  it('sets NLA_F_NESTED on nests and patches their lengths', () => {
    const message = new MessageWriter()
      .begin(16, 0)
      .nest(18, (writer) => writer.attrString(1, 'veth').nest(2, () => {}))
      .end()
      .finish();
    // nest 18 of 20 bytes: "veth\0" of 9, padded to 12; empty nest 2 of 4.
    expect(message.toString('hex', 16)).toBe('1400128009000100766574680000000004000280');
  });

  it('puts several messages into one buffer, each aligned to four bytes', () => {
    const writer = new MessageWriter({ initialBytes: 8 });
    for (let at = 0; at < 100; at++)
      writer
        .begin(0x100 + at, 0)
        .attrString(1, 'x'.repeat(at))
        .end();
    const messages = readMessages(writer.finish());
    expect(writer.count).toBe(100);
    expect(messages.map(({ type }) => type)).toEqual(Array.from({ length: 100 }, (_, at) => 0x100 + at));
    expect(messages[99]!.payload.length).toBe(104);
  });

  it('remembers the first value that does not fit, and names its attribute', () => {
    const error = encodeError((writer) =>
      writer
        .begin(16, 0)
        .nest(18, () => writer.nest(2, () => writer.attrU16be(5, 65536).attrU8(6, -1)))
        .end(),
    );
    expect(error).toMatchObject({ code: 'ERR_NETLINK_ENCODE', op: 'netlink.encode', errno: undefined });
    expect(error.message).toContain('attribute 18.2.5: 65536 is no whole number from 0 to 65535');
  });

  it.each<[string, (writer: MessageWriter) => void]>([
    ['a fraction', (writer) => writer.begin(1, 0).u32(1.5).end()],
    ['NaN', (writer) => writer.begin(1, 0).attrS32(1, Number.NaN).end()],
    [
      'a signed number beyond 32 bits',
      (writer) =>
        writer
          .begin(1, 0)
          .attrS32be(1, 2 ** 31)
          .end(),
    ],
    ['a negative 64-bit number', (writer) => writer.begin(1, 0).attrU64(1, -1n).end()],
    [
      'a 64-bit number beyond 2^53 that is no bigint',
      (writer) =>
        writer
          .begin(1, 0)
          .attrU64be(1, 2 ** 53)
          .end(),
    ],
    ['a text with a NUL', (writer) => writer.begin(1, 0).attrString(1, 'a\0b').end()],
    ['an attribute of 64 KiB', (writer) => writer.begin(1, 0).attrBytes(1, Buffer.alloc(65532)).end()],
    ['an attribute type of 15 bits', (writer) => writer.begin(1, 0).attrFlag(0x4000).end()],
    ['a message inside a message', (writer) => writer.begin(1, 0).begin(2, 0).end()],
    ['a message without an end', (writer) => writer.begin(1, 0)],
    ['an end without a message', (writer) => writer.end()],
  ])('refuses %s', (_, write) => {
    expect(encodeError(write).code).toBe('ERR_NETLINK_ENCODE');
  });

  it('takes the longest attribute there can be', () => {
    const message = new MessageWriter().begin(1, 0).attrBytes(1, Buffer.alloc(65531, 7)).end().finish();
    const reader = new AttributeReader(message, 16);
    expect(reader.next()).toBe(true);
    expect(reader.length).toBe(65531);
  });

  it('stays below maxBytes', () => {
    const error = encodeError((writer) => {
      for (let at = 0; at < 100; at++) writer.begin(1, 0).attrBytes(1, Buffer.alloc(100)).end();
    }, 4096);
    expect(error.message).toContain('longer than 4096 bytes');
  });
});

/** A tree of attributes, and the same as it should be read back. */
type Attribute = { type: number } & (
  | { kind: 'u8' | 'u16' | 'u32' | 's32' | 'u16be' | 'u32be' | 's32be'; value: number }
  | { kind: 'u64' | 'u64be'; value: bigint }
  | { kind: 'string'; value: string }
  | { kind: 'bytes'; value: Uint8Array }
  | { kind: 'nest'; value: Attribute[] }
);

const type = fc.nat({ max: 0x3fff });
const { attributes } = fc.letrec<{ attributes: Attribute[]; attribute: Attribute }>((tie) => ({
  attributes: fc.array(tie('attribute'), { maxLength: 6 }) as fc.Arbitrary<Attribute[]>,
  attribute: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.record({ type, kind: fc.constant('u8' as const), value: fc.nat({ max: 0xff }) }),
    fc.record({ type, kind: fc.constantFrom('u16' as const, 'u16be' as const), value: fc.nat({ max: 0xffff }) }),
    fc.record({
      type,
      kind: fc.constantFrom('u32' as const, 'u32be' as const),
      value: fc.integer({ min: 0, max: 0xffff_ffff }),
    }),
    fc.record({ type, kind: fc.constantFrom('s32' as const, 's32be' as const), value: fc.integer() }),
    fc.record({
      type,
      kind: fc.constantFrom('u64' as const, 'u64be' as const),
      value: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    }),
    fc.record({
      type,
      kind: fc.constant('string' as const),
      value: fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0')),
    }),
    fc.record({ type, kind: fc.constant('bytes' as const), value: fc.uint8Array({ maxLength: 40 }) }),
    fc.record({ type, kind: fc.constant('nest' as const), value: tie('attributes') as fc.Arbitrary<Attribute[]> }),
  ) as fc.Arbitrary<Attribute>,
}));

function write(writer: MessageWriter, list: readonly Attribute[]): void {
  for (const it of list) {
    if (it.kind === 'u8') writer.attrU8(it.type, it.value);
    else if (it.kind === 'u16') writer.attrU16(it.type, it.value);
    else if (it.kind === 'u32') writer.attrU32(it.type, it.value);
    else if (it.kind === 's32') writer.attrS32(it.type, it.value);
    else if (it.kind === 'u16be') writer.attrU16be(it.type, it.value);
    else if (it.kind === 'u32be') writer.attrU32be(it.type, it.value);
    else if (it.kind === 's32be') writer.attrS32be(it.type, it.value);
    else if (it.kind === 'u64') writer.attrU64(it.type, it.value);
    else if (it.kind === 'u64be') writer.attrU64be(it.type, it.value);
    else if (it.kind === 'string') writer.attrString(it.type, it.value);
    else if (it.kind === 'bytes') writer.attrBytes(it.type, it.value);
    else if (it.kind === 'nest') writeNest(writer, it.type, it.value);
  }
}

function writeNest(writer: MessageWriter, type: number, inside: readonly Attribute[]): void {
  writer.nest(type, () => write(writer, inside));
}

function expectSame(reader: AttributeReader, list: readonly Attribute[]): void {
  for (const { type, kind, value } of list) {
    expect(reader.next()).toBe(true);
    expect(reader.type).toBe(type);
    expect(reader.isNested).toBe(kind === 'nest');
    if (kind === 'nest') expectSame(reader.nested(), value);
    else if (kind === 'bytes') expect(Buffer.from(value).equals(reader.bytes())).toBe(true);
    else expect(reader[kind]()).toBe(value);
  }
  expect(reader.next()).toBe(false);
}

describe('MessageWriter and AttributeReader', () => {
  it('read back what was written, whatever the tree', () => {
    fc.assert(
      fc.property(attributes, (list) => {
        const writer = new MessageWriter({ initialBytes: 4 }).begin(16, 0);
        write(writer, list);
        const message = writer.end().finish();
        const reader = new AttributeReader(message, 16);
        expectSame(reader, list);
        reader.check();
      }),
    );
  });

  it('write a number the same way as a number and as a bigint', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const asNumber = new MessageWriter().begin(1, 0).attrU64(1, value).attrU64be(2, value).end().finish();
        const big = BigInt(value);
        const asBigint = new MessageWriter().begin(1, 0).attrU64(1, big).attrU64be(2, big).end().finish();
        expect(asNumber.equals(asBigint)).toBe(true);
        const reader = new AttributeReader(asNumber, 28);
        reader.next();
        expect(reader.u64beNumber()).toBe(value);
      }),
    );
  });
});
