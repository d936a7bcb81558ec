/** Taking a redirection away while what it captured is open. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { IPS_DST_NAT, IPS_SEEN_REPLY, IPS_SRC_NAT, listConntrack } from '../../src/netlink/conntrack/index.ts';
import { openNetlink } from '../../src/netlink/index.ts';
import { type NetworkNamespace, readSysctl } from '../../src/netns/index.ts';
import { capturedBy, capturedFilters, drainingPlan } from '../../src/redirection/draining.ts';
import {
  apply,
  drainAndRemove,
  hostProbes,
  INPOD_TPROXY_MARK,
  nodeMode,
  PROBE_IP,
  podMode,
  type Redirection,
  remove,
  verify,
  watch,
} from '../../src/redirection/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { POD, type PodWithProxy, WORLD, withPodProxy } from './pod-proxy.ts';
import { stuck, Talk } from './talk.ts';
import { CLIENT2, FAR, PLAIN, SLEEP, VIP, withTopology } from './topology.ts';

const node = nodeMode({
  hostIp: '172.18.0.2',
  ztunnelIp: '10.244.1.2',
  ztunnelVeth: 'vethza',
  pods: [{ ip: SLEEP, veth: 'vethsleep' }],
});

describe('drainingPlan', () => {
  it.each([
    ['redirect', podMode()],
    ['tproxy', podMode({ inbound: 'tproxy', virtualInterfaces: ['vm0'] })],
  ])('of a pod (%s) captures nothing, and has every rule in its place', (_inbound, plan) => {
    const draining = drainingPlan(plan);
    const rules = draining.sides.flatMap(({ chains }) => chains.flatMap((chain) => chain.rules));
    const before = plan.sides.flatMap(({ chains }) => chains.flatMap((chain) => chain.rules));
    expect(rules.map(({ id }) => id)).toEqual(before.map(({ id }) => id));
    for (const [i, rule] of rules.entries()) {
      if (!['redirect', 'tproxy'].includes(before[i]!.action.do)) expect(rule).toBe(before[i]);
      else {
        expect(rule.action).toEqual({ do: 'accept' });
        expect(rule.matches.at(-1)).toEqual({ on: 'established' });
      }
    }
    expect(before.filter(({ action }) => action.do === 'redirect').length).toBeGreaterThan(2);
  });

  it('of a node or its probes has the rules as they are, and no pod', () => {
    for (const plan of [node, hostProbes({ pods: [{ ip: SLEEP }] })]) {
      const draining = drainingPlan(plan);
      expect(draining.sides).toBe(plan.sides);
      expect(draining.pods).toEqual({ ...plan.pods, list: [] });
    }
  });
});

describe('capturedBy', () => {
  const tcp = { source: '10.1.0.2', destination: '10.1.0.1', protocol: 6, sourcePort: 40000, destinationPort: 80 };
  const back = { source: '10.1.0.1', destination: '10.1.0.2', protocol: 6, sourcePort: 80, destinationPort: 40000 };
  const entry = {
    family: 4,
    original: tcp,
    reply: back,
    status: 0,
    mark: 0,
    zone: 0,
    id: 1,
    tcpState: 'ESTABLISHED',
  } as const;
  const redirected = { status: IPS_DST_NAT, reply: { ...back, source: '127.0.0.1', sourcePort: 15001 } };
  const query = { original: { ...tcp, protocol: 17 }, reply: { ...back, protocol: 17, sourcePort: 15053 } };

  it.each([
    ['a redirected connection', podMode(), redirected, true],
    ['one that another program redirected', podMode(), { ...redirected, reply: back }, false],
    ['a redirected one that has ended', podMode(), { ...redirected, tcpState: 'TIME_WAIT' }, false],
    ['one that was reset', podMode(), { ...redirected, tcpState: 'CLOSE' }, false],
    ['one of which the last ACK is missing', podMode(), { ...redirected, tcpState: 'LAST_ACK' }, true],
    ['the proxy’s own to the application', podMode(), { mark: INPOD_TPROXY_MARK.value }, true],
    ['the proxy’s own to the outside', podMode(), {}, false],
    ['a query without its answer', podMode(), { ...query, status: IPS_DST_NAT, tcpState: undefined }, true],
    ['an answered query', podMode(), { ...query, status: IPS_DST_NAT | IPS_SEEN_REPLY, tcpState: undefined }, false],
    ['a captured connection of a node', node, { mark: 0x210 }, true],
    ['one that was open before its pod was enrolled', node, {}, false],
    ['the proxy’s own of a node', node, { mark: 0x220 }, false],
    ['a tunnel between proxies', node, { mark: 0x210, original: { ...tcp, destinationPort: 15008 } }, false],
    ['a probe', hostProbes(), { status: IPS_SRC_NAT, reply: { ...back, destination: PROBE_IP } }, true],
    ['what a CNI masquerades', hostProbes(), { status: IPS_SRC_NAT }, false],
  ] as const)('%s', (_what, plan, fields, expected) => {
    expect(capturedBy(plan)({ ...entry, ...fields } as never)).toBe(expected);
  });

  it('asks a node’s connection tracking for what has the mark or the address, a pod’s for all', () => {
    expect(capturedFilters(node)).toEqual([{ mark: 0x210, markMask: 0x210 }]);
    const { hostIp, ztunnelIp, ztunnelVeth } = { hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' };
    expect(capturedFilters(nodeMode({ hostIp, ztunnelIp, ztunnelVeth, captureDns: true }))).toEqual([
      { mark: 0x210, markMask: 0x210 },
      { reply: { source: ztunnelIp } },
    ]);
    expect(capturedFilters(hostProbes({ ipv6: false }))[0]).toEqual({ reply: { destination: PROBE_IP } });
    expect(capturedFilters(podMode())).toEqual([{}]);
  });
});

/** What a redirection of a pod could have left: rules, policy rules, and the routes of its table. */
function traces(namespace: NetworkNamespace): string {
  const policy = ['-4', '-6'].map((family) => runIn(namespace, 'ip', family, 'rule'));
  const routes = ['-4', '-6'].map((family) =>
    runIn(namespace, 'ip', family, 'route', 'show', 'table', 'all').match(/^.*table 100\b.*$/gm),
  );
  return [runIn(namespace, 'nft', 'list', 'ruleset'), ...policy, ...routes].join('');
}

/** Two captured connections a family, out of the pod and into it, each proved to go. */
async function captured({ pod, outside, accepted }: PodWithProxy): Promise<Talk[]> {
  const talks: Talk[] = [];
  for (const family of ['v4', 'v6'] as const) {
    talks.push(await Talk.open(`out ${family}`, pod, WORLD[family]));
    talks.push(await Talk.open(`in ${family}`, outside, POD[family]));
  }
  expect(await stuck(talks)).toEqual([]);
  expect(accepted.map(({ port }) => port)).toEqual([15001, 15006, 15001, 15006]);
  return talks;
}

describeRequiring(
  'a pod’s redirection with captured connections under way',
  { root: true, tools: ['ip', 'nft'] },
  () => {
    const variants = [['redirect'], ['tproxy']] as const;

    it.each([
      ['redirect', ['out v4 ECONNRESET', 'in v4 ECONNRESET', 'out v6 ECONNRESET', 'in v6 ECONNRESET']],
      // A connection in by TPROXY is not translated; its other half, with the client's address, finds the proxy no more.
      ['tproxy', ['out v4 ECONNRESET', 'in v4 stands still', 'out v6 ECONNRESET', 'in v6 stands still']],
    ] as const)('breaks them where it is removed at once (%s)', async (inbound, broken) => {
      await withPodProxy(async (world) => {
        const redirection = apply(podMode({ inbound }), { pod: world.pod });
        const talks = await captured(world);
        redirection.remove();
        expect(await stuck(talks)).toEqual(broken);
      });
    });

    it.each(variants)('breaks none where it is drained: %s', async (inbound) => {
      await withPodProxy(async (world) => {
        const { pod, outside, accepted } = world;
        const before = traces(pod);
        const redirection = apply(podMode({ inbound }), { pod });
        const talks = await captured(world);
        const seen: number[] = [];
        const drained = redirection.drainAndRemove({ pollMs: 20, onOpen: (open) => seen.push(open) });
        expect(redirection.draining).toBe(true);
        expect(await stuck(talks)).toEqual([]);
        // New ones go their own way.
        const direct = [await Talk.open('new, out', pod, WORLD.v4), await Talk.open('new, in', outside, POD.v6)];
        expect(await stuck(direct)).toEqual([]);
        expect(accepted).toHaveLength(4);
        talks.pop()!.end();
        await sleep(100);
        expect(await stuck(talks)).toEqual([]);
        for (const talk of talks) talk.end();
        const { open, cut } = await drained;
        // By REDIRECT both halves of a connection into the pod are the plan's doing, by TPROXY the proxy's half.
        const all = inbound === 'redirect' ? 6 : 4;
        expect([open, cut, seen[0], seen.at(-1)]).toEqual([all, 0, all, 0]);
        expect([...seen].sort((a, b) => b - a)).toEqual(seen);
        expect(redirection.closed).toBe(true);
        expect(traces(pod)).toBe(before);
        expect(await stuck(direct)).toEqual([]);
        for (const talk of direct) talk.end();
      });
    });

    it('breaks what is open still when the deadline comes, wherever else NAT goes on', async () => {
      await withPodProxy(async (world) => {
        const { pod } = world;
        const docker = 'add chain ip docker out { type nat hook output priority -100; }';
        runIn(
          pod,
          'nft',
          `add table ip docker; ${docker}; add rule ip docker out ip daddr 127.0.0.11 dnat to 127.0.0.12`,
        );
        const before = traces(pod);
        apply(podMode(), { pod }).close();
        const talks = await captured(world);
        const { open, cut, tookMs } = await drainAndRemove(podMode(), { pod }, { deadlineMs: 300, pollMs: 50 });
        expect([open, cut]).toEqual([6, 6]);
        expect(tookMs).toBeGreaterThanOrEqual(300);
        expect(await stuck(talks)).toHaveLength(4);
        expect(traces(pod)).toBe(before);
        using netlink = openNetlink({ family: 'netfilter', namespace: pod });
        expect(listConntrack(netlink).filter(capturedBy(podMode()))).toEqual([]);
      });
    });

    it('goes on by the proxy where a drain is interrupted; remove() or another drain ends it, apply() takes it back', async () => {
      await withPodProxy(async (world) => {
        const { pod, accepted } = world;
        const before = traces(pod);
        let redirection: Redirection = apply(podMode(), { pod });
        const talks = await captured(world);
        const interrupted = async () => {
          const abort = new AbortController();
          const drained = redirection.drainAndRemove({ signal: abort.signal });
          setTimeout(() => abort.abort(), 50);
          await expect(drained).rejects.toMatchObject({ name: 'AbortError' });
          expect(await stuck(talks)).toEqual([]);
        };
        await interrupted();
        expect(
          verify(podMode(), { pod }).differences.every(({ kind, what }) => kind === 'changed' && what === 'rule'),
        ).toBe(true);
        expect(() => redirection.addPod({ ip: '10.0.0.1' })).toThrow(
          expect.objectContaining({
            code: 'ERR_REDIRECTION_CLOSED',
            message: expect.stringContaining('is being removed'),
          }),
        );
        redirection.close();
        redirection = apply(podMode(), { pod });
        expect(verify(podMode(), { pod }).inForce).toBe(true);
        expect(await stuck(talks)).toEqual([]);
        const again = await Talk.open('again', pod, WORLD.v4);
        expect(await stuck([again])).toEqual([]);
        expect(accepted).toHaveLength(5);
        await interrupted();
        // As a process that was killed leaves it.
        redirection.close();
        for (const talk of [...talks, again]) talk.end();
        remove(podMode(), { pod });
        expect(traces(pod)).toBe(before);
      });
    });

    it('a second drain waits for the same connections', async () => {
      await withPodProxy(async (world) => {
        const { pod } = world;
        const redirection = apply(podMode(), { pod });
        const talks = await captured(world);
        const drained = [
          redirection.drainAndRemove({ pollMs: 20 }),
          drainAndRemove(podMode(), { pod }, { pollMs: 20 }),
        ];
        expect(await stuck(talks)).toEqual([]);
        for (const talk of talks) talk.end();
        expect((await Promise.all(drained)).map(({ open, cut }) => [open, cut])).toEqual([
          [6, 0],
          [6, 0],
        ]);
      });
    });

    it('is closed under a drain: a typed error, and what is left is for remove()', async () => {
      await withPodProxy(async (world) => {
        const redirection = apply(podMode(), { pod: world.pod });
        const talks = await captured(world);
        const drained = redirection.drainAndRemove({ pollMs: 20 });
        redirection.close();
        await expect(drained).rejects.toMatchObject({ code: 'ERR_REDIRECTION_CLOSED' });
        expect(await stuck(talks)).toEqual([]);
        for (const talk of talks) talk.end();
      });
    });

    it('ends a watch, which does not capture again', async () => {
      await withPodProxy(async (world) => {
        const { pod } = world;
        const redirection = apply(podMode(), { pod });
        const talks = await captured(world);
        const events: string[] = [];
        await using watching = watch(redirection, {
          settleMs: 1,
          intervalMs: 10,
          onEvent: ({ type }) => events.push(type),
        });
        const drained = redirection.drainAndRemove({ pollMs: 20 });
        expect(await watching.ended).toBe('closed');
        expect(await stuck(talks)).toEqual([]);
        for (const talk of talks) talk.end();
        await drained;
        expect(events).toEqual(['ended']);
      });
    });

    it('is nowhere in force: nothing is waited for, and nothing is put there', async () => {
      await withNamespaces(['pod'], async (pod) => {
        const before = traces(pod!);
        expect(await drainAndRemove(podMode(), { pod: pod! })).toMatchObject({ open: 0, cut: 0 });
        expect(traces(pod!)).toBe(before);
      });
    });

    it.each([
      ['deadlineMs', -1],
      ['deadlineMs', Number.NaN],
      ['pollMs', 0],
    ])('refuses %s of %d before anything is changed', async (field, value) => {
      await withNamespaces(['pod'], async (pod) => {
        using redirection = apply(podMode(), { pod: pod! });
        await expect(redirection.drainAndRemove({ [field]: value })).rejects.toMatchObject({
          code: 'ERR_REDIRECTION_INVALID',
          field,
        });
        expect(verify(podMode(), { pod: pod! }).inForce).toBe(true);
        redirection.remove();
      });
    });
  },
);

describeRequiring(
  'a node’s redirection with captured connections under way',
  { root: true, tools: ['ip', 'nft'] },
  () => {
    it('breaks none where it is drained, from enrolled pods and to them', async () => {
      await withTopology(async (t) => {
        const range = readSysctl(t.a.ztunnel, 'net.ipv4.ip_local_port_range');
        const b = apply(t.plan(t.b), t.namespaces(t.b));
        const a = apply(t.plan(t.a), t.namespaces(t.a));
        const proxy = await t.proxy(t.a);
        await t.proxy(t.b);
        const open = [
          await t.dial(t.sleep, FAR, 8080),
          await t.dial(t.sleep, VIP, 80),
          await t.dial(t.plain, SLEEP, 80),
          await t.dial(t.outside, CLIENT2, 80),
        ];
        const ask = () => Promise.all(open.map((conversation) => conversation.ask()));
        const answers = await ask();
        expect(answers).toEqual([t.a.hostIp, SLEEP, PLAIN, expect.stringMatching(/^172\.18\.0\.100$/)]);
        const carried = proxy.accepted.length;
        const drained = a.drainAndRemove({ pollMs: 20 });
        expect(await ask()).toEqual(answers);
        expect(await t.ask(t.sleep, FAR, 8080)).toBe(t.a.hostIp);
        expect(await t.ask(t.plain, SLEEP, 80)).toBe(PLAIN);
        expect(proxy.accepted).toHaveLength(carried);
        expect(await ask()).toEqual(answers);
        for (const { socket } of open) socket.destroy();
        expect((await drained).cut).toBe(0);
        expect(runIn(t.a.namespace, 'nft', 'list', 'tables').trim()).toBe('table ip kube-proxy');
        expect(runIn(t.a.namespace, 'ip', 'link')).not.toContain('istioin');
        expect(readSysctl(t.a.ztunnel, 'net.ipv4.ip_local_port_range')).toBe(range);
        b.remove();
      });
    });

    it('breaks them where it is removed at once', async () => {
      await withTopology(async (t) => {
        const a = apply(t.plan(t.a), t.namespaces(t.a));
        await t.proxy(t.a);
        const open = [await t.dial(t.sleep, FAR, 8080), await t.dial(t.plain, SLEEP, 80)];
        expect(await Promise.all(open.map((one) => one.ask()))).toEqual([t.a.hostIp, PLAIN]);
        a.remove();
        for (const answer of await Promise.all(open.map((one) => one.ask())))
          expect([t.a.hostIp, PLAIN]).not.toContain(answer);
      });
    });
  },
);
