import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeConntrack } from '../../../src/netlink/conntrack/entry.ts';
import { conntrackStatusNames } from '../../../src/netlink/conntrack/index.ts';
import { NetlinkError, readMessages } from '../../../src/netlink/index.ts';
import { hex } from '../golden.ts';

// tcp 6 98 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1000 dport=80 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 … mark=529
const RECORDED = hex(`f0000000000102004638026b444e0000 02000000
  34000180 14000180080001000a000001080002000a000002 1c000280 0500010006000000 0600020003e80000 0600030000500000
  34000280 14000180080001000a000002080002000a000001 1c000280 0500010006000000 0600020000500000 0600030003e80000
  0800030000000008 0800080000000211 08000c0060d27d45 08000b0000000001 0800070000000063
  30000480 2c000180 0500010003000000 0500020000000000 0500030000000000 060004000a000000 060005000a000000
  1c001880 0800010000000000 0800020000000000 0800030000000000`);

describe('decodeConntrack', () => {
  it('reads what the kernel answered to conntrack -L', () => {
    expect(decodeConntrack(readMessages(RECORDED)[0]!.payload)).toEqual({
      family: 4,
      original: { source: '10.0.0.1', destination: '10.0.0.2', protocol: 6, sourcePort: 1000, destinationPort: 80 },
      reply: { source: '10.0.0.2', destination: '10.0.0.1', protocol: 6, sourcePort: 80, destinationPort: 1000 },
      status: 8,
      mark: 0x211,
      zone: 0,
      id: 0x60d27d45,
      timeoutSeconds: 99,
      tcpState: 'ESTABLISHED',
    });
  });

  it('takes what becomes of it when any byte is another one, or throws ERR_NETLINK_MALFORMED', () => {
    fc.assert(
      fc.property(fc.nat({ max: 223 }), fc.nat({ max: 255 }), fc.nat({ max: 224 }), (at, byte, length) => {
        const payload = Buffer.from(readMessages(RECORDED)[0]!.payload.subarray(0, length));
        if (at < payload.length) payload[at] = byte;
        try {
          decodeConntrack(payload);
        } catch (error) {
          expect(error).toBeInstanceOf(NetlinkError);
          expect((error as NetlinkError).code).toBe('ERR_NETLINK_MALFORMED');
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('conntrackStatusNames', () => {
  it('spells the bits as nf_conntrack_common.h does', () => {
    expect(conntrackStatusNames(0)).toEqual([]);
    expect(conntrackStatusNames(0x18e)).toEqual(['SEEN_REPLY', 'ASSURED', 'CONFIRMED', 'SRC_NAT_DONE', 'DST_NAT_DONE']);
  });
});
