import { describe, expect, it } from 'vitest';
import { nodeMode, podMode, renderNftText } from '../../src/redirection/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { feed } from './load-rendering.ts';

const plan = nodeMode({
  hostIp: '172.18.0.2',
  ztunnelIp: '10.244.1.2',
  ztunnelVeth: 'vethza',
  captureDns: true,
  pods: [{ ip: '10.244.1.10', veth: 'vethsleep', comment: 'default/sleep' }],
});

describe('renderNftText', () => {
  it('has the lines of node mode, section 5', () => {
    const text = renderNftText(plan, 'node');
    for (const line of [
      'elements = { 10.244.1.10 comment "default/sleep" }',
      'type route hook output priority -90; policy accept;',
      'type nat hook prerouting priority -101; policy accept;',
      'iifname "istioin" counter meta mark set meta mark or 0x200 comment "prerouting-1"',
      'ct mark and 0x220 == 0x220 counter meta mark set meta mark or 0x200 comment "prerouting-6"',
      'iifname "vethza" ip saddr != 10.244.1.2 counter meta mark set meta mark or 0x210 comment "prerouting-10"',
      'meta mark and 0x210 == 0x210 counter ct mark set ct mark or 0x210 comment "forward-2"',
      'meta mark and 0x100 == 0x100 counter dnat to ip daddr comment "nat-prerouting-1"',
      'ip saddr @ztunnel-pods-ips udp dport 53 counter dnat to 10.244.1.2:15053 comment "nat-prerouting-2"',
      'meta mark and 0x100 == 0x100 counter snat to ip saddr comment "nat-postrouting-1"',
    ]) {
      expect(text).toContain(`${line}\n`);
    }
    expect(renderNftText(plan, 'ztunnel')).toContain(
      'iifname "pistioin" tcp dport 15008 counter tproxy to 127.0.0.1:15008 meta mark set meta mark and 0xfffff000 or 0x400 accept comment "ztunnel-1"\n' +
        '\t\tiifname "pistioin" tcp dport 15008 counter drop comment "ztunnel-1 no-listener"\n',
    );
  });
});

describeRequiring('nft text in the kernel', { root: true, tools: ['nft'] }, () => {
  it('takes the place of an earlier plan of the name, as often as it is loaded', async () => {
    await withNamespaces(['nft'], async (namespace) => {
      const load = (text: string) => {
        feed(namespace!, text, 'nft', '-f');
        return runIn(namespace!, 'nft', 'list', 'ruleset');
      };
      const once = load(renderNftText(podMode(), 'pod'));
      expect(once).toContain('redirect to :15006');
      expect(load(renderNftText(podMode(), 'pod'))).toBe(once);
      expect(load(renderNftText(podMode({ ipv6: false }), 'pod'))).not.toContain('table ip6');
      expect(load(renderNftText(podMode(), 'nobody'))).toBe('');
    });
  });
});
