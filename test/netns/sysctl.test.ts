import { expect, it } from 'vitest';
import { readSysctl, writeSysctl } from '../../src/netns/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

describeRequiring('sysctl', { root: true, tools: ['ip', 'sysctl'] }, () => {
  it('writes in the one namespace only, and the real sysctl reads it there', () =>
    withNamespaces(['a', 'b'], (a, b) => {
      writeSysctl(a!, 'net.ipv4.ip_forward', '1');
      writeSysctl(b!, 'net.ipv4.ip_forward', 0);
      expect(readSysctl(a!, 'net.ipv4.ip_forward')).toBe('1');
      expect(runIn(a!, 'sysctl', '-n', 'net.ipv4.ip_forward').trim()).toBe('1');
      expect(readSysctl(b!, 'net.ipv4.ip_forward')).toBe('0');
    }));

  it('reaches a device with a dot in its name, in both spellings of sysctl(8)', () =>
    withNamespaces(['a'], (a) => {
      runIn(a, 'ip', 'link', 'add', 'eth0.100', 'type', 'veth', 'peer', 'name', 'other');
      writeSysctl(a, 'net/ipv4/conf/eth0.100/rp_filter', 2);
      expect(readSysctl(a, 'net.ipv4.conf.eth0/100.rp_filter')).toBe('2');
    }));

  it('says what the kernel says: no such parameter, no such value', () =>
    withNamespaces(['a'], (a) => {
      const missing = expect.objectContaining({ code: 'ENOENT', syscall: 'open' });
      expect(() => readSysctl(a, 'net.ipv4.never')).toThrow(missing);
      expect(() => writeSysctl(a, 'net.ipv4.never', 1)).toThrow(missing);
      expect(() => writeSysctl(a, 'net.ipv4.ip_forward', 'yes')).toThrow(
        expect.objectContaining({ code: 'EINVAL', syscall: 'write' }),
      );
    }));

  it.each(['', 'net', 'kernel.hostname', 'net..x', 'net/../kernel/hostname', 'net.ipv4.', '/net/ipv4/ip_forward'])(
    'refuses the name %j',
    (name) =>
      withNamespaces(['a'], (a) => {
        const fault = expect.objectContaining({ code: 'ERR_NETNS_SYSCTL', field: 'name' });
        expect(() => readSysctl(a, name)).toThrow(fault);
        expect(() => writeSysctl(a, name, 1)).toThrow(fault);
      }),
  );

  it.each(['', '1\n2'])('refuses the value %j', (value) =>
    withNamespaces(['a'], (a) => {
      const fault = expect.objectContaining({ code: 'ERR_NETNS_SYSCTL', field: 'value' });
      expect(() => writeSysctl(a, 'net.ipv4.ip_forward', value)).toThrow(fault);
    }),
  );
});
