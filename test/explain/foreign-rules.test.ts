import { expect, it } from 'vitest';
import { formatExplanation, readKernelView } from '../../src/explain/index.ts';
import { listen } from '../../src/socket/index.ts';
import { runIn } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { type Crossing, type Flow, judged, load, withCrossing } from './rules-met.ts';

/** kube-proxy's rules in iptables mode, as it writes them: a service of three endpoints, a node port, masquerading. */
const KUBE_PROXY_IPTABLES = `*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SVC-DNS - [0:0]
:KUBE-EXT-DNS - [0:0]
:KUBE-SEP-1 - [0:0]
:KUBE-SEP-2 - [0:0]
:KUBE-SEP-3 - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-DNS
-A KUBE-SERVICES -d 10.96.0.11/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SEP-3
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p udp -m comment --comment "kube-system/kube-dns:dns" -m udp --dport 30053 -j KUBE-EXT-DNS
-A KUBE-EXT-DNS -m comment --comment "masquerade traffic for kube-dns external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-DNS -j KUBE-SVC-DNS
-A KUBE-SVC-DNS ! -s 10.1.0.0/16 -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-MARK-MASQ
-A KUBE-SVC-DNS -m comment --comment "kube-dns -> 10.2.0.2:5353" -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-1
-A KUBE-SVC-DNS -m comment --comment "kube-dns -> 10.2.0.3:5353" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2
-A KUBE-SVC-DNS -m comment --comment "kube-dns -> 10.2.0.4:5353" -j KUBE-SEP-3
-A KUBE-SEP-1 -s 10.2.0.2/32 -m comment --comment "kube-dns" -j KUBE-MARK-MASQ
-A KUBE-SEP-1 -p udp -m comment --comment "kube-dns" -m udp -j DNAT --to-destination 10.2.0.2:5353
-A KUBE-SEP-2 -s 10.2.0.3/32 -m comment --comment "kube-dns" -j KUBE-MARK-MASQ
-A KUBE-SEP-2 -p udp -m comment --comment "kube-dns" -m udp -j DNAT --to-destination 10.2.0.3:5353
-A KUBE-SEP-3 -s 10.2.0.4/32 -m comment --comment "kube-dns" -j KUBE-MARK-MASQ
-A KUBE-SEP-3 -p udp -m comment --comment "kube-dns" -m udp -j DNAT --to-destination 10.2.0.4:5353
-A KUBE-SEP-3 -p tcp -m comment --comment "web" -m tcp -j DNAT --to-destination 10.2.0.4:8080
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -i c0 -o s+ -p udp -m multiport --dports 5000:5400,9999 -j ACCEPT
-A FORWARD -p tcp -m conntrack --ctstate DNAT -m conntrack --ctorigdst 10.96.0.11/32 --ctorigdstport 80 -j ACCEPT
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`;

const kubeFlows: readonly (readonly [string, Flow])[] = [
  ['pod → ClusterIP of three endpoints', { from: 'client', to: '10.96.0.10', port: 53 }],
  ['pod → ClusterIP, TCP', { from: 'client', to: '10.96.0.11', port: 80, protocol: 'tcp' }],
  ['pod → ClusterIP, a port nobody serves', { from: 'client', to: '10.96.0.10', port: 54 }],
  ['outside → ClusterIP: masqueraded', { from: 'server', to: '10.96.0.10', port: 53 }],
  ['outside → node port', { from: 'client', to: '10.1.0.1', port: 30053 }],
  ['outside → a port of the node', { from: 'client', to: '10.1.0.1', port: 30054 }],
  ['node → ClusterIP', { to: '10.96.0.10', port: 53 }],
  ['pod → another pod, allowed by multiport', { from: 'client', to: '10.2.0.3', port: 5001 }],
  ['pod → another pod, dropped by the policy', { from: 'client', to: '10.2.0.3', port: 80, protocol: 'tcp' }],
];

/** Every target and match that is not among kube-proxy's, in one table after another. */
const MORE_IPTABLES = `*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 1001 -j CT --zone 7
-A PREROUTING -p udp -m udp --dport 1002 -j CT --notrack
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 1003 -j MARK --set-xmark 0x3/0xff
-A PREROUTING -m mark --mark 0x3 -j CONNMARK --save-mark --nfmask 0xf --ctmask 0xf
-A PREROUTING -m connmark --mark 0x3/0xf -j MARK --set-xmark 0x0/0xffffffff
-A PREROUTING -m connmark --mark 0x3/0xf -j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xf
-A PREROUTING -m mark --mark 0x3/0xf -j MARK --set-xmark 0x100/0xf00
-A PREROUTING -p udp -m udp --dport 1004 -j TPROXY --on-port 15001 --on-ip 127.0.0.1 --tproxy-mark 0x400/0xfff
-A PREROUTING -p udp -m udp --dport 1005 -j TPROXY --on-port 15002 --on-ip 0.0.0.0 --tproxy-mark 0x400/0xfff
-A OUTPUT -p udp -m udp --dport 1006 -m owner --uid-owner 0 --gid-owner 0 -j MARK --set-xmark 0x1006/0xffffffff
-A OUTPUT -p udp -m owner --uid-owner 1337 -j DROP
-A OUTPUT -p udp -m owner ! --uid-owner 1337 --socket-exists -j MARK --set-xmark 0x10000/0x10000
-A POSTROUTING -m mark --mark 0x1006/0xffff -j LOG --log-prefix "x"
-A PREROUTING -p udp -m udp --dport 1016 -j CONNMARK --set-xmark 0xf3/0xffffffff
-A PREROUTING -p udp -m udp --dport 1016 -j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xf
-A PREROUTING -p udp -m udp --dport 1016 -m mark --mark 0x3/0xff -j MARK --set-xmark 0x4000000/0x4000000
-A POSTROUTING -m owner ! --uid-owner 1337 -j MARK --set-xmark 0x8000000/0x8000000
-A POSTROUTING -m owner --uid-owner 0 -j MARK --set-xmark 0x10000000/0x10000000
-A POSTROUTING -m owner ! --socket-exists -j MARK --set-xmark 0x20000000/0x20000000
-A PREROUTING -m rpfilter -j MARK --set-xmark 0x100000/0x100000
-A PREROUTING -m rpfilter --loose --validmark --invert -j DROP
-A PREROUTING -m physdev ! --physdev-is-in -j MARK --set-xmark 0x200000/0x200000
-A PREROUTING -m physdev --physdev-in c0 -j DROP
-A PREROUTING -m set --match-set akt-nets dst -j MARK --set-xmark 0x400000/0x400000
-A PREROUTING -m set --match-set akt-services dst,dst -j MARK --set-xmark 0x800000/0x800000
-A PREROUTING -m set --match-set akt-pairs src,dst,dst -j MARK --set-xmark 0x1000000/0x1000000
-A PREROUTING -m set --match-set akt-masked src -j MARK --set-xmark 0x2000000/0x2000000
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 1007 -m set --match-set akt-clients src -j REDIRECT --to-ports 15003
-A PREROUTING -p udp -m udp --dport 1008 -m set ! --match-set akt-clients src -j REDIRECT --to-ports 15003
-A PREROUTING -p udp -m udp --dport 1009 -m iprange --src-range 10.1.0.2-10.1.0.9 -j DNAT --to-destination 10.2.0.3
-A PREROUTING -p udp -m udp --dport 1010 -m addrtype ! --dst-type LOCAL --limit-iface-in -j RETURN
-A PREROUTING -p udp -m multiport --dports 1010,1011 -j DNAT --to-destination 10.2.0.4
-A PREROUTING -p udp -m udp --dport 1015 -j DNAT --to-destination 10.2.0.4:1011-1013
-A OUTPUT -p udp -m udp --dport 1012 -j REDIRECT --to-ports 15004
-A POSTROUTING -p udp -m udp --dport 1013 -j SNAT --to-source 10.2.0.1
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p udp -m conntrack --ctstate UNTRACKED -j ACCEPT
-A FORWARD -p udp -m state --state NEW -m comment --comment "new" -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 1014 --tcp-flags SYN,ACK SYN -j REJECT
-A FORWARD -p tcp -m tcp --sport 1:1000 -j ACCEPT
COMMIT
`;

/** Narrower ranges take out of wider ones; services and pairs as kube-proxy's IPVS mode and Calico have them. */
const IPSETS = [
  ['akt-nets', 'hash:net', ['10.2.0.0/24', '10.2.0.4/31 nomatch']],
  ['akt-services', 'hash:ip,port', ['10.2.0.2,udp:1001', '10.2.0.2,tcp:1014', '10.2.0.3,udp:1002']],
  ['akt-pairs', 'hash:ip,port,net', ['10.1.0.2,udp:1003,10.2.0.0/16', '10.1.0.3,udp:1007,10.2.0.0/16']],
  ['akt-masked', 'hash:ip netmask 24', ['10.1.0.0']],
] as const;

const moreFlows: readonly (readonly [string, Flow])[] = [
  ...[1001, 1002, 1003, 1004, 1005, 1007, 1008, 1009, 1010, 1011, 1013, 1016].map(
    (port) => [`to port ${port}`, { from: 'client', to: '10.2.0.2', port }] as const,
  ),
  ['to the node, port 1010', { from: 'client', to: '10.1.0.1', port: 1010 }],
  ['to what a narrower range takes out', { from: 'client', to: '10.2.0.4', port: 1002 }],
  ['of the node, port 1006', { to: '10.2.0.2', port: 1006 }],
  ['of the node, port 1012', { to: '10.2.0.2', port: 1012 }],
  ['TCP to port 1014', { from: 'client', to: '10.2.0.2', port: 1014, protocol: 'tcp' }],
];

/** kube-proxy in nftables mode, Docker and firewalld: maps, ranges, concatenations, dice and fib. */
const NFT = `table ip kube-proxy {
  map services { type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.10 . udp . 53 : goto service-dns, 10.96.0.11 . tcp . 80 : goto service-web } }
  map endpoints { type inet_service : ipv4_addr . inet_service; elements = { 53 : 10.2.0.2 . 5353, 80 : 10.2.0.3 . 8080 } }
  map noendpoints { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.12 . udp . 53 : goto refuse } }
  map firewall { type ipv4_addr . inet_proto . inet_service : verdict; flags interval
    elements = { 10.96.1.0/24 . udp . 1000-1999 : drop, 10.96.1.0/24 . udp . 2000 : accept } }
  map nodeports { type inet_proto . inet_service : verdict; elements = { udp . 30053 : goto external-dns } }
  set affinity { type ipv4_addr; flags dynamic,timeout; timeout 1h; }
  chain prerouting { type nat hook prerouting priority -100; jump services }
  chain output { type nat hook output priority -100; jump services }
  chain services {
    ip daddr . meta l4proto . th dport vmap @services
    fib daddr type local counter
    fib daddr type local meta l4proto . th dport vmap @nodeports
    ip daddr . meta l4proto . th dport vmap @firewall
    counter
  }
  chain filter-forward { type filter hook forward priority -110; ct state new ip daddr . meta l4proto . th dport vmap @noendpoints }
  chain filter-output { type filter hook output priority -110; ct state new ip daddr . meta l4proto . th dport vmap @noendpoints }
  chain refuse { counter reject }
  chain mark-for-masquerade { counter meta mark set meta mark or 0x4000 }
  chain masquerading { type nat hook postrouting priority 100
    meta mark and 0x4000 == 0 counter return
    counter meta mark set meta mark xor 0x4000
    counter masquerade fully-random }
  chain external-dns { counter jump mark-for-masquerade
    counter goto service-dns }
  chain service-dns {
    ip daddr 10.96.0.10 ip saddr != 10.1.0.0/16 counter jump mark-for-masquerade
    ip saddr @affinity counter goto endpoint-2
    counter numgen random mod 3 vmap { 0 : goto endpoint-2, 1 : goto endpoint-3, 2 : goto endpoint-4 } }
  chain service-web { counter meta l4proto tcp dnat ip addr . port to th dport map @endpoints }
  chain endpoint-2 { counter update @affinity { ip saddr } meta l4proto udp dnat to 10.2.0.2:5353 }
  chain endpoint-3 { counter meta l4proto udp dnat to 10.2.0.3:5353 }
  chain endpoint-4 { ip saddr 10.2.0.4 counter jump mark-for-masquerade
    counter meta l4proto udp dnat to 10.2.0.4:5353 }
}
table inet firewall {
  set trusted { type ipv4_addr; flags interval; elements = { 10.1.0.0/28, 10.9.0.1-10.9.0.7 } }
  chain raw { type filter hook prerouting priority -300
    meta nfproto ipv4 fib saddr . mark . iif oif missing counter drop
    fib daddr . iif type local counter
    udp dport 4900 meta mark set 0x77
    fib saddr . mark oif "c0" counter
    fib saddr . mark oif "s0" counter
    fib daddr type { multicast, broadcast } counter }
  chain pre { type filter hook prerouting priority -140
    udp dport 4000-4999 counter meta mark set 0x40
    udp dport != 4000-4999 counter
    ip saddr @trusted counter
    meta mark 0x10-0x50 counter
    meta mark set meta mark << 4
    meta mark & 0xf00 == 0x400 counter
    ct state vmap { invalid : continue, new : continue }
    iifname vmap { "c0" : jump zone-client, "s0" : jump zone-server, "lo" : accept } }
  chain clamp { type filter hook forward priority -150; tcp flags syn tcp option maxseg size set rt mtu; }
  chain rest { type filter hook prerouting priority -130
    udp dport 53 meta mark set ip saddr map { 10.1.0.2 : 0x1000, 10.1.0.9 : 0x3000, * : 0x2000 }
    meta mark & 0x3000 == 0x1000 counter
    meta mark & 0x3000 == 0x2000 counter }
  chain zone-client { iifname . ip saddr { "c0" . 10.1.0.2 } counter accept
    counter }
  chain zone-server { ip saddr . udp dport { 10.2.0.0/24 . 1-1024 } counter
    counter }
  chain forward { type filter hook forward priority 10; policy drop
    ct state { established, related } counter accept
    ct status dnat counter accept
    meta l4proto udp ct original ip daddr 10.2.0.3 ct original proto-dst 4000 counter
    meta iifname "c0" oifname != "c0" meta l4proto { tcp, udp } th dport 4000-4005 counter accept
    meta random & 0x1 == 0x0 counter
    limit rate 1/hour log prefix "seldom" }
}
`;

const nftFlows: readonly (readonly [string, Flow])[] = [
  ...kubeFlows.slice(0, 7),
  ['a service without endpoints', { from: 'client', to: '10.96.0.12', port: 53 }],
  ['inside a range of two fields', { from: 'client', to: '10.96.1.77', port: 1500 }],
  ['the other element of the range', { from: 'client', to: '10.96.1.77', port: 2000 }],
  ['outside of both', { from: 'client', to: '10.96.1.77', port: 2001 }],
  ['a marked range, accepted', { from: 'client', to: '10.2.0.3', port: 4000 }],
  ['a marked range, dropped', { from: 'client', to: '10.2.0.3', port: 4100 }],
  ['with a mark that leads elsewhere', { from: 'client', to: '10.2.0.3', port: 4900 }],
  ['from the other side', { from: 'server', to: '10.1.0.2', port: 53 }],
  ['from the other side, too high a port', { from: 'server', to: '10.1.0.2', port: 4000 }],
];

function agrees(crossing: Crossing, flow: Flow): ReturnType<typeof judged> {
  const judgement = judged(crossing, flow);
  const { counted, explained, explanation } = judgement;
  expect(explained, formatExplanation(explanation)).toContainEqual(counted);
  expect(counted.length).toBeGreaterThan(0);
  return judgement;
}

describeRequiring(
  'rules of iptables',
  { root: true, tools: ['iptables-restore', 'iptables-legacy-restore', 'ipset', 'bash'] },
  () => {
    it.each(['iptables-restore', 'iptables-legacy-restore'])(
      'kube-proxy’s, loaded by %s: the kernel counts the rules of one of the ways',
      { timeout: 60_000 },
      async (tool) => {
        await withCrossing((crossing) => {
          load(crossing.node, KUBE_PROXY_IPTABLES, tool);
          for (const [, flow] of kubeFlows) agrees(crossing, flow);
          if (tool === 'iptables-legacy-restore') {
            const saved = runIn(crossing.node, 'iptables-legacy-save')
              .split('\n')
              .filter((line) => line.startsWith('-A'));
            const read = readKernelView(crossing.node).rules.filter(({ table }) => table.name.endsWith(' (legacy)'));
            expect(read.map(({ chain }) => chain).sort()).toEqual(saved.map((line) => line.split(' ')[1]).sort());
          }
          const { explanation } = agrees(crossing, kubeFlows[0]![1]);
          const ways = [explanation, ...explanation.otherwise!];
          expect(
            ways.map(({ destination, ending, probability }) => [destination, ending.kind, probability?.toFixed(3)]),
          ).toEqual([
            ['10.2.0.2', 'forwarded', '0.333'],
            ['10.2.0.3', 'forwarded', '0.333'],
            ['10.2.0.4', 'forwarded', '0.333'],
          ]);
          expect(explanation.caveats).toEqual([]);
        });
      },
    );

    // Some are about packets of another user.
    describeRequiring('with owners', { users: true }, () => {
      it.each(['iptables-restore', 'iptables-legacy-restore'])(
        'of every kind, loaded by %s',
        { timeout: 60_000 },
        async (tool) => {
          await withCrossing(async (crossing) => {
            const { node } = crossing;
            runIn(node, 'ipset', 'create', 'akt-clients', 'hash:ip');
            runIn(node, 'ipset', 'add', 'akt-clients', '10.1.0.2');
            for (const [name, type, members] of IPSETS) {
              runIn(node, 'ipset', 'create', name, ...type.split(' '));
              for (const member of members) runIn(node, 'ipset', 'add', name, ...member.split(' '));
            }
            load(node, MORE_IPTABLES, tool);
            if (tool === 'iptables-legacy-restore') {
              const view = readKernelView(node);
              for (const name of ['raw', 'mangle', 'nat', 'filter']) {
                const saved = runIn(node, 'iptables-legacy-save', '-t', name)
                  .split('\n')
                  .filter((line) => line.startsWith('-A'));
                const read = view.rules.filter((rule) => rule.table.name === `${name} (legacy)`);
                expect(read.map(({ chain }) => chain)).toEqual(saved.map((line) => line.split(' ')[1]));
              }
            }
            for (const [, flow] of moreFlows) agrees(crossing, flow);
            const { explanation } = agrees(crossing, { from: 'client', to: '10.2.0.2', port: 1007 });
            expect(formatExplanation(explanation)).toContain(
              '-m set --match-set akt-clients src -j REDIRECT --to-ports 15003',
            );
            using _ = await listening(node);
            const to = agrees(crossing, { from: 'client', to: '10.2.0.2', port: 1014, protocol: 'tcp' });
            expect(to.explanation.ending.kind).toBe('dropped');
          });
        },
      );
    });
  },
);

async function listening(node: Crossing['node']): Promise<Disposable> {
  const server = await listen({ namespace: node, host: '127.0.0.1', port: 15001, transparent: true });
  return { [Symbol.dispose]: () => server.close() };
}

describeRequiring(
  'rules of nft as kube-proxy, Docker and firewalld write them',
  { root: true, tools: ['nft', 'bash'] },
  () => {
    it('the kernel counts the rules of one of the ways', { timeout: 60_000 }, async () => {
      await withCrossing((crossing) => {
        runIn(crossing.node, 'ip', 'rule', 'add', 'fwmark', '0x77', 'lookup', '77');
        runIn(crossing.node, 'ip', 'route', 'add', '10.1.0.0/24', 'dev', 's0', 'table', '77');
        load(crossing.node, NFT);
        for (const [, flow] of nftFlows) agrees(crossing, flow);
      });
    });
  },
);
