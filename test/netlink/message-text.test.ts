import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatMessages, MessageWriter, messageTypeName } from '../../src/netlink/index.ts';

describe('formatMessages', () => {
  it('prints a message in the form of libmnl', () => {
    const message = new MessageWriter()
      .begin(16, 0x605)
      .u8(0)
      .u8(0)
      .u16(0)
      .s32(2)
      .u32(1)
      .u32(1)
      .attrString(3, 'va')
      .nest(18, (writer) => writer.attrString(1, 'veth'))
      .end()
      .finish();
    expect(formatMessages(message, 'route').split('\n')).toEqual([
      '----------------\t------------------',
      '|  0000000056  |\t| message length |',
      '| 00016 | R-A- |\t|  type | flags  |  RTM_NEWLINK 0x605',
      '|  0000000000  |\t| sequence number|',
      '|  0000000000  |\t|     port ID    |',
      '----------------\t------------------',
      '| 00 00 00 00  |\t|  extra header  |',
      '| 02 00 00 00  |\t|  extra header  |',
      '| 01 00 00 00  |\t|  extra header  |',
      '| 01 00 00 00  |\t|  extra header  |',
      '|00007|--|00003|\t|len |flags| type|',
      '| 76 61 00 00  |\t|      data      |\t v a',
      '|00016|N-|00018|\t|len |flags| type|',
      '|00009|--|00001|\t|len |flags| type|',
      '| 76 65 74 68  |\t|      data      |\t v e t h',
      '| 00 00 00 00  |\t|      data      |',
      '----------------\t------------------',
      '',
    ]);
  });

  it('shows any bytes at all without throwing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        const text = formatMessages(Buffer.from(bytes), 'netfilter');
        expect(bytes.length === 0 || text.length > 1).toBe(true);
      }),
    );
  });
});

describe('messageTypeName', () => {
  it.each([
    [16, 'route', 'RTM_NEWLINK'],
    [26, 'route', 'RTM_GETROUTE'],
    [33, 'route', 'RTM_DELRULE'],
    [2, 'route', 'NLMSG_ERROR'],
    [999, 'route', '999'],
    [16, 'netfilter', 'NFNL_MSG_BATCH_BEGIN'],
    [0x0a06, 'netfilter', 'NFTABLES/6'],
    [0x0101, 'netfilter', 'CTNETLINK/1'],
    [3, 'netfilter', 'NLMSG_DONE'],
  ] as const)('names %i of %s %s', (type, family, name) => {
    expect(messageTypeName(type, family)).toBe(name);
  });
});
