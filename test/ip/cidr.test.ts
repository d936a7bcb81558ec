import { BlockList } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cidrContains, formatIp, ipFromBytes, parseCidr, parseIp, tryParseCidr } from '../../src/ip/index.ts';

describe('parseCidr', () => {
  it.each([
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['10.1.2.3/32', '10.1.2.3/32'],
    ['255.255.255.255/0', '0.0.0.0/0'],
    ['fd00::1/64', 'fd00::/64'],
    ['2001:DB8:ffff::/33', '2001:db8:8000::/33'],
    ['::/0', '::/0'],
    ['::1/128', '::1/128'],
    ['::ffff:10.1.2.3/104', '10.0.0.0/8'],
    ['::ffff:10.1.2.3/128', '10.1.2.3/32'],
  ])('%s is %s: host bits are cleared', (text, canonical) => {
    expect(parseCidr(text).text).toBe(canonical);
  });

  it.each([
    '10.0.0.0',
    '10.0.0.0/',
    '/8',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/08',
    '10.0.0.0/8 ',
    '10.0.0.0/8/8',
    '10.0.0.0/255.0.0.0',
    '10.0.0/8',
    'fd00::/129',
    'fd00::%1/64',
    '::ffff:10.0.0.0/80',
    '',
    '10.0.0.0/1e1',
  ])('%j is refused', (text) => {
    expect(tryParseCidr(text)).toBeUndefined();
    expect(() => parseCidr(text, 'sourceIps[1]')).toThrow(
      expect.objectContaining({ code: 'ERR_IP_CIDR', field: 'sourceIps[1]' }),
    );
  });

  it('says how a bare address is written', () => {
    expect(() => parseCidr('10.0.0.1')).toThrow('a single address is 10.0.0.1/32');
    expect(() => parseCidr('FD00::1')).toThrow('a single address is fd00::1/128');
  });
});

describe('cidrContains', () => {
  it('keeps the families apart', () => {
    expect(cidrContains(parseCidr('::/0'), parseIp('10.0.0.1'))).toBe(false);
    expect(cidrContains(parseCidr('0.0.0.0/0'), parseIp('fd00::1'))).toBe(false);
    expect(cidrContains(parseCidr('0.0.0.0/0'), parseIp('::ffff:1.2.3.4'))).toBe(true);
  });

  it('compares the top bit, where words are negative', () => {
    expect(cidrContains(parseCidr('192.168.0.0/16'), parseIp('192.168.255.255'))).toBe(true);
    expect(cidrContains(parseCidr('192.168.0.0/16'), parseIp('64.168.0.0'))).toBe(false);
  });

  it('agrees with node:net BlockList, at the edge of every prefix', () => {
    const sized = (length: number) =>
      fc.record({
        bytes: fc.uint8Array({ minLength: length, maxLength: length }),
        prefixLength: fc.integer({ min: 0, max: length * 8 }),
        flip: fc.integer({ min: 0, max: length * 8 - 1 }),
      });
    fc.assert(
      fc.property(fc.oneof(sized(4), sized(16)), ({ bytes, prefixLength, flip }) => {
        const base = ipFromBytes(bytes);
        fc.pre((base.family === 4) === (bytes.length === 4));
        const flipped = Uint8Array.from(bytes);
        flipped[flip >> 3] = flipped[flip >> 3]! ^ (0x80 >> (flip & 7));
        const ip = ipFromBytes(flipped);
        const cidr = parseCidr(`${formatIp(base)}/${prefixLength}`);
        const reference = new BlockList();
        reference.addSubnet(formatIp(base), prefixLength, base.family === 4 ? 'ipv4' : 'ipv6');
        expect(cidrContains(cidr, base)).toBe(true);
        expect(cidrContains(cidr, ip)).toBe(flip >= prefixLength);
        expect(cidrContains(cidr, ip)).toBe(reference.check(formatIp(ip), ip.family === 4 ? 'ipv4' : 'ipv6'));
        expect(parseCidr(cidr.text)).toEqual(cidr);
      }),
      { numRuns: 2000 },
    );
  });
});
