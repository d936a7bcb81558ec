import { isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  canonicalIp,
  formatIp,
  formatIpv4,
  InvalidIpError,
  ipBytes,
  ipFromBytes,
  parseIp,
  sameIp,
  tryParseIp,
} from '../../src/ip/index.ts';

describe('canonical text (RFC 5952)', () => {
  it.each([
    ['10.1.0.5', '10.1.0.5'],
    ['255.255.255.255', '255.255.255.255'],
    ['0.0.0.0', '0.0.0.0'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    // section 4.1 leading zeros, 4.3 lower case
    ['2001:0DB8::0001', '2001:db8::1'],
    // section 4.2.2 a single zero group is not shortened
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
    // section 4.2.3 the longest run, and the first of two equal ones
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1:2:3:4:5:6:1.2.3.4', '1:2:3:4:5:6:102:304'],
  ])('%s reads %s', (text, canonical) => {
    expect(canonicalIp(text)).toBe(canonical);
  });

  it.each(['::ffff:10.1.0.5', '::FFFF:0a01:5', '0:0:0:0:0:ffff:a01:5', '::ffff:a01:0005'])(
    '%s is the IPv4 address 10.1.0.5',
    (text) => {
      expect(parseIp(text)).toEqual(parseIp('10.1.0.5'));
      expect(canonicalIp(text)).toBe('10.1.0.5');
    },
  );

  it('keeps the neighbours of the mapped prefix in IPv6', () => {
    for (const text of ['::fffe:a01:5', '::1:ffff:a01:5', '::a01:5', '1::ffff:a01:5'])
      expect(parseIp(text).family).toBe(6);
  });
});

describe('formatIpv4', () => {
  it('takes a signed or an unsigned word, and gives the same text however many others came between', () => {
    expect([formatIpv4(0x0a00_0001), formatIpv4(0xc0a8_01fe), formatIpv4(-1), formatIpv4(0)]).toEqual([
      '10.0.0.1',
      '192.168.1.254',
      '255.255.255.255',
      '0.0.0.0',
    ]);
    for (let word = 0; word < 10_000; word++) {
      expect(formatIpv4(word)).toBe(`0.0.${word >>> 8}.${word & 255}`);
    }
    expect(formatIpv4(0x0a00_0001)).toBe('10.0.0.1');
  });
});

describe('what is no address', () => {
  it.each([
    '',
    ' ',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.',
    '.1.2.3',
    '1..2.3',
    '256.1.1.1',
    '1.2.3.1000',
    '01.2.3.4',
    '1.2.3.04',
    '+1.2.3.4',
    '1.2.3.4 ',
    ' 1.2.3.4',
    '1.2.3.4/8',
    '0x1.2.3.4',
    '1.2.3.4:80',
    ':',
    ':::',
    ':1',
    '1:',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '::1::',
    '1::2::3',
    '12345::',
    '::g',
    'fe80::1%eth0',
    '[::1]',
    '::1.2.3',
    '::1.2.3.4.5',
    '::1.2.3.4:5',
    '1:2:3:4:5:6:7:1.2.3.4',
    '::01.2.3.4',
    'localhost',
    '١.2.3.4',
  ])('%j', (text) => {
    expect(tryParseIp(text)).toBeUndefined();
  });

  it('is an error that names the field, quotes the input and cuts it', () => {
    expect(() => parseIp('10.0.0.256', 'workloads[3].workloadIps[0]')).toThrow(
      expect.objectContaining({ code: 'ERR_IP_ADDRESS', field: 'workloads[3].workloadIps[0]' }),
    );
    expect(() => parseIp('\n1.2.3.4')).toThrow('"\\n1.2.3.4" is no IPv4 or IPv6 address');
    expect(() => parseIp('x'.repeat(1e6))).toThrow(InvalidIpError);
    try {
      parseIp('x'.repeat(1e6));
    } catch (error) {
      expect((error as Error).message.length).toBeLessThan(200);
    }
  });

  it('agrees with node:net on any text made of an address’s characters', () => {
    const alphabet = fc.constantFrom(...'0123456789abcdefABCDEF:.:.:.'.split(''));
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: alphabet, maxLength: 24 }), fc.ipV4(), fc.ipV6(), fc.ipV4Extended()),
        (text) => {
          expect(tryParseIp(text) !== undefined).toBe(isIP(text) !== 0);
        },
      ),
      { numRuns: 5000 },
    );
  });
});

describe('bytes', () => {
  it('are in network order', () => {
    expect([...ipBytes(parseIp('10.1.0.5'))]).toEqual([10, 1, 0, 5]);
    expect(Buffer.from(ipBytes(parseIp('fd16:9254:7127:1337:ffff:ffff:ffff:fffe'))).toString('hex')).toBe(
      'fd16925471271337fffffffffffffffe',
    );
  });

  it('of a v4-mapped address give IPv4', () => {
    expect(formatIp(ipFromBytes(Buffer.from('00000000000000000000ffffc0a80001', 'hex')))).toBe('192.168.0.1');
  });

  it.each([0, 3, 5, 15, 17])('of length %i are refused', (length) => {
    expect(() => ipFromBytes(new Uint8Array(length), 'address')).toThrow(
      expect.objectContaining({ code: 'ERR_IP_ADDRESS', field: 'address' }),
    );
  });

  it('round-trip through words and text', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 4, maxLength: 4 }),
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      zeroRuns,
    );
    fc.assert(
      fc.property(bytes, (input) => {
        const ip = ipFromBytes(input);
        expect(sameIp(parseIp(formatIp(ip)), ip)).toBe(true);
        expect(ipFromBytes(ipBytes(ip))).toEqual(ip);
        if (input.length === 4 || ip.family === 6) expect([...ipBytes(ip)]).toEqual([...input]);
        // The canonical text is the one that node writes for the same bytes in a URL (WHATWG serialises as RFC 5952).
        if (ip.family === 6) expect(formatIp(ip)).toBe(new URL(`http://[${formatIp(ip)}]/`).hostname.slice(1, -1));
      }),
      { numRuns: 2000 },
    );
  });
});

const zeroRuns = fc
  .array(fc.constantFrom(0, 0, 0, 1, 0xab, 0xffff), { minLength: 8, maxLength: 8 })
  .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255])));
