import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NetlinkError } from '../../../src/netlink/index.ts';
import { decodeAddress } from '../../../src/netlink/route/address.ts';
import { decodeLinks } from '../../../src/netlink/route/link-decode.ts';
import { decodeNeighbour } from '../../../src/netlink/route/neighbour.ts';
import { decodeRoute } from '../../../src/netlink/route/route.ts';
import { decodeRule } from '../../../src/netlink/route/rule.ts';

/** Mostly well-formed attributes of the types that matter, so that most inputs get past the first header. */
const attribute = fc
  .tuple(fc.nat({ max: 40 }), fc.uint8Array({ maxLength: 24 }), fc.option(fc.nat({ max: 60 }), { freq: 20 }))
  .map(([type, value, length]) => {
    const bytes = Buffer.alloc((4 + value.length + 3) & ~3);
    bytes.writeUInt16LE(length ?? 4 + value.length, 0);
    bytes.writeUInt16LE(type, 2);
    bytes.set(value, 4);
    return bytes;
  });

function payload(headerBytes: number): fc.Arbitrary<Buffer> {
  return fc
    .tuple(
      fc.constantFrom(2, 10, 0),
      fc.uint8Array({ minLength: 0, maxLength: headerBytes - 1 }),
      fc.boolean(),
      fc.array(attribute, { maxLength: 8 }),
    )
    .map(([family, rest, whole, attributes]) => {
      const header = Buffer.alloc(headerBytes);
      header[0] = family;
      header.set(rest, 1);
      return Buffer.concat([whole ? header : header.subarray(0, rest.length), ...attributes]);
    });
}

const NAMES = new Map<number, string>();

describe('decoders', () => {
  it.each<[string, number, (bytes: Buffer) => unknown]>([
    ['decodeAddress', 8, (bytes) => decodeAddress(bytes, NAMES)],
    ['decodeRoute', 12, (bytes) => decodeRoute(bytes, NAMES)],
    ['decodeRule', 12, decodeRule],
    ['decodeNeighbour', 12, (bytes) => decodeNeighbour(bytes, NAMES)],
    ['decodeLinks', 16, (bytes) => decodeLinks([{ type: 16, flags: 0, seq: 1, payload: bytes }])],
  ])('%s takes any bytes, or throws ERR_NETLINK_MALFORMED', (_, headerBytes, decode) => {
    fc.assert(
      fc.property(payload(headerBytes), (bytes) => {
        try {
          decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(NetlinkError);
          expect((error as NetlinkError).code).toBe('ERR_NETLINK_MALFORMED');
        }
      }),
      { numRuns: 500 },
    );
  });
});
