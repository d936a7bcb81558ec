import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatForwarded, parseForwarded } from '../../src/hbone/forwarded.ts';

describe('formatForwarded (facts section 1.2)', () => {
  it.each([
    ['10.1.0.5', undefined, 'for="10.1.0.5:41000"'],
    ['10.1.0.5', 'httpbin.default.svc.cluster.local', 'for="10.1.0.5:41000";host=httpbin.default.svc.cluster.local'],
    ['2001:db8::5', 'h', 'for="[2001:db8::5]:41000";host=h'],
    ['10.1.0.5', '', 'for="10.1.0.5:41000"'],
    ['10.1.0.5', 'a;for=b', 'for="10.1.0.5:41000"'],
    ['10.1.0.5', 'a\r\nb', 'for="10.1.0.5:41000"'],
  ])('%s, %j', (ip, host, expected) => {
    expect(formatForwarded({ ip, port: 41000 }, host)).toBe(expected);
  });
});

describe('parseForwarded (facts section 1.3)', () => {
  it.each([
    ['for="10.1.0.5:41000";host=httpbin', 'httpbin'],
    ['for="10.1.0.5:41000" ;  host=httpbin ', 'httpbin'],
    ['host="httpbin"', 'httpbin'],
    ['host=""httpbin""', '"httpbin"'],
    ['host="', '"'],
    ['host=a;host=b', 'a'],
    ['host=a=b', 'a=b'],
    ['for=10.1.0.5', undefined],
    ['host=', undefined],
    ['host=;host=b', undefined],
    ['host=""', undefined],
    ['Host=a', undefined],
    ['xhost=a', undefined],
    ['', undefined],
    ['host=h\u00e9', undefined],
    ['host=a;for=\u00e9', undefined],
  ])('%j', (value, host) => {
    expect(parseForwarded(value)).toBe(host);
  });

  it('property: a host name that is written is read', () => {
    const source = fc.record({ ip: fc.oneof(fc.ipV4(), fc.ipV6()), port: fc.nat({ max: 65535 }) });
    fc.assert(
      fc.property(source, fc.domain(), (from, host) => {
        expect(parseForwarded(formatForwarded(from, host))).toBe(host);
      }),
    );
  });

  it('property: any host gives one header value; any value gives a host of ASCII or none', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(formatForwarded({ ip: '10.0.0.1', port: 1 }, text)).toMatch(/^[\x20-\x7e]+$/);
        const host = parseForwarded(`host=${text}`);
        expect(host === undefined || Buffer.from(host).length === host.length).toBe(true);
      }),
    );
  });
});
