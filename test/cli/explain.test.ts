import { describe, expect, it } from 'vitest';
import { withNode } from '../redirection/node-fixture.ts';
import { runIn } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { ambient } from './ambient.ts';

const flow = ['--from', '10.244.1.10:40000', '--to', '10.96.0.105:80'];

describe('ambient explain', () => {
  it.each([
    [[], '--from and --to are needed'],
    [['--from', '10.0.0.256', '--to', '10.0.0.1'], '--from: "10.0.0.256" is not IP, IP:PORT or [IP]:PORT'],
    [['--from', '10.0.0.1:70000', '--to', '10.0.0.1'], '--from: "10.0.0.1:70000" is not'],
    [[...flow, '--mark', '0x100000000'], '--mark: "0x100000000" is no 32-bit number'],
    [[...flow, '--proto', 'icmp'], '--proto is tcp or udp'],
    [[...flow, '--state', 'related'], '--state is new or established'],
    [[...flow, '--uid', 'root'], '--uid: "root" is no 32-bit number'],
    [[...flow, '--way', '2'], '--way is for --follow'],
    [[...flow, '--way', '0', '--follow'], '--way: the first way is 1'],
    [[...flow, '--what'], "Unknown option '--what'"],
  ])('%j is bad usage: exit 2', async (args, message) => {
    const { code, stdout, stderr } = await ambient(['explain', ...args]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
  });

  it('--help names the exit codes', async () => {
    const { code, stdout } = await ambient(['explain', '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('Exit: 0 explained, whatever becomes of the packet; 1 something');
  });
});

describeRequiring('ambient explain in a namespace', { root: true, tools: ['nft', 'ip'] }, () => {
  it('finds the device, prints a line a step, and says what cannot be told with exit 1', async () => {
    await withNode(async (node) => {
      const netns = ['--netns', node.name!];
      runIn(node, 'ip', 'route', 'add', '10.244.1.10', 'dev', 'vethpod');
      runIn(node, 'ip', 'route', 'add', 'default', 'dev', 'vethza');
      runIn(node, 'sysctl', '-qw', 'net.ipv4.conf.vethpod.forwarding=1');
      runIn(node, 'nft', 'add table ip t; add chain ip t c { type filter hook forward priority 0; policy drop; }');
      runIn(
        node,
        'nft',
        'add rule ip t c ip saddr { 10.244.1.0-10.244.1.15, 10.9.0.0/16 } counter accept comment "pods"',
      );
      const { code, stdout } = await ambient(['explain', ...netns, ...flow]);
      expect(stdout.split('\n')).toEqual([
        'tcp 10.244.1.10:40000 → 10.96.0.105:80, in by vethpod',
        '  prerouting -200  conntrack               new, not in the table',
        '  route            rule 32766 lookup main  0.0.0.0/0 dev vethza',
        expect.stringMatching(/^ {2}forward 0 {8}ip t c pods {13}ip saddr @__set\d+ accept \(0\)$/),
        '→ forwarded by vethza as 10.244.1.10:40000 → 10.96.0.105:80',
        '',
      ]);
      expect(code).toBe(0);

      const json = await ambient([
        'explain',
        ...netns,
        '--from',
        '10.244.1.16',
        '--to',
        '10.96.0.105',
        '--in',
        'vethpod',
        '--json',
      ]);
      expect(JSON.parse(json.stdout)).toMatchObject({
        packet: { source: '10.244.1.16', device: 'vethpod' },
        ending: { kind: 'dropped', reason: 'the policy of ip t c' },
        caveats: [],
      });
      expect(json.code).toBe(0);

      runIn(node, 'nft', 'insert rule ip t c limit rate 1/second accept comment "some"');
      const some = await ambient(['explain', ...netns, ...flow]);
      expect(some.code).toBe(1);
      expect(some.stdout).toContain(
        '→ cannot tell: rule "some" of ip t c hangs on the expression "limit", which cannot be judged\n',
      );

      const nowhere = await ambient(['explain', ...netns, ...flow, '--in', 'nope0']);
      expect(nowhere).toMatchObject({ code: 2, stderr: 'ambient explain: --in: there is no device "nope0"\n' });
      const gone = await ambient(['explain', '--netns', 'akt-no-such', ...flow]);
      expect(gone.code).toBe(2);
    });
  });

  it('--follow goes on in the next namespace and says where it ends; --json has every hop', async () => {
    await withNode(async (node, ztunnel) => {
      const args = ['explain', '--netns', node.name!, '--from', '172.18.0.2', '--to', '10.244.1.2:15021', '--follow'];
      runIn(node, 'ip', 'route', 'add', '10.244.1.2', 'dev', 'vethza');
      runIn(ztunnel, 'ip', 'route', 'add', '172.18.0.2', 'dev', 'eth0');
      const { code, stdout } = await ambient(args);
      expect(stdout.split('\n')).toEqual([
        `── ${node.name} ──`,
        'tcp 172.18.0.2 → 10.244.1.2:15021, made here',
        '  route        rule 32766 lookup main  10.244.1.2/32 dev vethza',
        '  output -200  conntrack               new, not in the table',
        '→ sent by vethza as 172.18.0.2 → 10.244.1.2:15021',
        `⇢ veth: vethza is one end, eth0 in ${ztunnel.name} the other`,
        '',
        `── ${ztunnel.name} ──`,
        'tcp 172.18.0.2 → 10.244.1.2:15021, in by eth0',
        '  prerouting -200  conntrack            new, not in the table',
        '  route            rule 0 lookup local  local 10.244.1.2/32 dev eth0',
        '→ delivered to 10.244.1.2:15021, where no socket listens',
        '',
      ]);
      expect(code).toBe(0);
      const json = JSON.parse((await ambient([...args, '--json'])).stdout);
      expect(json).toMatchObject({
        hops: [
          {
            namespace: node.name,
            passages: [{ kind: 'veth', device: 'vethza', peer: 'eth0', namespace: ztunnel.name }],
          },
          { namespace: ztunnel.name, passages: [], explanation: { ending: { kind: 'delivered' } } },
        ],
        ending: { kind: 'settled' },
        last: { kind: 'delivered', ip: '10.244.1.2', port: 15021 },
      });

      runIn(node, 'ip', 'link', 'add', 'vx0', 'type', 'vxlan', 'id', '5', 'dstport', '4789');
      runIn(node, 'ip', 'link', 'set', 'vx0', 'up');
      runIn(node, 'ip', 'route', 'add', '10.99.0.0/16', 'dev', 'vx0');
      const away = await ambient([
        'explain',
        '--netns',
        node.name!,
        '--from',
        '172.18.0.2',
        '--to',
        '10.99.0.1',
        '--follow',
      ]);
      expect(away.stdout).toMatch(/⇢ leaves by vx0 \(a vxlan that looks up where to send\), which is not followed\n$/);
      expect(away.code).toBe(0);
    });
  });

  it('does not count a dormant table, and says of a netdev table that it is not looked at: exit 1', async () => {
    await withNode(async (node) => {
      const drop = 'type filter hook output priority 0; policy drop;';
      runIn(node, 'nft', `add table ip t { flags dormant; }; add chain ip t c { ${drop} }`);
      const args = ['explain', '--netns', node.name!, '--from', '127.0.0.1', '--to', '127.0.0.1'];
      runIn(node, 'ip', 'link', 'set', 'lo', 'up');
      const dormant = await ambient(args);
      expect(dormant).toMatchObject({ code: 0, stdout: expect.stringContaining('→ delivered to 127.0.0.1\n') });
      runIn(node, 'nft', 'add table netdev watch');
      const netdev = await ambient(args);
      expect(netdev.code).toBe(1);
      expect(netdev.stdout).toContain(
        'caveat: not looked at, and may decide otherwise: the nftables table netdev watch\n',
      );
      runIn(node, 'nft', 'add table ip t');
      expect((await ambient(args)).stdout).toContain('→ dropped: the policy of ip t c\n');
    });
  });
});
