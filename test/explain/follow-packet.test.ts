import { spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { expect, it, vi } from 'vitest';
import { followPacket, formatJourney, isWhole, type Journey } from '../../src/explain/index.ts';
import { createLab, twoNodes } from '../../src/lab/index.ts';
import { deleteNamespace, type NetworkNamespace, openNamespace, writeSysctl } from '../../src/netns/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn, vethPair, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring, run } from '../support/require.ts';
import { NftTrace, TRACE_TABLE } from './nft-trace.ts';
import { load, rulesCounted, send } from './rules-met.ts';

const needs = { root: true, tools: ['nft', 'ip', 'bash', 'stdbuf'] };

function rulesOf({ explanation }: Journey['hops'][number]): string[] {
  return explanation.steps.flatMap((step) =>
    step.kind === 'rule' && step.verdict !== 'break' && step.table.name !== TRACE_TABLE
      ? [`${step.comment} ${step.verdict}`]
      : [],
  );
}

/** `family table chain handle` of the rules with counters that a journey meets in a namespace. */
function countedBy(journey: Journey, label: string): string[] {
  const met = journey.hops
    .filter(({ namespace }) => namespace === label)
    .flatMap(({ explanation }) => explanation.steps)
    .filter((step) => step.kind === 'rule')
    .filter(({ verdict, counter }) => verdict !== 'break' && counter !== undefined);
  return [...new Set(met.map(({ table, chain, handle }) => `${table.family} ${table.name} ${chain} ${handle}`))].sort();
}

describeRequiring('followPacket in a lab', needs, () => {
  it('a pod to a ClusterIP: the pod, its node, the proxy; each as nft monitor trace has it', {
    timeout: 60_000,
  }, async () => {
    await using lab = await createLab(twoNodes(`akt-${process.pid}-follow-`));
    const traces: NftTrace[] = [];
    for (const name of ['node-a', 'ztunnel-a']) traces.push(await NftTrace.open(lab.namespace(name)));
    const server = await listen({
      namespace: lab.namespace('ztunnel-a'),
      host: '127.0.0.1',
      port: 15001,
      transparent: true,
    });
    server.on('connection', (socket) => socket.on('error', () => {}).destroy());
    const source = { ip: '10.244.1.10', port: 41_000 };
    const packet = {
      source: source.ip,
      sourcePort: source.port,
      destination: '10.96.0.105',
      destinationPort: 80,
      protocol: 'tcp',
    } as const;
    const pod = lab.namespace('sleep');
    const journey = followPacket(pod, packet);
    for (const trace of traces) trace.clear();
    const socket = await connect({ namespace: pod, host: '10.96.0.105', port: 80, source, timeoutMs: 2000 }).catch(
      () => undefined,
    );
    socket?.on('error', () => {}).destroy();
    const seen = [];
    for (const trace of traces)
      seen.push(await trace.packet({ 'ip saddr': source.ip, 'tcp sport': '41000', 'tcp dport': '80' }));
    for (const trace of traces) trace.close();
    server.close();
    expect(journey.hops.map(({ namespace }) => namespace)).toEqual([
      pod.name,
      lab.namespace('node-a').name,
      lab.namespace('ztunnel-a').name,
    ]);
    expect(journey.hops.slice(1).map(rulesOf)).toEqual(seen.map(({ rules }) => rules));
    expect(seen.map(({ last }) => last?.hook)).toEqual(['postrouting', 'input']);
    expect(journey.last).toEqual({ kind: 'delivered', ip: '127.0.0.1', port: 15001, tproxy: true, listening: true });
    expect(journey.ending).toEqual({ kind: 'settled' });
    expect(isWhole(journey)).toBe(true);
    expect(formatJourney(journey)).toContain(
      `⇢ veth: eth0 is one end, vethsleep in ${lab.namespace('node-a').name} the other\n`,
    );
  });
});

/** A node with two pods at a bridge that has an address, as CNIs make it. */
async function withBridge(
  body: (node: NetworkNamespace, a: NetworkNamespace, b: NetworkNamespace) => void | Promise<void>,
): Promise<void> {
  await withNamespaces(['follow-node', 'follow-a', 'follow-b'], async (node, a, b) => {
    for (const one of [node, a, b]) writeSysctl(one, 'net.ipv6.conf.default.disable_ipv6', 1);
    runIn(node, 'ip', 'link', 'add', 'cni0', 'type', 'bridge');
    runIn(node, 'ip', 'address', 'add', '10.5.0.1/24', 'dev', 'cni0');
    for (const [pod, name, ip] of [
      [a, 'va', '10.5.0.2'],
      [b, 'vb', '10.5.0.3'],
    ] as const) {
      vethPair(
        { namespace: node, device: name, addresses: [] },
        { namespace: pod, device: 'eth0', addresses: [`${ip}/24`] },
      );
      runIn(node, 'ip', 'link', 'set', name, 'master', 'cni0');
      runIn(pod, 'ip', 'route', 'add', 'default', 'via', '10.5.0.1');
      load(pod, COUNTING);
    }
    runIn(node, 'ip', 'link', 'set', 'cni0', 'up');
    writeSysctl(node, 'net.ipv4.ip_forward', 1);
    load(node, COUNTING);
    await body(node, a, b);
  });
}

const COUNTING = `table ip t {
  chain pre { type filter hook prerouting priority -300; counter; }
  chain passing { type filter hook forward priority 0; iifname "cni0" oifname "cni0" counter; counter; }
  chain in { type filter hook input priority 0; counter; }
  chain post { type filter hook postrouting priority 300; oifname "cni0" counter; counter; }
  chain translating { type nat hook prerouting priority -100; udp dport 53 counter dnat to 10.5.0.3; udp dport 54 counter dnat to 10.5.0.1; }
}`;

describeRequiring('followPacket over a bridge', needs, () => {
  const between = { source: '10.5.0.2', destination: '10.5.0.3', destinationPort: 9, protocol: 'udp' } as const;

  it('from port to port, by address and then by the forwarding table; the bridge’s namespace sees nothing', async () => {
    await withBridge((node, a, b) => {
      writeSysctl(node, 'net.bridge.bridge-nf-call-iptables', 0);
      const journey = followPacket(a, between);
      expect(journey.hops.map(({ namespace }) => namespace)).toEqual([a.name, b.name]);
      expect(journey.hops[0]!.passages).toContainEqual({
        kind: 'bridge',
        bridge: 'cni0',
        port: 'vb',
        because: 'address',
      });
      expect(journey.last).toMatchObject({ kind: 'delivered', ip: '10.5.0.3', port: 9 });
      runIn(a, 'ip', 'neighbour', 'flush', 'all');
      expect(rulesCounted(node, () => send(a, 'udp', '10.5.0.3', 9))).toEqual([]);
      const again = followPacket(a, between);
      expect(again.hops[0]!.passages).toContainEqual({
        kind: 'bridge',
        bridge: 'cni0',
        port: 'vb',
        because: 'forwarding table',
      });
      const inB = rulesCounted(b, () => send(a, 'udp', '10.5.0.3', 9));
      // What b answers with (port unreachable) is counted where it leaves.
      expect(inB.filter((name) => !name.includes(' post '))).toEqual(countedBy(again, b.name!));
    });
  });

  it('with bridge-nf-call-iptables, the rules of the bridge’s namespace count it as they are said to', async () => {
    await withBridge((node, a, b) => {
      writeSysctl(node, 'net.bridge.bridge-nf-call-iptables', 1);
      const journey = followPacket(a, between);
      expect(journey.hops.map(({ namespace, explanation }) => [namespace, explanation.ending.kind])).toEqual([
        [a.name, 'sent'],
        [node.name, 'bridged'],
        [b.name, 'delivered'],
      ]);
      const counted = rulesCounted(node, () => send(a, 'udp', '10.5.0.3', 9));
      expect(counted).toEqual(countedBy(journey, node.name!));
      expect(counted).toHaveLength(5);

      // Given the bridge's own address on the way, it is not passed on.
      const taken = followPacket(a, { ...between, destinationPort: 54 });
      expect(taken.hops.map(({ namespace }) => namespace)).toEqual([a.name, node.name]);
      expect(taken.last).toMatchObject({ kind: 'delivered', ip: '10.5.0.1', port: 54 });
      const delivered = rulesCounted(node, () => send(a, 'udp', '10.5.0.3', 54));
      // What the node answers with (port unreachable) is counted where it leaves.
      expect(delivered.filter((name) => !name.includes(' post '))).toEqual(countedBy(taken, node.name!));
    });
  });

  it('to an address of the bridge it is routed, and DNAT sends it back through the bridge', async () => {
    await withBridge((node, a, b) => {
      const toNode = { ...between, destination: '10.5.0.1', destinationPort: 53 };
      const journey = followPacket(a, toNode);
      expect(journey.hops.map(({ namespace }) => namespace)).toEqual([a.name, node.name, b.name]);
      expect(journey.hops[1]!.explanation.packet.device).toBe('cni0');
      const counted = rulesCounted(node, () => send(a, 'udp', '10.5.0.1', 53));
      expect(counted).toEqual(countedBy(journey, node.name!));
      expect(journey.last).toMatchObject({ kind: 'delivered', ip: '10.5.0.3' });
      expect(followPacket(a, { ...between, destination: '10.5.0.1' }).hops.map(({ namespace }) => namespace)).toEqual([
        a.name,
        node.name,
      ]);
    });
  });

  it('nobody has the address: it cannot be followed, and says so', async () => {
    await withBridge((node, a) => {
      writeSysctl(node, 'net.bridge.bridge-nf-call-iptables', 0);
      const journey = followPacket(a, { ...between, destination: '10.5.0.77' });
      expect(journey.ending).toEqual({
        kind: 'lost',
        reason: `behind which port of the bridge cni0 in ${node.name} 10.5.0.77 is`,
      });
      expect(isWhole(journey)).toBe(false);
    });
  });

  it('where the kernel throws dice, one way is followed, and that is said', async () => {
    await withBridge(async (node, a, b) => {
      load(
        a,
        'table ip dice {\n  chain out { type nat hook output priority -100; dnat to numgen random mod 2 map { 0 : 10.5.0.3, 1 : 10.5.0.1 }; }\n}',
      );
      const journey = followPacket(a, { ...between, destination: '10.99.0.1' });
      expect(journey.hops[0]!.explanation.otherwise).toHaveLength(1);
      expect(journey.hops.at(-1)).toMatchObject({ namespace: b.name, explanation: { destination: '10.5.0.3' } });
      const other = followPacket(a, { ...between, destination: '10.99.0.1' }, { way: 2 });
      expect(other.hops[0]!.explanation.otherwise).toMatchObject([{ destination: '10.5.0.3' }]);
      expect(other.hops.at(-1)).toMatchObject({ namespace: node.name, explanation: { destination: '10.5.0.1' } });
      // Both anew, until the bridge has learnt what it learns meanwhile: a third way there is not.
      await vi.waitFor(() => {
        const first = followPacket(a, { ...between, destination: '10.99.0.1' });
        expect(followPacket(a, { ...between, destination: '10.99.0.1' }, { way: 3 }).hops).toEqual(first.hops);
      });
      expect(formatJourney(journey)).toContain('⇢ of these 2 ways, the one told first is followed\n⇢ veth: eth0');
    });
  });

  it('into a namespace that has no name but a process; with neither, that is said', async () => {
    await withBridge((node, a) => {
      const child = spawn('unshare', ['-n', 'sleep', '30'], { stdio: 'ignore' });
      const netns = `/proc/${child.pid}/ns/net`;
      try {
        while (readlinkSync(netns) === readlinkSync('/proc/self/ns/net')) runIn(node, 'sleep', '0.05');
        runIn(node, 'ip', 'link', 'add', 'vc', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(child.pid));
        runIn(node, 'ip', 'link', 'set', 'vc', 'up');
        runIn(node, 'ip', 'route', 'add', '10.8.0.2', 'dev', 'vc');
        using inside = openNamespace(netns);
        runIn(inside, 'ip', 'address', 'add', '10.8.0.2/32', 'dev', 'eth0');
        runIn(inside, 'ip', 'link', 'set', 'eth0', 'up');
        const packet = { source: '10.5.0.2', destination: '10.8.0.2', destinationPort: 9, protocol: 'udp' } as const;
        const journey = followPacket(a, packet);
        expect(journey.hops.map(({ namespace }) => namespace)).toEqual([a.name, node.name, netns]);
        expect(journey.last).toMatchObject({ kind: 'delivered', ip: '10.8.0.2', port: 9, listening: false });
        deleteNamespace(a.name!);
        const back = followPacket(
          node,
          { ...packet, source: '10.5.0.1', destination: '10.5.0.2' },
          { maxNamespaces: 1024 },
        );
        expect(back.ending).toMatchObject({ kind: 'lost' });
      } finally {
        child.kill('SIGKILL');
      }
    });
  });

  it('stops at its limit of hops', async () => {
    await withBridge((_node, a) => {
      const journey = followPacket(a, between, { maxHops: 1 });
      expect(journey.hops).toHaveLength(1);
      expect(journey.ending).toMatchObject({ kind: 'lost', reason: expect.stringContaining('only 1 ') });
      expect(() => followPacket(a, between, { maxHops: 0 })).toThrow(
        expect.objectContaining({ code: 'ERR_EXPLAIN_INVALID', field: 'maxHops' }),
      );
    });
  });
});

/** Every kernel that this runs on has vxlan; geneve goes the same way through the code. */
function canMake(kind: string): boolean {
  try {
    run('unshare', '-n', 'ip', 'link', 'add', 'tun0', 'type', kind, 'id', '1', 'remote', '10.0.0.1');
    return true;
  } catch {
    return false;
  }
}

describeRequiring('followPacket through a tunnel', needs, () => {
  it.each(canMake('geneve') ? ['vxlan', 'geneve'] : ['vxlan'])(
    '%s: in, its own packet, out; the rules on the way count both',
    async (kind) => {
      await withNamespaces(['follow-left', 'follow-right'], (left, right) => {
        for (const one of [left, right]) writeSysctl(one, 'net.ipv6.conf.default.disable_ipv6', 1);
        vethPair(
          { namespace: left, device: 'eth0', addresses: ['10.6.0.1/24'] },
          { namespace: right, device: 'eth0', addresses: ['10.6.0.2/24'] },
        );
        for (const [one, own, other] of [
          [left, '1', '2'],
          [right, '2', '1'],
        ] as const) {
          const port = kind === 'vxlan' ? ['dstport', '4789'] : [];
          runIn(one, 'ip', 'link', 'add', 'tun0', 'type', kind, 'id', '77', 'remote', `10.6.0.${other}`, ...port);
          runIn(one, 'ip', 'address', 'add', `10.7.0.${own}/24`, 'dev', 'tun0');
          runIn(one, 'ip', 'link', 'set', 'tun0', 'up');
          load(
            one,
            `table ip t {
  chain out { type filter hook output priority 0; udp dport { 6081, 4789 } counter; udp dport 9 counter meta mark set 0x7; meta mark 0x7 udp dport != 9 counter; }
  chain in { type filter hook input priority 0; udp dport { 6081, 4789 } meta mark 0 counter meta mark set 0x5; udp dport 9 meta mark 0x5 counter; }
}`,
          );
        }
        // So that no ARP through the tunnel is counted.
        send(left, 'udp', '10.7.0.2', 10);
        const packet = { source: '10.7.0.1', destination: '10.7.0.2', destinationPort: 9, protocol: 'udp' } as const;
        const journey = followPacket(left, packet);
        expect(journey.hops.map(({ namespace, tunnels }) => [namespace, tunnels])).toEqual([
          [left.name, 0],
          [left.name, 1],
          [right.name, 1],
          [right.name, 0],
        ]);
        expect(journey.last).toMatchObject({ kind: 'delivered', ip: '10.7.0.2', port: 9 });
        let inRight: string[] = [];
        const inLeft = rulesCounted(left, () => {
          inRight = rulesCounted(right, () => send(left, 'udp', '10.7.0.2', 9)).filter((name) => name.includes(' in '));
        });
        expect(inLeft.filter((name) => name.includes(' out '))).toEqual(
          countedBy(journey, left.name!).filter((name) => name.includes(' out ')),
        );
        expect(inRight).toEqual(countedBy(journey, right.name!));
        expect(inRight).toHaveLength(2);
      });
    },
  );
});
