import { expect, it } from 'vitest';
import { listConntrack } from '../../src/netlink/conntrack/index.ts';
import { openNetlink } from '../../src/netlink/index.ts';
import { listElements, listRules } from '../../src/netlink/nftables/index.ts';
import { addLink, addRule, listRoutes } from '../../src/netlink/route/index.ts';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { readSysctl, writeSysctl } from '../../src/netns/index.ts';
import {
  apply,
  countsBetween,
  hostProbes,
  nodeMode,
  PODS_SET,
  podMode,
  type RedirectionError,
  type RedirectionPlan,
  readBack,
  remove,
  verify,
} from '../../src/redirection/index.ts';
import { runIn, vethPair, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { editRules } from './edit-plan.ts';
import { CLIENT2, FAR, HTTPBIN, OUTSIDE, PLAIN, SLEEP, type Topology, VIP, withTopology } from './topology.ts';

const root = { root: true };
const rootAndTools = { root: true, tools: ['nft', 'ip'] };

/** Two namespaces with the proxy's cable between them: as much as a plan needs to be put in force. */
async function withNode(
  body: (node: NetworkNamespace, ztunnel: NetworkNamespace) => void | Promise<void>,
): Promise<void> {
  await withNamespaces(['node', 'ztunnel'], async (node, ztunnel) => {
    vethPair(
      { namespace: node, device: 'vethza', addresses: ['10.244.1.1/32', '172.18.0.2/32'] },
      { namespace: ztunnel, device: 'eth0', addresses: ['10.244.1.2/32'] },
    );
    runIn(node, 'ip', 'link', 'add', 'vethpod', 'type', 'bridge');
    runIn(node, 'ip', 'link', 'set', 'vethpod', 'up');
    await body(node, ztunnel);
  });
}

const options = { hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' } as const;
const pods = [
  { ip: '10.244.1.10', veth: 'vethpod', comment: 'default/sleep' },
  { ip: '10.244.1.11', veth: 'vethpod' },
];

/** Everything that a redirection could have changed, as the real tools show it. Counters and handles left out. */
function state(node: NetworkNamespace, ztunnel: NetworkNamespace): unknown {
  return [node, ztunnel].map((namespace) => ({
    links: (JSON.parse(runIn(namespace, 'ip', '-j', 'link')) as { ifname: string; flags: string[] }[]).map(
      ({ ifname, flags }) => [ifname, flags.includes('UP')],
    ),
    addresses: (JSON.parse(runIn(namespace, 'ip', '-j', '-4', 'address')) as { addr_info: unknown }[]).map(
      ({ addr_info }) => addr_info,
    ),
    rules: JSON.parse(runIn(namespace, 'ip', '-j', 'rule')) as unknown,
    routes: runIn(namespace, 'ip', '-4', 'route', 'show', 'table', 'all').split('\n').sort(),
    nftables: runIn(namespace, 'nft', 'list', 'ruleset').replaceAll(/packets \d+ bytes \d+/g, ''),
    sysctls: ['net.ipv4.conf.all.rp_filter', 'net.ipv4.ip_local_port_range', 'net.ipv4.conf.default.rp_filter'].map(
      (name) => readSysctl(namespace, name),
    ),
  }));
}

/** Both nodes with their proxies. */
async function mesh(t: Topology) {
  const a = apply(t.plan(t.a), t.namespaces(t.a));
  const b = apply(t.plan(t.b), t.namespaces(t.b));
  return { a, b, proxyA: await t.proxy(t.a), proxyB: await t.proxy(t.b) };
}

describeRequiring('what happens (node-mode-verified section 4)', root, () => {
  it.each<[string, (t: Topology) => [NetworkNamespace, string, number], (t: Topology) => string, string[]]>([
    ['sleep to the VIP', (t) => [t.sleep, VIP, 80], () => SLEEP, ['a 15001', 'b 15008']],
    ['sleep to httpbin', (t) => [t.sleep, HTTPBIN, 80], () => SLEEP, ['a 15001', 'b 15008']],
    ['sleep to client2, same node', (t) => [t.sleep, CLIENT2, 80], () => SLEEP, ['a 15001']],
    ['outside to httpbin', (t) => [t.outside, HTTPBIN, 80], () => OUTSIDE, ['b 15006']],
    ['sleep to far away', (t) => [t.sleep, FAR, 8080], (t) => t.a.hostIp, ['a 15001']],
    ['plain to the VIP', (t) => [t.plain, VIP, 80], () => PLAIN, ['b 15006']],
    ['plain to client2, same node', (t) => [t.plain, CLIENT2, 80], () => PLAIN, ['a 15006']],
    ['a probe of node b', (t) => [t.b.namespace, HTTPBIN, 80], (t) => t.b.hostIp, []],
    ['node b to a VIP of its own', (t) => [t.b.namespace, VIP, 80], (t) => t.b.hostIp, []],
    ['node a to a VIP of node b', (t) => [t.a.namespace, VIP, 80], (t) => t.a.hostIp, ['b 15006']],
    ['the proxy itself to far away', (t) => [t.a.ztunnel, FAR, 8080], (t) => t.a.hostIp, []],
  ])('%s', async (_what, question, seen, by) => {
    await withTopology(async (t) => {
      const { proxyA, proxyB } = await mesh(t);
      expect(await t.ask(...question(t))).toBe(seen(t));
      const visited = [
        ...proxyA.accepted.map(({ port }) => `a ${port}`),
        ...proxyB.accepted.map(({ port }) => `b ${port}`),
      ];
      expect(visited).toEqual(by);
    });
  });

  it('putting a plan in force again, under way, disturbs neither open connections nor new ones', async () => {
    await withTopology(async (t) => {
      const { a, b } = await mesh(t);
      const open = await t.dial(t.sleep, VIP, 80);
      expect(await open.ask()).toBe(SLEEP);
      a.close();
      b.close();
      apply(t.plan(t.a), t.namespaces(t.a)).close();
      apply(t.plan(t.b), t.namespaces(t.b)).close();
      expect(await open.ask()).toBe(SLEEP);
      expect(await t.ask(t.sleep, VIP, 80)).toBe(SLEEP);
    });
  });

  it('first packets walk all rules; later ones of the connection only the short way', async () => {
    await withTopology(async (t) => {
      const { a, proxyA } = await mesh(t);
      const before = a.readBack();
      const open = await t.dial(t.sleep, FAR, 8080);
      expect(await open.ask()).toBe(t.a.hostIp);
      expect(proxyA.accepted).toHaveLength(1);
      const first = new Map(countsBetween(before, a.readBack()).map(({ id, packets }) => [id, packets]));
      for (const id of ['ztunnel-2', 'prerouting-15', 'nat-prerouting-1', 'nat-postrouting-1', 'filter-forward-1']) {
        expect([id, first.get(id)]).toEqual([id, 1]);
      }
      const between = a.readBack();
      expect(await open.ask()).toBe(t.a.hostIp);
      const second = countsBetween(between, a.readBack()).map(({ id }) => id);
      const short = ['ztunnel-4', 'prerouting-8', 'prerouting-9', 'prerouting-10', 'prerouting-11', 'forward-2'];
      expect(second).toEqual(short);
      using netlink = openNetlink({ family: 'netfilter', namespace: t.a.namespace });
      const marks = listConntrack(netlink, { family: 4, original: { source: SLEEP, destination: FAR } });
      expect(marks.map(({ mark }) => mark)).toEqual([0x210, 0x210]);
    });
  });
});

describeRequiring('apply', rootAndTools, () => {
  it('gives ip what the facts say: rules 100 to 103, tables 100 to 102, 20000 and 20003 (section 7.6)', async () => {
    await withNode((node, ztunnel) => {
      apply(nodeMode({ ...options, pods }), { node, ztunnel }).close();
      expect(runIn(node, 'ip', 'rule').replaceAll('\t', ' ').split('\n').slice(1, 5)).toEqual([
        '100: from all fwmark 0x200/0x200 goto 32766',
        '101: from all fwmark 0x100/0x100 lookup 101',
        '102: from all fwmark 0x40/0x40 lookup 102',
        '103: from all lookup 100',
      ]);
      const table = (namespace: NetworkNamespace, number: string) =>
        runIn(namespace, 'ip', 'route', 'show', 'table', number)
          .split('\n')
          .map((line) => line.trim())
          .filter((line) => line !== '')
          .sort();
      expect(table(node, '100')).toEqual([
        '10.244.1.10 via 192.168.126.2 dev istioin src 172.18.0.2',
        '10.244.1.11 via 192.168.126.2 dev istioin src 172.18.0.2',
        '10.244.1.2 dev vethza scope link',
      ]);
      expect(table(node, '101')).toEqual([
        '10.244.1.2 dev vethza scope link',
        'default via 192.168.127.2 dev istioout',
      ]);
      expect(table(node, '102')).toEqual([
        '10.244.1.2 dev vethza scope link',
        'default via 10.244.1.2 dev vethza onlink',
      ]);
      expect(runIn(ztunnel, 'ip', 'rule').replaceAll('\t', ' ').split('\n').slice(1, 3)).toEqual([
        '20000: from all fwmark 0x400/0xfff lookup 100',
        '20003: from all fwmark 0x4d3/0xfff lookup 100',
      ]);
      expect(table(ztunnel, '100')).toEqual(['local default dev lo scope host']);
    });
  });

  it('gives nft the articles’ names, marks and set', async () => {
    await withNode((node, ztunnel) => {
      apply(nodeMode({ ...options, pods, captureDns: true }), { node, ztunnel }).close();
      interface Listed {
        readonly table?: string;
        readonly name?: string;
        readonly chain?: string;
        readonly hook?: string;
        readonly prio?: number;
        readonly comment?: string;
        readonly elem?: readonly unknown[];
      }
      const { nftables } = JSON.parse(runIn(node, 'nft', '-j', 'list', 'ruleset')) as {
        nftables: Record<'chain' | 'set' | 'rule', Listed | undefined>[];
      };
      const chains = nftables.flatMap(({ chain }) =>
        chain ? [[chain.table, chain.name, chain.hook, chain.prio]] : [],
      );
      expect(chains).toEqual([
        ['ztunnel-mangle', 'ztunnel-PREROUTING', 'prerouting', -150],
        ['ztunnel-mangle', 'ztunnel-FORWARD', 'forward', -150],
        ['ztunnel-mangle', 'ztunnel-INPUT', 'input', -150],
        ['ztunnel-mangle', 'ztunnel-OUTPUT', 'output', -90],
        ['ztunnel-mangle', 'ztunnel-POSTROUTING', 'postrouting', -150],
        ['ztunnel-nat', 'ztunnel-PREROUTING', 'prerouting', -101],
        ['ztunnel-nat', 'ztunnel-POSTROUTING', 'postrouting', 99],
        ['ztunnel-filter', 'ztunnel-FORWARD', 'forward', -1],
      ]);
      const sets = nftables.flatMap(({ set }) => (set ? [[set.table, set.name, set.elem]] : []));
      const members = ['10.244.1.11', { elem: { val: '10.244.1.10', comment: 'default/sleep' } }];
      expect(sets).toEqual([
        ['ztunnel-mangle', PODS_SET, expect.arrayContaining(members)],
        ['ztunnel-nat', PODS_SET, expect.arrayContaining(members)],
      ]);
      const comments = nftables.flatMap(({ rule }) =>
        rule?.chain === 'ztunnel-PREROUTING' && rule.table === 'ztunnel-mangle' ? [rule.comment] : [],
      );
      const numbered = Array.from({ length: 15 }, (_, i) => `prerouting-${i + 1}`);
      const open = [1, 2, 3].map((i) => `prerouting-open-${i}`);
      expect(comments).toEqual([...numbered.slice(0, 13), ...open, ...numbered.slice(13)]);
      const text = runIn(node, 'nft', 'list', 'ruleset');
      for (const line of [
        'iifname "istioin" counter packets 0 bytes 0 meta mark set meta mark | 0x00000200 comment "prerouting-1"',
        'udp dport 6081 counter packets 0 bytes 0 return comment "prerouting-5"',
        'ct mark & 0x00000220 == 0x00000220 counter packets 0 bytes 0 meta mark set meta mark | 0x00000200 comment "prerouting-6"',
        'iifname != "vethza" ct mark & 0x00000210 == 0x00000210 counter packets 0 bytes 0 meta mark set meta mark | 0x00000040 comment "prerouting-8"',
        'iifname "vethza" ip saddr != 10.244.1.2 counter packets 0 bytes 0 meta mark set meta mark | 0x00000210 comment "prerouting-10"',
        'ct state established,related ct original ip saddr @ztunnel-pods-ips counter packets 0 bytes 0 meta mark set meta mark | 0x00000200 comment "prerouting-open-1"',
        'ct state established,related ct reply ip saddr @ztunnel-pods-ips counter packets 0 bytes 0 meta mark set meta mark | 0x00000200 comment "prerouting-open-2"',
        'tcp flags syn / fin,syn,rst,ack meta mark & 0x00000220 == 0x00000200 counter packets 0 bytes 0 meta mark set meta mark & 0xfffffdff comment "prerouting-open-3"',
        'meta l4proto tcp ip saddr @ztunnel-pods-ips counter packets 0 bytes 0 meta mark set meta mark | 0x00000100 comment "prerouting-15"',
        'meta mark & 0x00000210 == 0x00000210 counter packets 0 bytes 0 ct mark set ct mark | 0x00000210 comment "forward-2"',
        'meta l4proto tcp ip daddr @ztunnel-pods-ips counter packets 0 bytes 0 meta mark set meta mark | 0x00000220 comment "output-1"',
        'meta mark & 0x00000100 == 0x00000100 counter packets 0 bytes 0 dnat to ip daddr comment "nat-prerouting-1"',
        'ip saddr @ztunnel-pods-ips udp dport 53 counter packets 0 bytes 0 dnat to 10.244.1.2:15053 comment "nat-prerouting-2"',
        'meta mark & 0x00000100 == 0x00000100 counter packets 0 bytes 0 snat to ip saddr comment "nat-postrouting-1"',
        'meta mark & 0x00000100 == 0x00000100 counter packets 0 bytes 0 accept comment "filter-forward-1"',
      ]) {
        expect(text).toContain(line);
      }
      const inside = runIn(ztunnel, 'nft', 'list', 'ruleset');
      for (const line of [
        // nft 1.0.6 adds the value to the mask when it prints: 0xfffff000 was written.
        'iifname "pistioin" tcp dport 15008 counter packets 0 bytes 0 tproxy to 127.0.0.1:15008 meta mark set meta mark & 0xfffff400 | 0x00000400 accept comment "ztunnel-1"',
        'iifname "pistioin" tcp dport 15008 counter packets 0 bytes 0 drop comment "ztunnel-1 no-listener"',
        'iifname "eth0" meta l4proto tcp ip daddr != 10.244.1.2 counter packets 0 bytes 0 meta mark set meta mark & 0xfffff4d3 | 0x000004d3 comment "ztunnel-4"',
      ]) {
        expect(inside).toContain(line);
      }
    });
  });

  it('is idempotent: again changes nothing', async () => {
    await withNode((node, ztunnel) => {
      const plan = nodeMode({ ...options, pods });
      apply(plan, { node, ztunnel }).close();
      const once = state(node, ztunnel);
      apply(plan, { node, ztunnel }).close();
      expect(state(node, ztunnel)).toEqual(once);
    });
  });

  it.each([
    ['podMode()', podMode()],
    ['podMode() by TPROXY', podMode({ inbound: 'tproxy' })],
    ['hostProbes()', hostProbes({ pods: [{ ip: '10.0.0.1', comment: 'uid' }, { ip: 'fd00::1' }] })],
  ])('is idempotent for %s too', async (_what, plan) => {
    await withNamespaces(['pod', 'other'], (pod, other) => {
      const namespaces = { pod: pod!, host: pod! };
      apply(plan, namespaces).close();
      const once = state(pod!, other!);
      apply(plan, namespaces).close();
      expect(state(pod!, other!)).toEqual(once);
    });
  });

  it('with another plan of the same name leaves what that one says: pods gone, their routes too', async () => {
    await withNode((node, ztunnel) => {
      apply(nodeMode({ ...options, pods, captureDns: true }), { node, ztunnel }).close();
      apply(nodeMode({ ...options, pods: [pods[1]!] }), { node, ztunnel }).close();
      expect(readBack(nodeMode({ ...options, pods }), { node, ztunnel }).pods).toEqual(['10.244.1.11']);
      using netlink = openNetlink({ family: 'route', namespace: node });
      const routes = listRoutes(netlink, { family: 4, table: 100 }).map(({ destination }) => destination);
      expect(routes.sort()).toEqual(['10.244.1.11/32', '10.244.1.2/32']);
      expect(runIn(node, 'nft', 'list', 'table', 'ip', 'ztunnel-nat')).not.toContain(PODS_SET);
    });
  });

  it('remove() of the redirection leaves everything as it was, kernel parameters and what is others’ included', async () => {
    await withNode((node, ztunnel) => {
      writeSysctl(node, 'net.ipv4.conf.all.rp_filter', 2);
      for (const namespace of [node, ztunnel]) {
        const nat = 'add chain ip nat PREROUTING { type nat hook prerouting priority -100; }';
        const rule = 'add rule ip nat PREROUTING ip daddr 10.96.0.105 counter dnat to 10.244.2.10';
        runIn(namespace, 'nft', `add table ip nat; ${nat}; ${rule}; add table ip ztunnel; add table inet ztunnel-nat`);
        // Beside the plan's own, and with numbers that are its neighbours.
        for (const [priority, table] of [
          ['99', '200'],
          ['102', '200'],
          ['20001', '99'],
        ] as const) {
          runIn(namespace, 'ip', 'rule', 'add', 'pref', priority, 'fwmark', '0x4000/0x4000', 'lookup', table);
        }
        runIn(namespace, 'ip', 'route', 'add', 'blackhole', '10.9.0.0/16', 'table', '99');
        runIn(namespace, 'ip', 'route', 'add', 'blackhole', '10.9.0.0/16');
        runIn(namespace, 'ip', 'link', 'add', 'istioing', 'type', 'bridge');
      }
      const before = state(node, ztunnel);
      apply(nodeMode({ ...options, pods }), { node, ztunnel }).remove();
      expect(state(node, ztunnel)).toEqual(before);
    });
  });

  it('remove(plan) takes away what a killed process left, and passes over what is not there', async () => {
    await withNode((node, ztunnel) => {
      const plan = nodeMode({ ...options, pods });
      apply(plan, { node, ztunnel }).close();
      remove(plan, { node, ztunnel });
      remove(plan, { node, ztunnel });
      expect(runIn(node, 'nft', 'list', 'ruleset') + runIn(ztunnel, 'nft', 'list', 'ruleset')).toBe('');
      expect(runIn(node, 'ip', 'rule').trim().split('\n')).toHaveLength(3);
      expect(runIn(node, 'ip', '-4', 'route', 'show', 'table', 'all')).not.toMatch(/table 10[012]/);
      expect(runIn(node, 'ip', 'link')).not.toContain('istioin');
      expect(readBack(plan, { node, ztunnel }).rules.every(({ installed }) => !installed)).toBe(true);
    });
  });

  it('remove(plan) does what it can where the proxy’s namespace is gone', async () => {
    await withNode((node, ztunnel) => {
      const plan = nodeMode({ ...options, pods });
      apply(plan, { node, ztunnel }).close();
      remove(plan, { node });
      expect(runIn(node, 'nft', 'list', 'ruleset')).toBe('');
    });
  });
});

describeRequiring('a failure', rootAndTools, () => {
  function failing(plan: RedirectionPlan, node: NetworkNamespace, ztunnel: NetworkNamespace): RedirectionError {
    try {
      apply(plan, { node, ztunnel }).close();
    } catch (error) {
      return error as RedirectionError;
    }
    throw new Error('nothing failed');
  }

  // The kernel has DNAT in nat chains only.
  const broken = () =>
    editRules(nodeMode({ ...options, pods }), 'prerouting-8', (rule) => [
      { ...rule, action: { do: 'dnat', ip: '10.0.0.1', port: 80 } },
    ]);

  it('of a rule names the rule, has the kernel’s word, and leaves no half', async () => {
    await withNode((node, ztunnel) => {
      const before = state(node, ztunnel);
      const error = failing(broken(), node, ztunnel);
      expect(error).toMatchObject({
        code: 'ERR_REDIRECTION_FAILED',
        step: 'node: add rule ip ztunnel-mangle ztunnel-PREROUTING "prerouting-8"',
        leftovers: [],
      });
      expect(error.message).toMatch(/ENOTSUP|EOPNOTSUPP|EINVAL/);
      expect(state(node, ztunnel)).toEqual(before);
    });
  });

  it('of a new plan leaves the old one in force, members included', async () => {
    await withNode((node, ztunnel) => {
      const redirection = apply(nodeMode({ ...options, pods }), { node, ztunnel });
      redirection.addPod({ ip: '10.244.1.12', veth: 'vethpod' });
      const before = state(node, ztunnel);
      failing(broken(), node, ztunnel);
      expect(state(node, ztunnel)).toEqual(before);
      redirection.close();
    });
  });

  it('of a link that is not the plan’s is a conflict', async () => {
    await withNode((node, ztunnel) => {
      using netlink = openNetlink({ family: 'route', namespace: node });
      addLink(netlink, { kind: 'bridge', name: 'istioout' });
      const before = state(node, ztunnel);
      const error = failing(nodeMode({ ...options, pods }), node, ztunnel);
      expect(error).toMatchObject({ code: 'ERR_REDIRECTION_FAILED', step: 'node: link istioout' });
      expect(error.cause).toMatchObject({ code: 'ERR_REDIRECTION_CONFLICT' });
      expect(state(node, ztunnel)).toEqual(before);
    });
  });

  it('of a pod’s device that is missing names the parameter', async () => {
    await withNode((node, ztunnel) => {
      const before = state(node, ztunnel);
      const error = failing(nodeMode({ ...options, pods: [{ ip: '10.244.1.9', veth: 'nowhere' }] }), node, ztunnel);
      expect(error.step).toBe('node: sysctl net.ipv4.conf.nowhere.rp_filter = 0');
      expect(state(node, ztunnel)).toEqual(before);
    });
  });

  it('of the signal undoes what was done', async () => {
    await withNode((node, ztunnel) => {
      const before = state(node, ztunnel);
      let looked = 0;
      const signal = {
        throwIfAborted() {
          if (looked++ === 12) throw new DOMException('enough', 'AbortError');
        },
      } as AbortSignal;
      const plan = nodeMode({ ...options, pods });
      expect(() => apply(plan, { node, ztunnel }, { signal })).toThrow(expect.objectContaining({ name: 'AbortError' }));
      expect(state(node, ztunnel)).toEqual(before);
    });
  });

  it('of a policy rule that somebody else has with these numbers is none: it is the same rule', async () => {
    await withNode((node, ztunnel) => {
      using netlink = openNetlink({ family: 'route', namespace: node });
      addRule(netlink, { family: 4, priority: 103, table: 100 });
      apply(nodeMode({ ...options, pods }), { node, ztunnel }).close();
      expect(runIn(node, 'ip', 'rule').match(/^103:/gm)).toHaveLength(1);
    });
  });

  it('of a missing namespace comes before anything is touched', async () => {
    await withNode((node, ztunnel) => {
      const before = state(node, ztunnel);
      const plan = nodeMode({ ...options, pods });
      expect(() => apply(plan, { node } as never)).toThrow(expect.objectContaining({ field: 'namespaces.ztunnel' }));
      expect(state(node, ztunnel)).toEqual(before);
    });
  });
});

describeRequiring('pods', root, () => {
  it('come and go with set entry and route together; twice is once', async () => {
    await withNode((node, ztunnel) => {
      using redirection = apply(nodeMode({ ...options, captureDns: true }), { node, ztunnel });
      using route = openNetlink({ family: 'route', namespace: node });
      using netfilter = openNetlink({ family: 'netfilter', namespace: node });
      const seen = () => {
        const sets = ['ztunnel-mangle', 'ztunnel-nat'].map((name) =>
          listElements(netfilter, { table: { family: 'ip', name }, name: PODS_SET, keyType: 'ipv4_addr' }),
        );
        const routes = listRoutes(route, { family: 4, table: 100 }).map(({ destination }) => destination);
        return { sets, routes: routes.filter((destination) => destination !== '10.244.1.2/32') };
      };
      expect(redirection.addPod(pods[0]!)).toBe(true);
      expect(redirection.addPod(pods[0]!)).toBe(false);
      const element = { key: '10.244.1.10', comment: 'default/sleep' };
      expect(seen()).toEqual({ sets: [[element], [element]], routes: ['10.244.1.10/32'] });
      expect(redirection.plan.pods.list).toEqual([pods[0]]);
      expect(redirection.removePod('10.244.1.10')).toBe(true);
      expect(redirection.removePod('10.244.1.10')).toBe(false);
      expect(seen()).toEqual({ sets: [[], []], routes: [] });
      expect(redirection.plan.pods.list).toEqual([]);
    });
  });

  it('come by the dozen: all or none, those that are there passed over, or given their new comment', async () => {
    await withNode((node, ztunnel) => {
      using redirection = apply(nodeMode({ ...options, captureDns: true, pods: [pods[0]!] }), { node, ztunnel });
      const [first, second] = pods as [(typeof pods)[0], (typeof pods)[0]];
      const third = { ip: '10.244.1.12', veth: 'vethpod', comment: 'default/third' };
      const before = state(node, ztunnel);
      expect(() => redirection.addPods([second, { ...third, veth: 'nowhere' }])).toThrow(
        expect.objectContaining({ code: 'ERR_REDIRECTION_FAILED' }),
      );
      expect(() => redirection.addPods([second, third, { ...third, veth: 'vethother' }])).toThrow(
        expect.objectContaining({ code: 'ERR_REDIRECTION_INVALID', field: 'pods[2].ip' }),
      );
      expect(() => redirection.addPods([second, { ip: '10.0.0.256', veth: 'vethpod' }])).toThrow(
        expect.objectContaining({ field: 'pods[1].ip' }),
      );
      expect(state(node, ztunnel)).toEqual(before);
      expect(redirection.plan.pods.list).toEqual([first]);
      expect(redirection.addPods([])).toBe(0);
      expect(redirection.addPods([{ ...first, comment: 'default/again' }, second, third, third])).toBe(2);
      expect(verify(redirection.plan, { node, ztunnel }).differences).toEqual([]);
      using netfilter = openNetlink({ family: 'netfilter', namespace: node });
      for (const name of ['ztunnel-mangle', 'ztunnel-nat']) {
        const set = { table: { family: 'ip', name }, name: PODS_SET, keyType: 'ipv4_addr' } as const;
        expect(listElements(netfilter, set).sort((a, b) => a.key.localeCompare(b.key))).toEqual([
          { key: first.ip, comment: 'default/again' },
          { key: second.ip },
          { key: third.ip, comment: 'default/third' },
        ]);
      }
    });
  });

  it('that cannot be added leave nothing', async () => {
    await withNode((node, ztunnel) => {
      using redirection = apply(nodeMode(options), { node, ztunnel });
      expect(() => redirection.addPod({ ip: '10.244.1.10', veth: 'nowhere' })).toThrow(
        expect.objectContaining({ code: 'ERR_REDIRECTION_FAILED' }),
      );
      expect(() => redirection.addPod({ ip: 'fd00::1', veth: 'vethpod' })).toThrow(
        expect.objectContaining({ code: 'ERR_REDIRECTION_INVALID', field: 'pod.ip' }),
      );
      redirection.addPod(pods[0]!);
      expect(() => redirection.addPod({ ip: pods[0]!.ip, veth: 'vethother' })).toThrow(
        expect.objectContaining({ field: 'pod.ip' }),
      );
      expect(redirection.readBack().pods).toEqual([pods[0]!.ip]);
    });
  });

  it('by the ten thousand: no work that grows with the square', async () => {
    await withNode((node, ztunnel) => {
      const many = Array.from({ length: 10_000 }, (_, i) => ({
        ip: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`,
        veth: 'vethpod',
        comment: `pod-${i}`,
      }));
      using redirection = apply(nodeMode({ ...options, ztunnelIp: '192.0.2.2', pods: many }), { node, ztunnel });
      expect(redirection.readBack().pods).toHaveLength(10_000);
      redirection.addPod({ ip: '10.99.0.1', veth: 'vethpod' });
      redirection.removePod('10.0.0.7');
      expect(redirection.readBack().pods).toHaveLength(10_000);
      using route = openNetlink({ family: 'route', namespace: node });
      expect(listRoutes(route, { family: 4, table: 100 })).toHaveLength(10_001);
    });
  });

  it('after close() there is a typed error', async () => {
    await withNode((node, ztunnel) => {
      const redirection = apply(nodeMode(options), { node, ztunnel });
      redirection.close();
      redirection.close();
      expect(() => redirection.addPod(pods[0]!)).toThrow(expect.objectContaining({ code: 'ERR_REDIRECTION_CLOSED' }));
      using netlink = openNetlink({ family: 'netfilter', namespace: node });
      expect(listRules(netlink, { family: 'ip', name: 'ztunnel-mangle' }).length).toBeGreaterThan(15);
    });
  });
});
