import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalIp, formatSocketAddress, parseSocketAddress, tryParseSocketAddress } from '../../src/ip/index.ts';

describe('socket addresses', () => {
  it.each([
    ['10.0.0.1:80', { ip: '10.0.0.1', port: 80 }],
    ['10.0.0.1:0', { ip: '10.0.0.1', port: 0 }],
    ['[FD00::1]:65535', { ip: 'fd00::1', port: 65535 }],
    ['[::ffff:10.0.0.1]:8080', { ip: '10.0.0.1', port: 8080 }],
  ])('%s', (text, address) => {
    expect(parseSocketAddress(text)).toEqual(address);
  });

  it.each([
    '',
    ':80',
    '10.0.0.1',
    '10.0.0.1:',
    '10.0.0.1:65536',
    '10.0.0.1:-1',
    '10.0.0.1:8o',
    '10.0.0.1:000080',
    'fd00::1:80',
    '[fd00::1]',
    '[fd00::1]80',
    '[fd00::1:80',
    '[10.0.0.1]:80',
    '[]:80',
    'example.com:80',
    '10.0.0.1 :80',
  ])('%j is refused', (text) => {
    expect(tryParseSocketAddress(text)).toBeUndefined();
    expect(() => parseSocketAddress(text, 'authority')).toThrow(
      expect.objectContaining({ code: 'ERR_IP_SOCKET_ADDRESS', field: 'authority' }),
    );
  });

  it('round-trip', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.integer({ min: 0, max: 65535 }), (text, port) => {
        const ip = canonicalIp(text);
        expect(parseSocketAddress(formatSocketAddress(ip, port))).toEqual({ ip, port });
      }),
    );
  });
});
