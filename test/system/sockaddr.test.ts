import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AF_INET, AF_INET6, decodeSockaddr, encodeSockaddr } from '../../src/system/index.ts';

const port = fc.integer({ min: 0, max: 65_535 });

describe('struct sockaddr_in and sockaddr_in6 (netinet/in.h)', () => {
  it.each([
    // family (host order) port (network order) address, padding
    ['10.0.0.1', 8080, undefined, '0200 1f90 0a000001 0000000000000000'],
    // family port flowinfo address scope
    ['fd00::1', 443, undefined, '0a00 01bb 00000000 fd000000000000000000000000000001 00000000'],
    ['10.0.0.1', 80, AF_INET6, '0a00 0050 00000000 00000000000000000000ffff0a000001 00000000'],
  ] as const)('%s port %i', (ip, port, family, bytes) => {
    expect(encodeSockaddr({ ip, port }, family).toString('hex')).toBe(bytes.replaceAll(' ', ''));
  });

  it('reads back what it wrote, v4-mapped as IPv4', () => {
    fc.assert(
      fc.property(fc.ipV4(), port, fc.constantFrom(undefined, AF_INET, AF_INET6), (ip, port, family) => {
        expect(decodeSockaddr(encodeSockaddr({ ip, port }, family))).toEqual({ ip, port });
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), port, (bytes, port) => {
        const address = Buffer.concat([
          Buffer.from([10, 0, port >> 8, port & 255, 0, 0, 0, 0]),
          bytes,
          Buffer.alloc(4),
        ]);
        const read = decodeSockaddr(address);
        expect(encodeSockaddr(read, AF_INET6)).toEqual(address);
      }),
    );
  });

  it('refuses a port out of range, IPv6 for an IPv4 socket, and families it does not know', () => {
    const malformed = expect.objectContaining({ code: 'ERR_SYSTEM_SOCKADDR' });
    for (const port of [-1, 65_536, 1.5, Number.NaN]) {
      expect(() => encodeSockaddr({ ip: '::1', port })).toThrow(malformed);
    }
    expect(() => encodeSockaddr({ ip: '::1', port: 1 }, AF_INET)).toThrow(malformed);
    expect(() => decodeSockaddr(Buffer.from([1, 0, 0, 0]))).toThrow(malformed);
  });
});
