/**
 * Node mode, trap 3: what is open when its pod is enrolled goes on past the proxy, and nothing else does. That it breaks without the
 * rules between 13 and 14 is in traps.test.ts.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { listConntrack } from '../../src/netlink/conntrack/index.ts';
import { openNetlink } from '../../src/netlink/index.ts';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { apply, countsBetween, type Redirection } from '../../src/redirection/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { withoutRule } from './edit-plan.ts';
import { loadRendering, renderings, renderingTools } from './load-rendering.ts';
import { FAR, HTTPBIN, OUTSIDE, PLAIN, SLEEP, type Topology, VIP, withTopology } from './topology.ts';

const needs = { root: true, tools: ['ip', 'nft', 'conntrack', ...renderingTools] };
/** Of servers here; the topology's own have 80 and 8080. */
const PORT = 9000;

/** A connection with both of its ends in hand, so that either can speak first. */
interface Line {
  readonly what: string;
  readonly client: Socket;
  readonly server: Socket;
}

interface Ends {
  readonly from: NetworkNamespace;
  readonly ip: string;
  readonly to: NetworkNamespace;
  readonly port?: number;
}

async function withLines(body: (t: Topology, open: (what: string, ends: Ends) => Promise<Line>) => Promise<void>) {
  const closing: (() => void)[] = [];
  const servers = new Map<NetworkNamespace, Awaited<ReturnType<typeof listen>>>();
  await withTopology(async (t) => {
    // The service on this port too, wherever a node is on the way.
    for (const { namespace } of [t.a, t.b]) {
      runIn(
        namespace,
        'nft',
        'add table ip service; add chain ip service p { type nat hook prerouting priority -100; }',
      );
      runIn(namespace, 'nft', `add rule ip service p ip daddr ${VIP} tcp dport ${PORT} dnat to ${HTTPBIN}`);
    }
    runIn(t.outside, 'ip', 'route', 'add', VIP, 'via', t.b.hostIp);
    const open = async (what: string, { from, ip, to, port = PORT }: Ends): Promise<Line> => {
      let server = servers.get(to);
      if (server === undefined) {
        server = await listen({ namespace: to, host: '0.0.0.0', port });
        servers.set(to, server);
      }
      const accepted = once(server, 'connection');
      const client = await connect({ namespace: from, host: ip, port, timeoutMs: 3000 });
      client.on('error', () => {});
      closing.push(() => client.destroy());
      // A proxy connects onward when it has been told something.
      client.write('a first word\n');
      const [peer] = (await accepted) as [Socket];
      peer.on('error', () => {});
      closing.push(() => peer.destroy());
      await once(peer, 'data');
      const line = { what, client, server: peer };
      expect(await speak(line, 'server')).toEqual([]);
      return line;
    };
    try {
      await body(t, open);
    } finally {
      for (const close of closing) close();
      for (const server of servers.values()) server.close();
    }
  });
}

/** Who says something first, and whether the other hears it; then the other way. What went wrong, or nothing. */
async function speak({ what, client, server }: Line, first: 'client' | 'server'): Promise<string[]> {
  const order = first === 'server' ? [server, client] : [client, server];
  const failed: string[] = [];
  for (const [i, speaker] of order.entries()) {
    const heard = await hears(speaker, order[1 - i]!);
    if (heard !== 'heard') failed.push(`${what}: ${speaker === client ? 'client' : 'server'} ${heard}`);
  }
  return failed;
}

async function hears(speaker: Socket, listener: Socket): Promise<string> {
  const limit = AbortSignal.timeout(900);
  try {
    const heard = once(listener, 'data', { signal: limit });
    speaker.write('a word\n');
    await heard;
    return 'heard';
  } catch {
    return listener.destroyed ? 'closed' : 'not heard';
  }
}

/** Every way in which a connection of an enrolled pod can come about, by the pod's node: DNAT, masquerade, neither. */
const ways = (t: Topology): readonly (readonly [string, Ends])[] => [
  ['a: out, direct', { from: t.sleep, ip: HTTPBIN, to: t.httpbin }],
  ['a: out, by the service', { from: t.sleep, ip: VIP, to: t.httpbin }],
  ['a: out, masqueraded', { from: t.sleep, ip: FAR, to: t.outside }],
  ['a: in, from outside', { from: t.outside, ip: SLEEP, to: t.sleep }],
  ['a: in, from its own node', { from: t.a.namespace, ip: SLEEP, to: t.sleep }],
  ['a: out, to its own node', { from: t.sleep, ip: t.a.hostIp, to: t.a.namespace }],
  ['a: between pods of the node', { from: t.plain, ip: SLEEP, to: t.sleep }],
  ['b: in, by the service', { from: t.outside, ip: VIP, to: t.httpbin }],
  ['b: in, by the service, from its own node', { from: t.b.namespace, ip: HTTPBIN, to: t.httpbin }],
];

async function openAll(t: Topology, open: (what: string, ends: Ends) => Promise<Line>): Promise<Line[]> {
  const lines: Line[] = [];
  for (const [what, ends] of ways(t)) lines.push(await open(what, ends));
  return lines;
}

async function brokenAmong(lines: readonly Line[], first: 'client' | 'server'): Promise<string[]> {
  return (await Promise.all(lines.map((line) => speak(line, first)))).flat();
}

function count(redirection: Redirection, id: string): number {
  return redirection.readBack().rules.find((rule) => rule.id === id)!.packets;
}

/** Proxies that take no part: what comes to them is the failure. */
async function proxies(t: Topology) {
  const [a, b] = [await t.proxy(t.a), await t.proxy(t.b)];
  return () => [...a.accepted, ...b.accepted].map(({ port, target }) => `${port} ${target}`);
}

describeRequiring('connections that are open when their pod is enrolled', needs, () => {
  describe.each(['client', 'server'] as const)('and idle, until the %s speaks', (first) => {
    it('go on past the proxy, by a plan that is put in force with the pod', async () => {
      await withLines(async (t, open) => {
        const accepted = await proxies(t);
        const lines = await openAll(t, open);
        for (const node of [t.a, t.b]) apply(t.plan(node), t.namespaces(node)).close();
        expect(await brokenAmong(lines, first)).toEqual([]);
        expect(await brokenAmong(lines, first)).toEqual([]);
        expect(accepted()).toEqual([]);
        using netlink = openNetlink({ family: 'netfilter', namespace: t.a.namespace });
        const marks = listConntrack(netlink, { family: 4, original: { destinationPort: PORT } }).map(
          ({ mark }) => mark,
        );
        expect(new Set(marks)).toEqual(new Set([0]));
      });
    });

    it('go on past the proxy, by addPod()', async () => {
      await withLines(async (t, open) => {
        const accepted = await proxies(t);
        const inForce = [t.a, t.b].map((node) => apply(t.plan(node, { pods: [] }), t.namespaces(node)));
        const lines = await openAll(t, open);
        inForce[0]!.addPods(t.a.pods);
        inForce[1]!.addPods(t.b.pods);
        expect(await brokenAmong(lines, first)).toEqual([]);
        expect(accepted()).toEqual([]);
        for (const redirection of inForce) redirection.close();
      });
    });

    it('go on when the pod is taken out and put in again, and those of the time between too', async () => {
      await withLines(async (t, open) => {
        const accepted = await proxies(t);
        using a = apply(t.plan(t.a), t.namespaces(t.a));
        a.removePod(SLEEP);
        const between = await open('between', { from: t.sleep, ip: FAR, to: t.outside });
        a.addPod(t.a.pods[0]!);
        expect(await speak(between, first)).toEqual([]);
        a.remove();
        const removed = await open('without rules', { from: t.sleep, ip: FAR, to: t.outside });
        apply(t.plan(t.a), t.namespaces(t.a)).close();
        expect(await brokenAmong([between, removed], first)).toEqual([]);
        expect(accepted()).toEqual([]);
      });
    });
  });

  it.each(renderings)('go on past the proxy, by a plan that is loaded by %s', async (rendering) => {
    await withLines(async (t, open) => {
      const accepted = await proxies(t);
      const lines = await openAll(t, open);
      // Routes come ahead of the rules here: an ACK that was put off would go to the proxy between them.
      await sleep(150);
      for (const node of [t.a, t.b]) loadRendering(rendering, t.plan(node), t.namespaces(node), { noNat: 'netmap' });
      expect(await brokenAmong(lines, 'server')).toEqual([]);
      expect(await brokenAmong(lines, 'client')).toEqual([]);
      expect(accepted()).toEqual([]);
    });
  });

  it('are no captured ones, which go on by the proxy when the rules were flushed and are back', async () => {
    await withLines(async (t, open) => {
      const accepted = await proxies(t);
      const spared = await open('spared', { from: t.sleep, ip: FAR, to: t.outside });
      using a = apply(t.plan(t.a), t.namespaces(t.a));
      const captured = await open('captured', { from: t.sleep, ip: FAR, to: t.outside });
      // Else an ACK that was put off would meet no rules, and go to the server.
      await sleep(150);
      runIn(t.a.namespace, 'nft', 'delete table ip ztunnel-mangle; delete table ip ztunnel-nat');
      apply(a.plan, t.namespaces(t.a)).close();
      expect(await brokenAmong([captured, spared], 'server')).toEqual([]);
      expect(await brokenAmong([captured, spared], 'client')).toEqual([]);
      expect(accepted()).toEqual([`15001 ${FAR}:${PORT}`]);
    });
  });

  // With the client first: a server's packet to a masqueraded client finds nobody when connection tracking has forgotten the client.
  it('are no captured ones, which go on by the proxy when connection tracking has forgotten them', async () => {
    await withLines(async (t, open) => {
      const accepted = await proxies(t);
      using a = apply(t.plan(t.a), t.namespaces(t.a));
      const out = await open('out', { from: t.sleep, ip: FAR, to: t.outside });
      const into = await open('in', { from: t.outside, ip: SLEEP, to: t.sleep });
      expect(accepted()).toHaveLength(2);
      runIn(t.a.namespace, 'conntrack', '-F');
      for (let i = 0; i < 3; i++) expect(await brokenAmong([out, into], 'client')).toEqual([]);
      expect(await brokenAmong([out, into], 'server')).toEqual([]);
      expect(accepted()).toHaveLength(2);
      // Rule 10 and the saves have told connection tracking again.
      expect(count(a, 'prerouting-open-1') + count(a, 'prerouting-open-2')).toBe(0);
    });
  });

  it('half way: the answer to a SYN comes to the pod, and the connection goes on', async () => {
    await withLines(async (t, open) => {
      const accepted = await proxies(t);
      runIn(t.outside, 'nft', 'add table ip hold; add chain ip hold o { type filter hook output priority 0; }');
      runIn(t.outside, 'nft', `add rule ip hold o tcp sport ${PORT} tcp flags & (syn | ack) == (syn | ack) drop`);
      // The pod says it once: said again, it would be captured, as the next test has it.
      runIn(t.sleep, 'nft', 'add table ip once; add chain ip once o { type filter hook output priority 0; }');
      runIn(
        t.sleep,
        'nft',
        'add rule ip once o tcp flags & (syn | ack) == syn limit rate over 1/hour burst 1 packets drop',
      );
      const opening = open('half', { from: t.sleep, ip: FAR, to: t.outside });
      await sleep(200);
      using a = apply(t.plan(t.a), t.namespaces(t.a));
      runIn(t.outside, 'nft', 'delete table ip hold');
      const line = await opening;
      expect(await speak(line, 'client')).toEqual([]);
      expect(accepted()).toEqual([]);
      expect(count(a, 'prerouting-open-1')).toBeGreaterThan(1);
    });
  });

  it('half way: a SYN that is said again is captured', async () => {
    await withLines(async (t, open) => {
      const accepted = await proxies(t);
      runIn(t.outside, 'nft', 'add table ip hold; add chain ip hold i { type filter hook input priority 0; }');
      runIn(t.outside, 'nft', `add rule ip hold i tcp dport ${PORT} drop`);
      const opening = open('half', { from: t.sleep, ip: FAR, to: t.outside });
      await sleep(200);
      apply(t.plan(t.a), t.namespaces(t.a)).close();
      runIn(t.outside, 'nft', 'delete table ip hold');
      expect(await speak(await opening, 'client')).toEqual([]);
      expect(accepted()).toEqual([`15001 ${FAR}:${PORT}`]);
    });
  });

  it('are no captured ones, and a drain does not wait for them', async () => {
    await withLines(async (t, open) => {
      await proxies(t);
      const spared = await open('spared', { from: t.sleep, ip: FAR, to: t.outside });
      using a = apply(t.plan(t.a), t.namespaces(t.a));
      const captured = await open('captured', { from: t.sleep, ip: FAR, to: t.outside });
      expect(await speak(spared, 'server')).toEqual([]);
      const counts: number[] = [];
      const drained = a.drainAndRemove({ pollMs: 10, onOpen: (open) => counts.push(open) });
      expect(await brokenAmong([spared, captured], 'client')).toEqual([]);
      captured.client.destroy();
      // The captured connection is two to connection tracking: the pod's and the proxy's.
      expect(await drained).toMatchObject({ open: 2, cut: 0 });
      expect(await speak(spared, 'client')).toEqual([]);
    });
  });

  it('get the errors about them: an ICMP message goes to the pod', async () => {
    await withLines(async (t, open) => {
      await proxies(t);
      const line = await open('out', { from: t.sleep, ip: FAR, to: t.outside });
      apply(t.plan(t.a), t.namespaces(t.a)).close();
      runIn(t.sleep, 'nft', 'add table ip seen; add chain ip seen i { type filter hook input priority 0; }');
      runIn(t.sleep, 'nft', 'add rule ip seen i icmp type destination-unreachable counter');
      runIn(t.outside, 'nft', 'add table ip refuse; add chain ip refuse i { type filter hook input priority 0; }');
      runIn(t.outside, 'nft', `add rule ip refuse i tcp dport ${PORT} reject with icmp host-unreachable`);
      line.client.write('a word\n');
      await sleep(100);
      expect(runIn(t.sleep, 'nft', 'list table ip seen')).toMatch(/counter packets [1-9]/);
    });
  });
});

describeRequiring('rules for what is open when its pod is enrolled', needs, () => {
  /** What is left of connections that ended without a word: their pod is gone, and another has its address. */
  function remember(
    namespace: NetworkNamespace,
    from: string,
    to: string,
    sourcePort: number,
    destinationPort: number,
  ) {
    const tuple = ['-s', from, '-d', to, '-p', 'tcp', '--sport', `${sourcePort}`, '--dport', `${destinationPort}`];
    runIn(namespace, 'conntrack', '-I', ...tuple, '--state', 'ESTABLISHED', '-u', 'SEEN_REPLY', '-t', '600');
  }

  it.each([
    ['are for no SYN: a new connection in the place of an old one is captured', true],
    ['would let it pass the proxy by otherwise', false],
  ])('%s', async (_what, whole) => {
    await withLines(async (t) => {
      const accepted = await proxies(t);
      const plan = t.plan(t.a);
      apply(whole ? plan : withoutRule(plan, 'prerouting-open-3'), t.namespaces(t.a)).close();
      remember(t.a.namespace, SLEEP, FAR, 40_001, 8080);
      remember(t.a.namespace, OUTSIDE, SLEEP, 40_002, 80);
      expect(await t.ask(t.sleep, FAR, 8080, { source: { ip: SLEEP, port: 40_001 } })).toBe(whole ? t.a.hostIp : SLEEP);
      expect(await t.ask(t.outside, SLEEP, 80, { source: { ip: OUTSIDE, port: 40_002 } })).toBe(OUTSIDE);
      expect(accepted()).toEqual(whole ? [`15001 ${FAR}:8080`, `15006 ${SLEEP}:80`] : []);
    });
  });

  it('are for enrolled pods alone: what others have open keeps to the policy rules of others', async () => {
    await withLines(async (t, open) => {
      const node = t.a.namespace;
      const beyond = '198.51.100.1';
      runIn(t.outside, 'ip', 'address', 'add', `${beyond}/32`, 'dev', 'lo');
      // As a CNI does that gives pods a way of their own: by the main table there is none.
      runIn(node, 'ip', 'route', 'add', 'unreachable', '198.51.100.0/24');
      runIn(node, 'ip', 'route', 'add', 'default', 'via', OUTSIDE, 'table', '500');
      runIn(node, 'ip', 'rule', 'add', 'pref', '1000', 'from', PLAIN, 'lookup', '500');
      const lines = [await open('before', { from: t.plain, ip: beyond, to: t.outside })];
      using a = apply(t.plan(t.a), t.namespaces(t.a));
      lines.push(await open('after', { from: t.plain, ip: beyond, to: t.outside }));
      const before = a.readBack();
      expect(await brokenAmong(lines, 'client')).toEqual([]);
      expect(await brokenAmong(lines, 'server')).toEqual([]);
      expect(countsBetween(before, a.readBack()).map(({ id }) => id)).toEqual([]);
    });
  });
});
