import { expect, it } from 'vitest';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { writeSysctl } from '../../src/netns/index.ts';
import {
  apply,
  hostProbes,
  nodeMode,
  podMode,
  type Redirection,
  type RedirectionPlan,
  verify,
} from '../../src/redirection/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { withNode } from './node-fixture.ts';

const rootAndTools = { root: true, tools: ['nft', 'ip', 'iptables-nft', 'iptables-legacy'] };
const options = { hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' } as const;
const pods = [
  { ip: '10.244.1.10', veth: 'vethpod', comment: 'default/sleep' },
  { ip: '10.244.1.11', veth: 'vethpod' },
];

interface InForce {
  readonly node: NetworkNamespace;
  readonly ztunnel: NetworkNamespace;
  readonly plan: RedirectionPlan;
  readonly redirection: Redirection;
  /** What verify finds, as `kind what name`. */
  found(): string[];
}

async function withRedirection(body: (there: InForce) => void | Promise<void>): Promise<void> {
  await withNode(async (node, ztunnel) => {
    const plan = nodeMode({ ...options, pods, captureDns: true });
    using redirection = apply(plan, { node, ztunnel });
    const found = () =>
      verify(plan, { node, ztunnel }).differences.map(({ kind, what, name }) => `${kind} ${what} ${name}`);
    await body({ node, ztunnel, plan, redirection, found });
  });
}

const TABLE = ['ip', 'ztunnel-mangle'] as const;
const CHAIN = [...TABLE, 'ztunnel-PREROUTING'] as const;

function handleOf(node: NetworkNamespace, id: string): string {
  const line = runIn(node, 'nft', '-a', 'list', 'table', ...TABLE)
    .split('\n')
    .find((text) => text.includes(`comment "${id}"`));
  return /# handle (\d+)/.exec(line ?? '')![1]!;
}

describeRequiring('verify', rootAndTools, () => {
  it('finds nothing where the plan is in force, and all of it where it is not', async () => {
    await withNode((node, ztunnel) => {
      const plan = nodeMode({ ...options, pods });
      const before = verify(plan, { node, ztunnel });
      expect(before.inForce).toBe(false);
      const missing = new Set(before.differences.filter(({ kind }) => kind === 'missing').map(({ what }) => what));
      expect([...missing].sort()).toEqual(['address', 'link', 'policy-rule', 'route', 'sysctl', 'table']);
      const redirection = apply(plan, { node, ztunnel });
      expect(verify(plan, { node, ztunnel })).toEqual({ inForce: true, differences: [], notes: [] });
      redirection.addPod({ ip: '10.244.1.12', veth: 'vethpod' });
      expect(verify(redirection.plan, { node, ztunnel }).inForce).toBe(true);
      redirection.remove();
    });
  });

  it.each<[string, (there: InForce) => void, string[]]>([
    [
      'a rule deleted',
      ({ node }) => runIn(node, 'nft', 'delete', 'rule', ...CHAIN, 'handle', handleOf(node, 'prerouting-8')),
      ['missing rule prerouting-8'],
    ],
    [
      'a rule that sets another mark',
      ({ node }) => {
        const at = ['handle', handleOf(node, 'prerouting-13')];
        const text = 'meta l4proto udp counter meta mark set meta mark or 0x20 comment "prerouting-13"';
        runIn(node, 'nft', 'replace', 'rule', ...CHAIN, ...at, text);
      },
      ['changed rule prerouting-13'],
    ],
    [
      'a rule moved to the end',
      ({ node }) => {
        runIn(node, 'nft', 'delete', 'rule', ...CHAIN, 'handle', handleOf(node, 'prerouting-13'));
        const text = 'meta l4proto udp counter meta mark set meta mark or 0x220 comment "prerouting-13"';
        runIn(node, 'nft', 'add', 'rule', ...CHAIN, text);
      },
      [
        'changed rule prerouting-open-1',
        'changed rule prerouting-open-2',
        'changed rule prerouting-open-3',
        'changed rule prerouting-14',
        'changed rule prerouting-15',
      ],
    ],
    [
      'a rule of somebody else at the head of ours',
      ({ node }) => runIn(node, 'nft', 'insert', 'rule', ...CHAIN, 'accept'),
      ['in-front rule ip ztunnel-mangle ztunnel-PREROUTING handle'],
    ],
    [
      'a rule of somebody else behind ours',
      ({ node }) => runIn(node, 'nft', 'add', 'rule', ...CHAIN, 'accept'),
      ['stray rule ip ztunnel-mangle ztunnel-PREROUTING handle'],
    ],
    [
      'a member taken out, another put in',
      ({ node }) => {
        runIn(node, 'nft', 'delete', 'element', ...TABLE, 'ztunnel-pods-ips', '{ 10.244.1.10 }');
        runIn(node, 'nft', 'add', 'element', ...TABLE, 'ztunnel-pods-ips', '{ 10.9.9.9 }');
      },
      ['missing member 10.244.1.10', 'stray member 10.9.9.9'],
    ],
    [
      'a table flushed',
      ({ node }) => runIn(node, 'nft', 'flush', 'table', 'ip', 'ztunnel-filter'),
      ['missing rule filter-forward-1'],
    ],
    [
      'a table deleted',
      ({ node }) => runIn(node, 'nft', 'delete', 'table', 'ip', 'ztunnel-nat'),
      ['missing table ip ztunnel-nat'],
    ],
    [
      'a policy rule deleted',
      ({ node }) => runIn(node, 'ip', 'rule', 'del', 'pref', '101'),
      ['missing policy-rule 101: from all fwmark 0x100/0x100 lookup 101'],
    ],
    [
      'a policy rule of somebody else in front, and one behind',
      ({ node }) => {
        runIn(node, 'ip', 'rule', 'add', 'pref', '9', 'fwmark', '0x200/0xf00', 'lookup', '2004');
        runIn(node, 'ip', 'rule', 'add', 'pref', '512', 'to', '10.244.0.0/16', 'lookup', 'main');
      },
      ['in-front policy-rule 9: from all fwmark 0x200/0xf00 lookup 2004'],
    ],
    [
      'a policy rule that holds for less than ours',
      ({ node }) => {
        runIn(node, 'ip', 'rule', 'del', 'pref', '102');
        runIn(node, 'ip', 'rule', 'add', 'pref', '102', 'fwmark', '0x40/0x40', 'uidrange', '0-0', 'lookup', '102');
        runIn(node, 'ip', 'rule', 'del', 'pref', '103');
        runIn(node, 'ip', 'rule', 'add', 'pref', '103', 'to', '10.244.0.0/16', 'lookup', '100');
      },
      [
        'in-front policy-rule 102: from all fwmark 0x040/0x040 uidrange 0-0 lookup 102',
        'in-front policy-rule 103: from all to 10.244.0.0/16 lookup 100',
        'missing policy-rule 102: from all fwmark 0x040/0x040 lookup 102',
        'missing policy-rule 103: from all lookup 100',
      ],
    ],
    [
      'of policy rules with our last priority the one that the kernel asks first',
      ({ node }) => {
        runIn(node, 'ip', 'rule', 'add', 'pref', '103', 'to', '10.1.0.0/16', 'lookup', 'main');
        expect(runIn(node, 'ip', 'rule')).toMatch(/lookup 100\s+103:.* to 10\.1\.0\.0\/16/);
        runIn(node, 'ip', 'rule', 'del', 'pref', '103', 'lookup', '100');
        runIn(node, 'ip', 'rule', 'add', 'pref', '103', 'lookup', '100');
        expect(runIn(node, 'ip', 'rule')).toMatch(/103:.* to 10\.1\.0\.0\/16.*\s+103:\s+from all lookup 100/);
        runIn(node, 'ip', 'rule', 'add', 'pref', '103', 'to', '10.2.0.0/16', 'lookup', 'main');
      },
      ['in-front policy-rule 103: from all to 10.1.0.0/16 lookup 254'],
    ],
    [
      'a table put to sleep',
      ({ node }) => runIn(node, 'nft', 'add', 'table', ...TABLE, '{ flags dormant; }'),
      ['changed table ip ztunnel-mangle'],
    ],
    [
      'NAT by random ports',
      ({ node }) => {
        const table = runIn(node, 'nft', '-a', 'list', 'table', 'ip', 'ztunnel-nat');
        const handle = /comment "nat-prerouting-2" # handle (\d+)/.exec(table)![1]!;
        const text =
          'ip saddr @ztunnel-pods-ips udp dport 53 counter dnat to 10.244.1.2:15053 random comment "nat-prerouting-2"';
        runIn(node, 'nft', `replace rule ip ztunnel-nat ztunnel-PREROUTING handle ${handle} ${text}`);
      },
      ['changed rule nat-prerouting-2'],
    ],
    [
      'routes deleted, changed and added',
      ({ node }) => {
        runIn(node, 'ip', 'route', 'del', '10.244.1.10', 'table', '100');
        runIn(node, 'ip', 'route', 'replace', 'default', 'dev', 'vethza', 'table', '101');
        runIn(node, 'ip', 'route', 'add', '10.9.9.9', 'dev', 'vethza', 'table', '102');
      },
      [
        'changed route table 101 default via 192.168.127.2 dev istioout',
        'missing route table 100 10.244.1.10 via 192.168.126.2 dev istioin src 172.18.0.2',
        'stray route table 102 10.9.9.9 dev vethza',
      ],
    ],
    [
      'a kernel parameter changed',
      ({ node }) => writeSysctl(node, 'net.ipv4.conf.vethza.rp_filter', 1),
      ['changed sysctl net.ipv4.conf.vethza.rp_filter'],
    ],
    [
      'a link down',
      ({ node }) => runIn(node, 'ip', 'link', 'set', 'istioout', 'down'),
      ['changed link istioout', 'missing route table 101 default via 192.168.127.2 dev istioout'],
    ],
  ])('names %s', async (_what, change, expected) => {
    await withRedirection((there) => {
      expect(there.found()).toEqual([]);
      change(there);
      const found = there.found();
      expect(found.map((text) => text.replace(/ handle .*/, ' handle')).sort()).toEqual([...expected].sort());
    });
  });

  it('compares rules by meaning: the same ones written by nft are no difference (node mode, section 5)', async () => {
    await withRedirection(({ node, ztunnel, found }) => {
      const rewritten: [NetworkNamespace, string, string][] = [
        [node, 'prerouting-15', 'ip saddr @ztunnel-pods-ips meta l4proto tcp counter meta mark set meta mark or 0x100'],
        [node, 'prerouting-6', 'ct mark and 0x220 == 0x220 counter meta mark set meta mark or 0x200'],
        [node, 'prerouting-5', 'udp dport 6081 return'],
      ];
      for (const [namespace, id, text] of rewritten) {
        const at = ['handle', handleOf(namespace, id)];
        runIn(namespace, 'nft', 'replace', 'rule', ...CHAIN, ...at, `${text} comment "${id}"`);
      }
      const table = runIn(ztunnel, 'nft', '-a', 'list', 'table', ...TABLE);
      const handle = /comment "ztunnel-4" # handle (\d+)/.exec(table)![1]!;
      const eth0 =
        'iifname eth0 ip daddr != 10.244.1.2 meta l4proto tcp counter meta mark set meta mark and 0xfffff000 or 0x4d3';
      runIn(ztunnel, 'nft', 'replace', 'rule', ...TABLE, 'PREROUTING', 'handle', handle, eth0);
      expect(found()).toEqual([]);
    });
  });

  it('knows kube-proxy’s place from one that comes before ours (trap 9)', async () => {
    await withRedirection(({ node, plan, ztunnel }) => {
      const kubeProxy = (priority: string) => {
        runIn(node, 'nft', 'add', 'table', 'ip', 'kube-proxy');
        runIn(node, 'nft', 'add', 'chain', 'ip', 'kube-proxy', 'services');
        const base = `{ type nat hook prerouting priority ${priority}; }`;
        runIn(node, 'nft', 'add', 'chain', 'ip', 'kube-proxy', 'nat-prerouting', base);
        runIn(node, 'nft', 'add', 'rule', 'ip', 'kube-proxy', 'nat-prerouting', 'jump', 'services');
        const service = 'ip daddr 10.96.0.105 tcp dport 80 dnat to 10.244.2.10:80';
        runIn(node, 'nft', 'add', 'rule', 'ip', 'kube-proxy', 'services', service);
      };
      kubeProxy('-100');
      expect(verify(plan, { node, ztunnel }).inForce).toBe(true);
      runIn(node, 'nft', 'delete', 'table', 'ip', 'kube-proxy');
      kubeProxy('-110');
      const { differences } = verify(plan, { node, ztunnel });
      expect(differences).toEqual([
        {
          kind: 'in-front',
          role: 'node',
          what: 'chain',
          name: 'ip kube-proxy nat-prerouting',
          detail:
            'this chain comes before ztunnel-PREROUTING (priority -110, not -101); ' +
            'in services: dnat settles the flow before the plan does',
        },
      ]);
    });
  });

  it('follows the verdict maps that kube-proxy dispatches by', async () => {
    await withRedirection(({ node, found }) => {
      const lines = [
        'add table ip kube-proxy',
        'add chain ip kube-proxy service-A',
        'add rule ip kube-proxy service-A tcp dport 80 dnat to 10.244.2.10:80',
        'add map ip kube-proxy service-ips { type ipv4_addr : verdict; elements = { 10.96.0.105 : goto service-A }; }',
        'add chain ip kube-proxy pre { type nat hook prerouting priority -110; }',
        'add rule ip kube-proxy pre ip daddr vmap @service-ips',
      ];
      runIn(node, 'nft', lines.join('; '));
      expect(found()).toEqual(['in-front chain ip kube-proxy pre']);
    });
  });

  it.each(['iptables-nft', 'iptables-legacy'] as const)('reads rules of %s in front of ours', async (tool) => {
    await withRedirection(({ node, plan, ztunnel, found }) => {
      const table = (name: string) => (tool === 'iptables-nft' ? name : `${name} (legacy)`);
      const rule = (name: string, ...args: string[]) => runIn(node, tool, '-t', name, ...args);
      // Behind ours, or with bits of their own: nat at -100, where ours is at -101.
      rule('nat', '-A', 'PREROUTING', '-p', 'tcp', '--dport', '80', '-j', 'DNAT', '--to', '10.244.2.10:80');
      rule('raw', '-A', 'PREROUTING', '-j', 'MARK', '--set-xmark', '0x4000/0x4000');
      rule('raw', '-A', 'OUTPUT', '-j', 'MARK', '--set-xmark', '0x0/0xffffffff');
      expect(found()).toEqual([`in-front chain ip ${table('raw')} OUTPUT`]);
      rule('raw', '-F');
      rule('mangle', '-N', 'CNI');
      rule('mangle', '-A', 'PREROUTING', '-j', 'CNI');
      rule('mangle', '-A', 'CNI', '-j', 'CONNMARK', '--restore-mark', '--nfmask', '0x4000', '--ctmask', '0x4000');
      expect(found()).toEqual([]);
      rule('mangle', '-A', 'CNI', '-j', 'CONNMARK', '--restore-mark', '--nfmask', '0x200', '--ctmask', '0x200');
      const { differences, notes } = verify(plan, { node, ztunnel });
      expect(differences).toEqual([
        {
          kind: 'in-front',
          role: 'node',
          what: 'chain',
          name: `ip ${table('mangle')} PREROUTING`,
          detail:
            `this chain of ${tool} has priority -150 as ztunnel-PREROUTING has, and may come first; ` +
            'in CNI: CONNMARK writes bits 0x200, which are the plan’s',
        },
      ]);
      expect(notes).toEqual([]);
      rule('mangle', '-F', 'CNI');
      rule('mangle', '-A', 'CNI', '-j', 'CONNMARK', '--set-xmark', '0x10/0x10');
      expect(found()).toEqual([`in-front chain ip ${table('mangle')} PREROUTING`]);
    });
  });

  it.each(['iptables-nft', 'iptables-legacy'] as const)(
    'says that a policy of drop is not overruled: %s',
    async (tool) => {
      await withRedirection(({ node, ztunnel, plan }) => {
        runIn(node, tool, '-P', 'FORWARD', 'DROP');
        const { inForce, notes } = verify(plan, { node, ztunnel });
        expect(inForce).toBe(true);
        const table = tool === 'iptables-nft' ? 'filter' : 'filter (legacy)';
        expect(notes).toEqual([expect.stringContaining(`node: ip ${table} FORWARD drops what it does not accept`)]);
      });
    },
  );

  it('passes over tables that are dormant', async () => {
    await withRedirection(({ node, found }) => {
      const chain = 'add chain ip cni pre { type filter hook prerouting priority -300; }';
      runIn(node, 'nft', `add table ip cni; ${chain}; add rule ip cni pre meta mark set 0x200`);
      expect(found()).toEqual(['in-front chain ip cni pre']);
      runIn(node, 'nft', 'add table ip cni { flags dormant; }');
      expect(found()).toEqual([]);
    });
  });

  it.each<[string, RedirectionPlan]>([
    ['podMode()', podMode()],
    ['podMode() by TPROXY, for a gateway', podMode({ inbound: 'tproxy', ingress: true, virtualInterfaces: ['lo'] })],
    ['hostProbes()', hostProbes({ pods: [{ ip: '10.0.0.1' }, { ip: 'fd00::1', comment: 'uid' }] })],
  ])('finds nothing where %s is in force, and each rule when they are gone', async (_what, plan) => {
    await withNamespaces(['pod'], (namespace) => {
      const namespaces = { pod: namespace, host: namespace };
      using redirection = apply(plan, namespaces);
      expect(verify(plan, namespaces)).toEqual({ inForce: true, differences: [], notes: [] });
      for (const { name, table } of plan.sides.flatMap(({ chains }) => chains)) {
        for (const family of ['ip', 'ip6'])
          runIn(namespace, 'nft', 'flush', 'chain', family, `${plan.name}-${table}`, name);
      }
      const { differences } = verify(plan, namespaces);
      const missing = new Set(
        differences.filter(({ kind }) => kind === 'missing').map(({ name }) => name.split(' ')[0]),
      );
      const planned = new Set(redirection.readBack().rules.map(({ id }) => id));
      expect(missing).toEqual(planned);
    });
  });

  it('names the role that has no namespace', async () => {
    await withNamespaces(['node'], (node) => {
      expect(() => verify(nodeMode(options), { node })).toThrow(
        expect.objectContaining({ code: 'ERR_REDIRECTION_INVALID', field: 'namespaces.ztunnel' }),
      );
    });
  });
});
