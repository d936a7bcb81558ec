import { describe, expect, it } from 'vitest';
import {
  type ChainPlan,
  hostProbes,
  nodeMode,
  podMode,
  type RedirectionPlan,
  renderIptables,
} from '../../src/redirection/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { editRules } from './edit-plan.ts';
import { loadText, renderingTools, unloadIptables } from './load-rendering.ts';

const options = {
  hostIp: '172.18.0.2',
  ztunnelIp: '10.244.1.2',
  ztunnelVeth: 'vethza',
  pods: [{ ip: '10.244.1.10', veth: 'vethsleep', comment: 'default/sleep' }],
};

describe('renderIptables', () => {
  it('of nodeMode() is the articles’ lines, and two for trap 3 (node mode, section 2)', () => {
    const { iptables, ip6tables, ipset } = renderIptables(nodeMode({ ...options, captureDns: true }), 'node');
    expect(iptables.split('\n')).toEqual([
      '*mangle',
      ':ztunnel-PREROUTING - [0:0]',
      ':ztunnel-FORWARD - [0:0]',
      ':ztunnel-INPUT - [0:0]',
      ':ztunnel-OUTPUT - [0:0]',
      ':ztunnel-POSTROUTING - [0:0]',
      '-I PREROUTING -j ztunnel-PREROUTING',
      '-I FORWARD -j ztunnel-FORWARD',
      '-I INPUT -j ztunnel-INPUT',
      '-I OUTPUT -j ztunnel-OUTPUT',
      '-I POSTROUTING -j ztunnel-POSTROUTING',
      '-A ztunnel-PREROUTING -i istioin -j MARK --set-xmark 0x200/0x200',
      '-A ztunnel-PREROUTING -i istioin -j RETURN',
      '-A ztunnel-PREROUTING -i istioout -j MARK --set-xmark 0x200/0x200',
      '-A ztunnel-PREROUTING -i istioout -j RETURN',
      '-A ztunnel-PREROUTING -p udp -m udp --dport 6081 -j RETURN',
      '-A ztunnel-PREROUTING -m connmark --mark 0x220/0x220 -j MARK --set-xmark 0x200/0x200',
      '-A ztunnel-PREROUTING -m mark --mark 0x200/0x200 -j RETURN',
      '-A ztunnel-PREROUTING ! -i vethza -m connmark --mark 0x210/0x210 -j MARK --set-xmark 0x40/0x40',
      '-A ztunnel-PREROUTING -m mark --mark 0x40/0x40 -j RETURN',
      '-A ztunnel-PREROUTING -i vethza ! -s 10.244.1.2/32 -j MARK --set-xmark 0x210/0x210',
      '-A ztunnel-PREROUTING -m mark --mark 0x200/0x200 -j RETURN',
      '-A ztunnel-PREROUTING -i vethza -j MARK --set-xmark 0x220/0x220',
      '-A ztunnel-PREROUTING -p udp -j MARK --set-xmark 0x220/0x220',
      '-A ztunnel-PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j MARK --set-xmark 0x200/0x200',
      '-A ztunnel-PREROUTING -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m mark --mark 0x200/0x220 -j MARK --set-xmark 0x0/0x200',
      '-A ztunnel-PREROUTING -m mark --mark 0x200/0x200 -j RETURN',
      '-A ztunnel-PREROUTING -p tcp -m set --match-set ztunnel-pods-ips src -j MARK --set-xmark 0x100/0x100',
      '-A ztunnel-FORWARD -m mark --mark 0x220/0x220 -j CONNMARK --save-mark --nfmask 0x220 --ctmask 0x220',
      '-A ztunnel-FORWARD -m mark --mark 0x210/0x210 -j CONNMARK --save-mark --nfmask 0x210 --ctmask 0x210',
      '-A ztunnel-INPUT -m mark --mark 0x220/0x220 -j CONNMARK --save-mark --nfmask 0x220 --ctmask 0x220',
      '-A ztunnel-INPUT -m mark --mark 0x210/0x210 -j CONNMARK --save-mark --nfmask 0x210 --ctmask 0x210',
      '-A ztunnel-OUTPUT -m addrtype --src-type LOCAL -j MARK --set-xmark 0x220/0x220',
      'COMMIT',
      '*nat',
      ':ztunnel-PREROUTING - [0:0]',
      ':ztunnel-POSTROUTING - [0:0]',
      '-I PREROUTING -j ztunnel-PREROUTING',
      '-I POSTROUTING -j ztunnel-POSTROUTING',
      '-A ztunnel-PREROUTING -m mark --mark 0x100/0x100 -j ACCEPT',
      '-A ztunnel-PREROUTING -p udp -m set --match-set ztunnel-pods-ips src -m udp --dport 53 -j DNAT --to-destination 10.244.1.2:15053',
      '-A ztunnel-POSTROUTING -m mark --mark 0x100/0x100 -j ACCEPT',
      'COMMIT',
      '*filter',
      ':ztunnel-FORWARD - [0:0]',
      '-I FORWARD -j ztunnel-FORWARD',
      '-A ztunnel-FORWARD -m mark --mark 0x100/0x100 -j ACCEPT',
      'COMMIT',
      '',
    ]);
    expect(ip6tables).toBe('');
    expect(ipset).toBe(
      'create ztunnel-pods-ips hash:ip family inet comment\nadd ztunnel-pods-ips 10.244.1.10 comment "default/sleep"\n',
    );
  });

  it('of the proxy’s namespace adds to the built-in chain (node mode, section 3)', () => {
    expect(renderIptables(nodeMode(options), 'ztunnel').iptables.split('\n')).toEqual([
      '*mangle',
      '-A PREROUTING -i pistioin -p tcp -m tcp --dport 15008 -j TPROXY --on-port 15008 --on-ip 127.0.0.1 --tproxy-mark 0x400/0xfff',
      '-A PREROUTING -i pistioout -p tcp -j TPROXY --on-port 15001 --on-ip 127.0.0.1 --tproxy-mark 0x400/0xfff',
      '-A PREROUTING -i pistioin -p tcp -j TPROXY --on-port 15006 --on-ip 127.0.0.1 --tproxy-mark 0x400/0xfff',
      '-A PREROUTING -i eth0 -p tcp ! -d 10.244.1.2/32 -j MARK --set-xmark 0x4d3/0xfff',
      'COMMIT',
      '',
    ]);
  });

  it('of nodeMode() with IPv6 has every rule twice', () => {
    const plan = nodeMode({ ...options, hostIp6: 'fd00::2', ztunnelIp6: 'fd00:1::2', captureDns: true });
    const { iptables, ip6tables } = renderIptables(plan, 'node');
    expect(ip6tables.split('\n')).toHaveLength(iptables.split('\n').length);
    expect(ip6tables).toContain('--match-set ztunnel-pods-ips-v6 src');
    expect(ip6tables).toContain('! -s fd00:1::2/128');
    expect(ip6tables).toContain('--to-destination [fd00:1::2]:15053');
  });

  it('appends the jumps of pods, and puts the probes’ first (facts sections 7.2 and 7.4)', () => {
    const pod = renderIptables(podMode(), 'pod');
    expect(pod.iptables.match(/^-[AI] (PREROUTING|OUTPUT) .*$/gm)?.every((line) => line.startsWith('-A '))).toBe(true);
    expect(pod.ip6tables).toContain(
      '-A ISTIO_PRERT ! -d ::1/128 -p tcp -m tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006',
    );
    const host = renderIptables(hostProbes({ pods: [{ ip: 'fd00::1', comment: 'uid' }] }), 'host');
    expect(host.iptables).toBe(
      [
        '*nat',
        ':ISTIO_POSTRT - [0:0]',
        '-I POSTROUTING -j ISTIO_POSTRT',
        '-A ISTIO_POSTRT -p tcp -m owner --socket-exists -m set --match-set istio-inpod-probes-v4 dst -j SNAT --to-source 169.254.7.127',
        'COMMIT',
        '',
      ].join('\n'),
    );
    expect(host.ipset).toContain('add istio-inpod-probes-v6 fd00::1 comment "uid"');
  });

  it('maps addresses to themselves where kube-proxy is of the other backend', () => {
    const { iptables } = renderIptables(nodeMode(options), 'node', { noNat: 'netmap' });
    expect(iptables).toContain('-A ztunnel-PREROUTING -m mark --mark 0x100/0x100 -j NETMAP --to 0.0.0.0/0');
  });

  it('is empty for a role that the plan does not have', () => {
    const remove = { iptables: '', ip6tables: '', ipset: '' };
    expect(renderIptables(podMode(), 'nobody')).toEqual({ iptables: '', ip6tables: '', ipset: '', remove });
  });

  it('refuses a tproxy that goes on, rules and places that it does not have, and names too long, by name', () => {
    const plan = nodeMode(options);
    const goesOn = editRules(plan, 'ztunnel-1', (rule) => {
      const { action } = rule;
      return [{ ...rule, action: action.do === 'tproxy' ? { ...action, otherwise: 'next-rule' } : action }];
    });
    expect(() => renderIptables(goesOn, 'ztunnel')).toThrow(expect.objectContaining({ field: 'ztunnel-1' }));
    const asForNft = (hook: string): RedirectionPlan => {
      const inNftOnly = ({ iptablesRules: _, ...chain }: ChainPlan): ChainPlan => chain;
      const chainOf = (chain: ChainPlan) => (chain.hook === hook ? inNftOnly(chain) : chain);
      return { ...plan, sides: plan.sides.map((side) => ({ ...side, chains: side.chains.map(chainOf) })) };
    };
    for (const [hook, field] of [
      ['output', 'mangle ztunnel-OUTPUT'],
      ['prerouting', 'prerouting-open-1'],
    ] as const) {
      expect(() => renderIptables(asForNft(hook), 'node')).toThrow(expect.objectContaining({ field }));
    }
    const long = nodeMode({ ...options, name: 'a-name-of-twenty-bytes' });
    expect(() => renderIptables(long, 'node')).toThrow(expect.objectContaining({ field: 'chain' }));
  });
});

describeRequiring('the text for taking away', { root: true, tools: ['iptables-nft-save', ...renderingTools] }, () => {
  it.each(['nft', 'legacy'] as const)('leaves nothing, by %s, and other people’s rules alone', async (backend) => {
    await withNamespaces(['tables'], async (namespace) => {
      const node = namespace!;
      const state = () =>
        ['iptables', 'ip6tables'].map((tool) =>
          runIn(node, `${tool}-${backend}-save`)
            .split('\n')
            .filter((line) => line !== '' && !line.startsWith('#'))
            .map((line) => line.replace(/\[\d+:\d+\]/, '')),
        ) as [string[], string[]];
      const plan = nodeMode({ ...options, hostIp6: 'fd00::2', ztunnelIp6: 'fd00:1::2', captureDns: true });
      for (const tool of ['iptables', 'ip6tables']) {
        for (const table of ['mangle', 'nat', 'filter']) {
          runIn(node, `${tool}-${backend}`, '-t', table, '-A', 'OUTPUT', '-m', 'mark', '--mark', '0x7', '-j', 'ACCEPT');
        }
      }
      const before = state();
      for (const role of ['node', 'ztunnel']) {
        loadText(`iptables-${backend}`, plan, role, node);
        expect(state()).not.toEqual(before);
        unloadIptables(backend, plan, role, node);
        expect(state()).toEqual(before);
      }
      expect(runIn(node, 'ipset', 'list', '-n').trim()).toBe('');
    });
  });
});
