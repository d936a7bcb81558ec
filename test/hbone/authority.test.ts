import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAuthority } from '../../src/hbone/authority.ts';

describe('parseAuthority (facts section 1.3)', () => {
  it('reads a socket address first', () => {
    expect(parseAuthority('10.2.0.9:80')).toEqual({ kind: 'address', ip: '10.2.0.9', port: 80 });
    expect(parseAuthority('[2001:DB8::1]:65535')).toEqual({ kind: 'address', ip: '2001:db8::1', port: 65535 });
    expect(parseAuthority('[::ffff:10.2.0.9]:80')).toEqual({ kind: 'address', ip: '10.2.0.9', port: 80 });
  });

  it('then a host name with a port', () => {
    const hostname = 'httpbin.default.svc.cluster.local';
    expect(parseAuthority(`${hostname}:80`)).toEqual({ kind: 'hostname', hostname, port: 80 });
    expect(parseAuthority('a:1')).toEqual({ kind: 'hostname', hostname: 'a', port: 1 });
    expect(parseAuthority('*.example_1.com:1')).toMatchObject({ hostname: '*.example_1.com' });
  });

  it.each([
    '10.2.0.9',
    'httpbin',
    'httpbin:',
    'httpbin:0',
    'httpbin:65536',
    'httpbin:080000',
    'httpbin:+80',
    ':80',
    '2001:db8::1:80',
    '[2001:db8::1%eth0]:80',
    '[2001:db8::1]',
    '10.2.0.300:80',
    '010.2.0.9:80',
    'user@httpbin:80',
    'httpbin:80/path',
    ' httpbin:80',
    'httpbin:80\n',
    '-a:80',
    `${'a'.repeat(300)}:80`,
  ])('refuses %j', (text) => {
    expect(parseAuthority(text)).toBeUndefined();
  });

  it('property: what is read as an address reads the same again', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.ipV4(),
          fc.ipV6().map((ip) => `[${ip}]`),
        ),
        fc.integer({ min: 1, max: 65535 }),
        (ip, port) => {
          const read = parseAuthority(`${ip}:${port}`);
          expect(read).toMatchObject({ kind: 'address', port });
          const text = read?.kind === 'address' ? read.ip : '';
          expect(parseAuthority(text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`)).toEqual(read);
        },
      ),
    );
  });

  it('property: hostile text gives undefined or a port and a host free of delimiters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
        const read = parseAuthority(text);
        if (read === undefined) return;
        expect(read.port).toBeGreaterThan(0);
        expect(read.kind === 'address' ? read.ip : read.hostname).not.toMatch(/[\s@/[\]]/);
      }),
    );
  });
});
