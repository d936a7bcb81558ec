import { describe, expect, it } from 'vitest';
import { FakeNetlink, openNetlink } from '../../../src/netlink/index.ts';
import {
  Batch,
  listRules,
  match,
  messageDebugText,
  ruleDebugText,
  statement,
} from '../../../src/netlink/nftables/index.ts';
import { runIn, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';

const table = { family: 'ip', name: 't' } as const;

const RULES = `
add table ip t
add set ip t s { type ipv4_addr; }
add chain ip t j
add chain ip t p { type filter hook prerouting priority -150; }
add chain ip t r { type filter hook prerouting priority -300; }
add chain ip t o { type filter hook output priority 0; }
add chain ip t n { type nat hook prerouting priority -101; }
add chain ip t m { type nat hook postrouting priority 99; }
add rule ip t j accept
add rule ip t p iifname "eth0" counter meta mark set meta mark and 0xfffff000 or 0x400 return
add rule ip t p ip saddr != @s jump j
add rule ip t p ip daddr @s goto j
add rule ip t p ct mark and 0x220 == 0x220 ct mark set ct mark or 0x210
add rule ip t p ct state established,related accept
add rule ip t p ct original saddr 1.2.3.4 drop
add rule ip t p ct original ip saddr @s drop
add rule ip t p ct reply ip daddr 1.2.3.4 drop
add rule ip t p tcp dport 15008 tproxy to 127.0.0.1:15008 meta mark set 1 accept
add rule ip t p tcp dport 15009 tproxy to :15009
add rule ip t p fib saddr type local counter
add rule ip t p fib daddr . iif oif exists continue
add rule ip t p socket transparent 1 meta mark set 3
add rule ip t p udp dport != 53 counter
add rule ip t r ct zone set 1
add rule ip t o meta l4proto tcp reject with tcp reset
add rule ip t n tcp dport 80 dnat to 1.2.3.4:80
add rule ip t n dnat to ip daddr
add rule ip t n tcp dport 1 redirect to :15001
add rule ip t n redirect
add rule ip t m snat to ip saddr
add rule ip t m masquerade random
add rule ip t m masquerade
`;

describeRequiring('ruleDebugText', { root: true, tools: ['nft', 'sh'] }, () => {
  it('is what nft --debug=netlink prints, expression by expression', async () => {
    await withNamespaces(['debug'], (namespace) => {
      runIn(namespace, 'sh', '-c', `nft -f - <<'END'\n${RULES}\nEND`);
      const printed = runIn(namespace, 'sh', '-c', 'nft --debug=netlink list ruleset 2>&1')
        .split(/^table /m)[0]!
        .split('\n\n')
        .map((block) => block.replace(/^ip t @s\n/m, '').trim())
        .filter((block) => block !== '')
        // nft gives a rule's position behind its handle; the kernel gives that for a dump only.
        .map((block) => block.replace(/^(ip t \w+ \d+) \d+$/m, '$1'));
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const ours = listRules(netlink, table).map((rule) => ruleDebugText(rule).trim());
      expect(ours).toEqual(printed);
      expect(ours).toHaveLength(24);
    });
  });
});

describe('messageDebugText', () => {
  it('reads the rule out of the message that adds it, and nothing out of others', () => {
    const netlink = new FakeNetlink();
    const expressions = [...match.mark(0x100, 0x100), ...statement.drop()];
    new Batch().addTable(table).addRule({ table, chain: 'p', expressions }).commit(netlink);
    expect(netlink.requests.map(messageDebugText)).toEqual([
      undefined,
      [
        'ip t p',
        '  [ meta load mark => reg 1 ]',
        '  [ bitwise reg 1 = ( reg 1 & 0x00000100 ) ^ 0x00000000 ]',
        '  [ cmp eq reg 1 0x00000100 ]',
        '  [ immediate reg 0 drop ]',
        '',
      ].join('\n'),
    ]);
  });
});
