import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { openNetlink } from '../../src/netlink/index.ts';
import { listTables } from '../../src/netlink/nftables/index.ts';
import { deleteNamespace, type NetworkNamespace } from '../../src/netns/index.ts';
import { withNode } from '../redirection/node-fixture.ts';
import { type PodWithProxy, WORLD, withPodProxy } from '../redirection/pod-proxy.ts';
import { stuck, Talk } from '../redirection/talk.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { ambient, entry } from './ambient.ts';

const mode = ['--mode', 'node', '--host-ip', '172.18.0.2', '--ztunnel-ip', '10.244.1.2', '--ztunnel-veth', 'vethza'];
const pod = ['--pod', '10.244.1.10=vethpod=default/sleep'];

describe('ambient rules plan', () => {
  it('shows the plan, and reads nothing of the kernel', async () => {
    const { code, stdout, stderr } = await ambient(['rules', 'plan', ...mode, ...pod]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('ip rule  101: from all fwmark 0x100/0x100 lookup 101');
    expect(stdout).toContain('10.244.1.10 (default/sleep) behind vethpod');
    expect(stdout).toContain('prerouting-15');
  });

  it('has the other renderings too', async () => {
    const nft = await ambient(['rules', 'plan', ...mode, '--format', 'nft']);
    expect(nft.stdout).toMatch(/# node: nft -f\n[\s\S]*chain ztunnel-PREROUTING/);
    const local = ['--host-traffic', 'local-source'];
    const iptables = await ambient(['rules', 'plan', ...mode, ...local, '--format', 'iptables']);
    expect(iptables.stdout).toContain('# node: iptables-restore --noflush\n');
    expect(iptables.stdout).toContain('-A ztunnel-PREROUTING -i istioin -j MARK --set-xmark 0x200/0x200');
    const inPod = await ambient(['rules', 'plan', '--mode', 'pod', '--ipv4-only', '--no-dns']);
    expect(inPod.stdout).toContain('15006');
    expect(inPod.stdout).not.toContain('15053');
    const json = await ambient(['rules', 'plan', ...mode, ...pod, '--json']);
    expect(JSON.parse(json.stdout).plan.pods.list).toEqual([
      { ip: '10.244.1.10', veth: 'vethpod', comment: 'default/sleep' },
    ]);
  });

  it('--dry-run shows text and decoded netlink messages, and needs no namespace', async () => {
    const { code, stdout } = await ambient(['rules', 'apply', ...mode, ...pod, '--dry-run']);
    expect(code).toBe(0);
    expect(stdout).toContain('prerouting-15');
    // enum nf_tables_msg_types: NFT_MSG_NEWRULE is 6; RTM_NEWRULE by name.
    expect(stdout).toMatch(
      /# node: nft add rule ip ztunnel-mangle ztunnel-PREROUTING "prerouting-8"\nip ztunnel-mangle ztunnel-PREROUTING\n {2}\[ meta load iifname => reg 1 \]\n(.*\n)*?.*NFTABLES\/6/,
    );
    expect(stdout).toMatch(/# node: ip rule add 101: from all fwmark 0x100\/0x100 lookup 101\n.*\n.*\n.*RTM_NEWRULE/);
    const removing = await ambient(['rules', 'remove', ...mode, ...pod, '--dry-run', '--json']);
    const { messages } = JSON.parse(removing.stdout) as { messages: { command: string; type: string; hex: string }[] };
    expect(messages.map(({ command }) => command)).toEqual(
      expect.arrayContaining(['nft delete table ip ztunnel-mangle', 'ip link del istioin']),
    );
    expect(messages.find(({ command }) => command === 'ip link del istioin')!.type).toBe('RTM_DELLINK');
    const text = await ambient(['rules', 'remove', ...mode, '--dry-run', '--format', 'nft']);
    expect(text.stdout).toContain('delete table ip ztunnel-mangle\n');
    expect(text.stdout).not.toContain('chain');
  });

  it.each([
    [[], 'say what to do: plan, apply, verify, watch, remove'],
    [['flush'], 'there is no "flush": plan, apply, verify, watch, remove'],
    [['plan', 'twice'], '"twice" is too much'],
    [['plan'], '--mode is node or pod'],
    [['plan', '--mode', 'node'], '--mode node needs --host-ip'],
    [['verify', ...mode], '--mode node needs --ztunnel-netns'],
    [['plan', ...mode, '--pod', '10.0.0.1'], '--pod 10.0.0.1: a pod is IP=DEVICE[=COMMENT]'],
    [['plan', ...mode, '--pod', 'nonsense=veth0'], 'pods[0].ip'],
    [['plan', ...mode, '--ztunnel-device', 'a-name-that-is-too-long'], 'ztunnelDevice'],
    [['plan', ...mode, '--tunnel', 'gre'], '--tunnel is veth or geneve'],
    [['verify', ...mode, '--dry-run'], '--dry-run is for apply and remove'],
    [['verify', ...mode, '--format', 'nft'], '--format is for plan and --dry-run'],
    [['plan', ...mode, '--format', 'xml'], '--format is one of text, nft, iptables, netlink'],
    [['apply', ...mode, '--drain', '5'], '--drain is for remove'],
    [['remove', '--mode', 'pod', '--drain', 'soon'], '--drain soon: expected whole seconds from 0 to 86400'],
    [['remove', '--mode', 'pod', '--drain', '86401'], '--drain 86401: expected whole seconds from 0 to 86400'],
    [['plan', '--mode', 'pod', '--inbound', 'dnat'], '--inbound is redirect or tproxy'],
    [['plan', '--nope'], "Unknown option '--nope'"],
  ])('ambient rules %j: exit 2, %s', async (args, message) => {
    const { code, stdout, stderr } = await ambient(['rules', ...args]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('--help states the exit codes', async () => {
    const help = await ambient(['rules', '--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toMatch(/Exit: 0 .*1 .*2 /s);
  });
});

describeRequiring('ambient rules', { root: true, tools: ['ip', 'nft'] }, () => {
  it('says what to do where it is not root: exit 2', async () => {
    const drop = 'process.getuid = () => 65534;';
    const environment = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(drop)}` };
    const { code, stderr } = await ambient(['rules', 'verify', '--mode', 'pod'], { environment });
    expect(code).toBe(2);
    expect(stderr).toContain('as root only: run it again with sudo');
  });

  const at = (node: NetworkNamespace, ztunnel: NetworkNamespace) => [
    ...mode,
    ...pod,
    '--node-netns',
    node.name!,
    '--ztunnel-netns',
    ztunnel.name!,
  ];

  it('applies, verifies, finds a difference with exit 1, and removes', async () => {
    await withNode(async (node, ztunnel) => {
      const args = at(node, ztunnel);
      expect((await ambient(['rules', 'verify', ...args])).code).toBe(1);
      expect(await ambient(['rules', 'apply', ...args])).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/^ztunnel is in force: \d+ rules, 1 pod\n$/),
      });
      expect(await ambient(['rules', 'verify', ...args])).toEqual({ code: 0, stdout: 'in force\n', stderr: '' });
      runIn(node, 'ip', 'rule', 'del', 'pref', '101');
      const found = await ambient(['rules', 'verify', ...args]);
      expect(found.code).toBe(1);
      expect(found.stdout).toBe(
        'node: policy rule 101: from all fwmark 0x100/0x100 lookup 101 is missing\n1 difference\n',
      );
      const json = await ambient(['rules', 'verify', ...args, '--json']);
      expect(JSON.parse(json.stdout)).toMatchObject({
        ok: false,
        differences: [{ kind: 'missing', what: 'policy-rule' }],
      });
      const environment = { AMBIENT_NETLINK_DEBUG: 'nft' };
      const dumped = await ambient(['rules', 'apply', ...args], { environment });
      expect(dumped.stderr).toContain('> sent\nRTM_NEWRULE\n');
      expect(dumped.stderr).toContain('ip ztunnel-filter ztunnel-FORWARD\n  [ meta load mark => reg 1 ]\n');
      expect((await ambient(['rules', 'remove', ...args])).code).toBe(0);
      using netlink = openNetlink({ family: 'netfilter', namespace: node });
      expect(listTables(netlink)).toEqual([]);
    });
  });

  it('applies and verifies a pod’s redirection, both families', async () => {
    await withNamespaces(['pod'], async (namespace) => {
      const args = ['--mode', 'pod', '--pod-netns', namespace.name!, '--json'];
      expect((await ambient(['rules', 'apply', ...args])).code).toBe(0);
      expect(JSON.parse((await ambient(['rules', 'verify', ...args])).stdout)).toEqual({
        ok: true,
        differences: [],
        notes: [],
      });
      runIn(namespace, 'ip', '-6', 'rule', 'del', 'pref', '32764');
      expect((await ambient(['rules', 'verify', ...args])).code).toBe(1);
      expect((await ambient(['rules', 'remove', ...args])).code).toBe(0);
      expect(runIn(namespace, 'nft', 'list', 'ruleset')).toBe('');
    });
  });

  /** `ambient rules remove` of a pod whose captured connection is open, once it has said that it waits. */
  async function removing(
    world: PodWithProxy,
    body: (child: ChildProcess, talk: Talk) => Promise<void>,
  ): Promise<string> {
    const { pod } = world;
    const args = ['rules', 'remove', '--mode', 'pod', '--pod-netns', pod.name!];
    expect((await ambient(['rules', 'apply', '--mode', 'pod', '--pod-netns', pod.name!])).code).toBe(0);
    const talk = await Talk.open('out', pod, WORLD.v4);
    const child = spawn(process.execPath, [entry, ...args], { timeout: 30_000 });
    let stdout = '';
    const ended = once(child, 'close');
    const waits = new Promise<void>((resolve) => {
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
        resolve();
      });
    });
    await Promise.race([waits, ended]);
    expect(stdout).toBe('nothing new is captured; waiting up to 300 s for 1 connection that was\n');
    expect(await stuck([talk])).toEqual([]);
    await body(child, talk);
    expect((await ended)[0]).toBe(0);
    expect(runIn(pod, 'nft', 'list', 'ruleset')).toBe('');
    return stdout.split('\n')[1]!;
  }

  it('removes when the last captured connection has ended', async () => {
    await withPodProxy(async (world) => {
      const said = await removing(world, async (_child, talk) => talk.end());
      expect(said).toBe('removed istio-ambient; kernel parameters stay as they are');
    });
  });

  it('removes at once by SIGINT, and says what broke; so does --drain 0', async () => {
    await withPodProxy(async (world) => {
      const said = await removing(world, async (child) => void child.kill('SIGINT'));
      expect(said).toBe('removed istio-ambient; kernel parameters stay as they are; 1 captured connection broke');
    });
    await withPodProxy(async (world) => {
      const args = ['--mode', 'pod', '--pod-netns', world.pod.name!];
      expect((await ambient(['rules', 'apply', ...args])).code).toBe(0);
      const talk = await Talk.open('out', world.pod, WORLD.v4);
      const { code, stdout } = await ambient(['rules', 'remove', ...args, '--drain', '0', '--json']);
      expect([code, JSON.parse(stdout)]).toEqual([0, { ok: true, cut: 1 }]);
      expect(await stuck([talk])).toHaveLength(1);
    });
  });

  it('says what the kernel refused: exit 1, as JSON too', async () => {
    await withNamespaces(['node', 'ztunnel'], async (node, ztunnel) => {
      const args = at(node, ztunnel);
      const { code, stderr } = await ambient(['rules', 'apply', ...args]);
      expect(code).toBe(1);
      expect(stderr).toContain('ztunnel: sysctl net.ipv4.conf.eth0.rp_filter = 0');
      expect(stderr).toContain('everything is as it was before');
      const { stdout } = await ambient(['rules', 'apply', ...args, '--json']);
      expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { code: 'ERR_REDIRECTION_FAILED' } });
      const gone = await ambient(['rules', 'apply', ...mode, '--ztunnel-netns', 'akt-no-such-namespace']);
      expect(gone.code).toBe(2);
      expect(gone.stderr).toContain('/run/netns/akt-no-such-namespace');
    });
  });

  it('watches: repairs what is flushed, one JSON line an event, and ends well by SIGTERM with the rules in force', async () => {
    await withNode(async (node, ztunnel) => {
      const args = at(node, ztunnel);
      const child = spawn(process.execPath, [entry, 'rules', 'watch', ...args, '--json'], { timeout: 30_000 });
      const lines: { type: string; reason?: string }[] = [];
      let buffered = '';
      let changed = () => {};
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        buffered += text;
        const complete = buffered.split('\n');
        buffered = complete.pop()!;
        lines.push(...complete.map((line) => JSON.parse(line)));
        changed();
      });
      const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
      using netlink = openNetlink({ family: 'netfilter', namespace: node });
      while (listTables(netlink).length === 0 && child.exitCode === null)
        await new Promise((done) => setTimeout(done, 50));
      // Applied; the watch begins in the same turn of its event loop.
      await new Promise((done) => setTimeout(done, 300));
      runIn(node, 'nft', 'flush', 'ruleset');
      await new Promise<void>((resolve) => {
        changed = () => lines.length > 0 && resolve();
        changed();
        void ended.then(() => resolve());
      });
      child.kill('SIGTERM');
      expect(await ended).toBe(0);
      expect(lines.map(({ type }) => type)).toEqual(['repaired', 'ended']);
      expect((await ambient(['rules', 'verify', ...args])).code).toBe(0);
    });
  });

  it('watches no longer where a namespace is gone: exit 1, and says which', async () => {
    await withNode(async (node, ztunnel) => {
      const child = spawn(process.execPath, [entry, 'rules', 'watch', ...at(node, ztunnel)], { timeout: 30_000 });
      let stdout = '';
      const watched = new Promise<void>((resolve) => {
        child.stdout.setEncoding('utf8').on('data', (text: string) => {
          stdout += text;
          if (stdout.includes('and watched')) resolve();
        });
      });
      const ended = once(child, 'close');
      await Promise.race([watched, ended]);
      deleteNamespace(ztunnel.name!);
      expect((await ended)[0]).toBe(1);
      expect(stdout).toMatch(/ztunnel is in force, and watched\n.* ended: namespace-gone \(ztunnel\)\n$/);
    });
  });
});
