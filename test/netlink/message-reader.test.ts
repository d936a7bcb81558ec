import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MessageWriter, NetlinkError, readMessages } from '../../src/netlink/index.ts';

describe('readMessages', () => {
  it('takes a datagram of several messages apart, padding between them', () => {
    const writer = new MessageWriter();
    writer.begin(16, 2).u8(7).end();
    writer.bytes(new Uint8Array(3));
    writer.begin(3, 2).u32(0).end();
    const bytes = writer.finish();
    bytes.writeUInt32LE(99, 8);
    expect(readMessages(bytes)).toEqual([
      { type: 16, flags: 2, seq: 99, payload: Buffer.of(7) },
      { type: 3, flags: 2, seq: 0, payload: Buffer.alloc(4) },
    ]);
  });

  it.each([
    ['a header cut short', Buffer.alloc(15, 1)],
    ['a length of zero', Buffer.alloc(16)],
    ['a length beyond the datagram', Buffer.concat([Buffer.of(17, 0, 0, 0), Buffer.alloc(12)])],
  ])('refuses %s', (_, bytes) => {
    expect(() => readMessages(bytes)).toThrow(expect.objectContaining({ code: 'ERR_NETLINK_MALFORMED' }));
  });

  it('takes any bytes at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        try {
          readMessages(Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(NetlinkError);
        }
      }),
    );
  });
});
