import { describe, expect, it } from 'vitest';
import {
  apply,
  type PodModeOptions,
  podMode,
  type RedirectionPlan,
  readBack,
  remove,
  ruleText,
} from '../../src/redirection/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

function rules(plan: RedirectionPlan, table: string, hook: string): string[] {
  return plan.sides
    .flatMap(({ chains }) => chains)
    .filter((chain) => chain.table === table && chain.hook === hook)
    .flatMap((chain) => chain.rules.map(ruleText));
}

const probe = '169.254.7.127|fd16:9254:7127:1337:ffff:ffff:ffff:ffff';
const loopback = '127.0.0.1|::1';

describe('podMode', () => {
  it('is a value: JSON keeps all of it', () => {
    const plan = podMode({ virtualInterfaces: ['vm0'] });
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  });

  it('has the rules of facts section 7.2, in order, for both families', () => {
    const plan = podMode();
    expect(rules(plan, 'mangle', 'prerouting')).toEqual(['mark 0x539/0xfff: set connmark 0x111/0xfff']);
    expect(rules(plan, 'mangle', 'output')).toEqual(['connmark 0x111/0xfff: take the mark from the connection']);
    expect(rules(plan, 'nat', 'prerouting')).toEqual([
      `from ${probe}, tcp: accept`,
      `not to ${loopback}, tcp not port 15008, not mark 0x539/0xfff: redirect to port 15006`,
    ]);
    expect(rules(plan, 'nat', 'output')).toEqual([
      `to ${probe}, tcp: accept`,
      'not out lo, udp port 53, not mark 0x539/0xfff: redirect to port 15053',
      `not to ${loopback}, tcp port 53, not mark 0x539/0xfff: redirect to port 15053`,
      'tcp, mark 0x111/0xfff: accept',
      `not to ${loopback}, out lo: accept`,
      `not to ${loopback}, tcp, not mark 0x539/0xfff: redirect to port 15001`,
    ]);
    expect(rules(plan, 'raw', 'output')).toEqual(['udp port 53, mark 0x539/0xfff: track in zone 1']);
    expect(rules(plan, 'raw', 'prerouting')).toEqual(['udp from port 53, not mark 0x539/0xfff: track in zone 1']);
    expect(plan.sides[0]?.policyRules).toEqual([
      { family: 4, priority: 32764, fwmark: 0x111, fwmask: 0xfff, table: 100 },
      { family: 6, priority: 32764, fwmark: 0x111, fwmask: 0xfff, table: 100 },
    ]);
  });

  it('without DNS has neither its redirects nor a raw table', () => {
    const plan = podMode({ captureDns: false });
    expect(rules(plan, 'nat', 'output')).toHaveLength(4);
    expect(plan.sides[0]?.chains.map(({ table }) => table)).not.toContain('raw');
  });

  it('in ingress mode lets everything in, and captures what goes out', () => {
    const plan = podMode({ ingress: true });
    expect(rules(plan, 'nat', 'prerouting')).toEqual([]);
    expect(rules(plan, 'nat', 'output')).toHaveLength(6);
    expect(rules(podMode({ ingress: true, inbound: 'tproxy' }), 'mangle', 'prerouting')).toHaveLength(1);
  });

  it('puts virtual interfaces first, a redirect and a return each', () => {
    expect(rules(podMode({ virtualInterfaces: ['vm0', 'vm1'] }), 'nat', 'prerouting').slice(0, 4)).toEqual([
      'in vm0, tcp: redirect to port 15001',
      'in vm0, tcp: return',
      'in vm1, tcp: redirect to port 15001',
      'in vm1, tcp: return',
    ]);
  });

  it('by TPROXY has the rules of facts section 7.5', () => {
    const plan = podMode({ inbound: 'tproxy' });
    expect(rules(plan, 'mangle', 'prerouting')).toEqual([
      'mark 0x539/0xfff: set connmark 0x111/0xfff',
      `from ${probe}, tcp: accept`,
      `not to ${loopback}, tcp, in lo: accept`,
      'tcp port 15008, not mark 0x539/0xfff: tproxy to port 15008, set mark 0x111/0xfff, else drop',
      'tcp, under way: accept',
      `not to ${loopback}, tcp, not mark 0x539/0xfff: tproxy to port 15006, set mark 0x111/0xfff, else drop`,
    ]);
    expect(rules(plan, 'nat', 'prerouting')).toEqual([]);
  });

  it('of IPv4 alone has no IPv6 routes and rules', () => {
    const plan = podMode({ ipv6: false });
    expect(plan.families).toEqual([4]);
    expect(plan.sides[0]?.routes).toHaveLength(1);
    expect(plan.sides[0]?.policyRules).toHaveLength(1);
  });

  it.each<[string, PodModeOptions, string]>([
    ['a probe address that is IPv6', { probeIp: 'fd00::1' }, 'probeIp'],
    ['a probe address that is mapped', { probeIp: '::ffff:169.254.7.1' }, 'probeIp'],
    ['a probe address that is none', { probeIp6: 'fd00::x' }, 'probeIp6'],
    ['a device name of 16 bytes', { virtualInterfaces: ['vm0', '0123456789abcdef'] }, 'virtualInterfaces[1]'],
    ['a name that nft would quote', { name: 'my mesh' }, 'name'],
  ])('refuses %s, naming the option', (_what, options, field) => {
    expect(() => podMode(options)).toThrow(expect.objectContaining({ field }));
  });
});

describeRequiring('podMode() in the kernel', { root: true, tools: ['nft', 'ip'] }, () => {
  it('is what ip and nft show, both families, and leaves nothing behind', async () => {
    await withNamespaces(['pod'], async (pod) => {
      const plan = podMode();
      const before = ['-4', '-6'].map((family) => runIn(pod!, 'ip', family, 'rule'));
      const redirection = apply(plan, { pod: pod! });
      for (const family of ['-4', '-6']) {
        expect(runIn(pod!, 'ip', family, 'rule')).toMatch(/^32764:\s+from all fwmark 0x111\/0xfff lookup 100/m);
        expect(runIn(pod!, 'ip', family, 'route', 'show', 'table', '100')).toMatch(/^local default dev lo/);
      }
      const tables = runIn(pod!, 'nft', 'list', 'tables').trim().split('\n').sort();
      expect(tables).toEqual(
        ['ip', 'ip6'].flatMap((family) =>
          ['mangle', 'nat', 'raw'].map((kind) => `table ${family} istio-ambient-${kind}`),
        ),
      );
      const text = runIn(pod!, 'nft', 'list', 'ruleset');
      for (const line of [
        'ip6 daddr != ::1 tcp dport != 15008 meta mark & 0x00000fff != 0x00000539 counter packets 0 bytes 0 redirect to :15006 comment "nat-prerouting-3"',
        'udp dport 53 meta mark & 0x00000fff == 0x00000539 counter packets 0 bytes 0 ct zone set 1 comment "raw-output-1"',
        'ct mark & 0x00000fff == 0x00000111 counter packets 0 bytes 0 meta mark set ct mark comment "mangle-output-1"',
      ]) {
        expect(text).toContain(line);
      }
      expect(redirection.readBack().rules.every(({ installed }) => installed)).toBe(true);
      apply(plan, { pod: pod! }).close();
      expect(runIn(pod!, 'nft', 'list', 'ruleset')).toBe(text);
      redirection.remove();
      expect(runIn(pod!, 'nft', 'list', 'ruleset')).toBe('');
      expect(['-4', '-6'].map((family) => runIn(pod!, 'ip', family, 'rule'))).toEqual(before);
      remove(plan, { pod: pod! });
      expect(readBack(plan, { pod: pod! }).rules.some(({ installed }) => installed)).toBe(false);
    });
  });

  it('takes the IPv6 half away when a plan without it takes its place', async () => {
    await withNamespaces(['pod'], async (pod) => {
      apply(podMode(), { pod: pod! }).close();
      apply(podMode({ ipv6: false, captureDns: false }), { pod: pod! }).close();
      expect(runIn(pod!, 'nft', 'list', 'tables').trim().split('\n').sort()).toEqual([
        'table ip istio-ambient-mangle',
        'table ip istio-ambient-nat',
      ]);
    });
  });
});
