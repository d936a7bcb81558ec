import { describe, expect, it } from 'vitest';
import { type NodeModeOptions, nodeMode, type RedirectionPlan } from '../../src/redirection/index.ts';

const options: NodeModeOptions = {
  hostIp: '172.18.0.2',
  ztunnelIp: '10.244.1.2',
  ztunnelVeth: 'vethza',
  pods: [{ ip: '10.244.1.10', veth: 'vethsleep', comment: 'default/sleep' }],
};

function chain(plan: RedirectionPlan, role: string, table: string, name: string) {
  const found = plan.sides
    .find((side) => side.role === role)
    ?.chains.find((candidate) => candidate.table === table && candidate.name === name);
  if (found === undefined) throw new Error(`no ${table} ${name}`);
  return found;
}

describe('nodeMode', () => {
  it('is a value: JSON keeps all of it', () => {
    const plan = nodeMode(options);
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  });

  it('says nothing in nftables’ own terms', () => {
    expect(JSON.stringify(nodeMode(options))).not.toMatch(/nft|priority":-|iifname|verdict|sreg|dreg/);
  });

  it('has rules 1 to 15 of facts section 7.6, in order, and between 13 and 14 those of trap 3', () => {
    const { rules } = chain(nodeMode(options), 'node', 'mangle', 'ztunnel-PREROUTING');
    const original = rules.filter(({ id }) => !id.startsWith('prerouting-open-'));
    expect(original.map(({ id }) => id)).toEqual(Array.from({ length: 15 }, (_, i) => `prerouting-${i + 1}`));
    expect(rules.slice(12, 17).map(({ id }) => id)).toEqual([
      'prerouting-13',
      'prerouting-open-1',
      'prerouting-open-2',
      'prerouting-open-3',
      'prerouting-14',
    ]);
    expect(original.map(({ action }) => ('value' in action ? action.value : action.do))).toEqual([
      0x200,
      'return',
      0x200,
      'return',
      'return',
      0x200,
      'return',
      0x040,
      'return',
      0x210,
      'return',
      0x220,
      0x220,
      'return',
      0x100,
    ]);
  });

  it('drops behind each TPROXY (change 2), settles each nat ACCEPT (change 1), has output after NAT (change 3)', () => {
    const plan = nodeMode(options);
    const tproxies = chain(plan, 'ztunnel', 'mangle', 'PREROUTING').rules.filter(
      ({ action }) => action.do === 'tproxy',
    );
    expect(tproxies.map(({ action }) => ('otherwise' in action ? [action.port, action.otherwise] : []))).toEqual([
      [15008, 'drop'],
      [15001, 'drop'],
      [15006, 'drop'],
    ]);
    for (const name of ['ztunnel-PREROUTING', 'ztunnel-POSTROUTING']) {
      expect(chain(plan, 'node', 'nat', name)).toMatchObject({
        place: 'before-others',
        rules: [{ action: { do: 'no-nat' } }],
      });
    }
    expect(chain(plan, 'node', 'mangle', 'ztunnel-OUTPUT').place).toBe('after-nat');
  });

  it('has mangle POSTROUTING of facts section 7.6, and nothing in it', () => {
    expect(chain(nodeMode(options), 'node', 'mangle', 'ztunnel-POSTROUTING').rules).toEqual([]);
  });

  it('with IPv6 addresses has policy rules, routes, set and networks twice, by the same numbers', () => {
    const plan = nodeMode({ ...options, hostIp6: 'fd00:a::2', ztunnelIp6: 'fd00:1::2' });
    expect(plan.families).toEqual([4, 6]);
    for (const side of plan.sides) {
      const half = (family: number) =>
        side.policyRules.filter((rule) => rule.family === family).map(({ family: _, ...rule }) => rule);
      expect(half(6)).toEqual(half(4));
      const sixes = side.routes.filter(({ destination }) => destination.includes(':'));
      expect(sixes).toHaveLength(side.routes.length / 2);
      expect(side.addresses.filter(({ ip }) => ip.includes(':'))).toHaveLength(2);
    }
    expect(plan.pods).toMatchObject({ set: 'ztunnel-pods-ips', set6: 'ztunnel-pods-ips-v6' });
  });

  it('gives each id once per side', () => {
    for (const side of nodeMode({ ...options, captureDns: true }).sides) {
      const ids = side.chains.flatMap(({ rules }) => rules.map(({ id }) => id));
      expect(new Set(ids).size).toBe(ids.length);
    }
  });

  it('keeps geneve as a kind of link: two tunnels, VNI 1000 and 1001 (facts section 7.6)', () => {
    const plan = nodeMode({ ...options, tunnel: { kind: 'geneve', port: 6082 } });
    expect(plan.links.filter(({ kind }) => kind === 'geneve')).toEqual([
      { kind: 'geneve', role: 'node', name: 'istioin', id: 1000, remote: '10.244.1.2', port: 6082 },
      { kind: 'geneve', role: 'ztunnel', name: 'pistioin', id: 1000, remote: '172.18.0.2', port: 6082 },
      { kind: 'geneve', role: 'node', name: 'istioout', id: 1001, remote: '10.244.1.2', port: 6082 },
      { kind: 'geneve', role: 'ztunnel', name: 'pistioout', id: 1001, remote: '172.18.0.2', port: 6082 },
    ]);
    const rule = chain(plan, 'node', 'mangle', 'ztunnel-PREROUTING').rules[4];
    expect(rule?.matches).toEqual([{ on: 'protocol', protocol: 'udp', destinationPort: 6082 }]);
  });

  it('writes a dot of a device’s name as sysctl(8) does', () => {
    const plan = nodeMode({ ...options, ztunnelVeth: 'eth0.100' });
    const names = plan.sides.flatMap(({ sysctls }) => sysctls.map(({ name }) => name));
    expect(names).toContain('net.ipv4.conf.eth0/100.rp_filter');
  });

  it.each<[string, Partial<NodeModeOptions>, string]>([
    ['a host address that is none', { hostIp: '172.18.0' }, 'hostIp'],
    ['IPv6', { ztunnelIp: 'fd00::2' }, 'ztunnelIp'],
    ['a device name of 16 bytes', { ztunnelVeth: '0123456789abcdef' }, 'ztunnelVeth'],
    ['a device name with a slash', { ztunnelDevice: 'a/b' }, 'ztunnelDevice'],
    ['a name that nft would quote', { name: 'my mesh' }, 'name'],
    ['a range of ports upside down', { proxyPorts: [32767, 10240] }, 'proxyPorts'],
    ['a pod that is no address', { pods: [{ ip: 'sleep', veth: 'v' }] }, 'pods[0].ip'],
    ['a pod without a device', { pods: [{ ip: '10.0.0.1', veth: '' }] }, 'pods[0].veth'],
    [
      'a pod twice',
      {
        pods: [
          { ip: '10.0.0.1', veth: 'a' },
          { ip: '10.0.0.1', veth: 'b' },
        ],
      },
      'pods[1].ip',
    ],
    ['a comment of 128 bytes', { pods: [{ ip: '10.0.0.1', veth: 'a', comment: 'x'.repeat(128) }] }, 'pods[0].comment'],
    ['a tunnel port of 0', { tunnel: { kind: 'geneve', port: 0 } }, 'tunnel.port'],
    ['one IPv6 address without the other', { hostIp6: 'fd00::2' }, 'ztunnelIp6'],
    ['the other without the one', { ztunnelIp6: 'fd00::2' }, 'hostIp6'],
    ['an IPv6 address that is IPv4', { hostIp6: '10.0.0.1', ztunnelIp6: 'fd00::2' }, 'hostIp6'],
    ['a pod of IPv6 where there is none', { pods: [{ ip: 'fd00::9', veth: 'v' }] }, 'pods[0].ip'],
    ['a pod by a mapped address', { pods: [{ ip: '::ffff:10.0.0.9', veth: 'v' }] }, 'pods[0].ip'],
  ])('refuses %s, naming the option', (_what, change, field) => {
    expect(() => nodeMode({ ...options, ...change })).toThrow(expect.objectContaining({ field }));
  });
});
