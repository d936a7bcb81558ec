import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { deleteNamespace, type NetworkNamespace, writeSysctl } from '../../src/netns/index.ts';
import {
  apply,
  differenceText,
  nodeMode,
  type Redirection,
  verify,
  type WatchEvent,
  type WatchOptions,
  watch,
} from '../../src/redirection/index.ts';
import { runIn } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { withNode } from './node-fixture.ts';

const rootAndTools = { root: true, tools: ['nft', 'ip', 'iptables-nft'] };
const options = { hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' } as const;
const pods = [{ ip: '10.244.1.10', veth: 'vethpod', comment: 'default/sleep' }];

interface Watched {
  readonly node: NetworkNamespace;
  readonly ztunnel: NetworkNamespace;
  readonly redirection: Redirection;
  readonly events: WatchEvent[];
  readonly ended: Promise<string>;
  close(): void;
  /** The next event of a type, from now on. @throws after `withinMs` */
  next<T extends WatchEvent['type']>(type: T, withinMs?: number): Promise<Extract<WatchEvent, { type: T }>>;
}

async function withWatch(
  body: (there: Watched) => Promise<void>,
  watchOptions: Partial<WatchOptions> = {},
): Promise<void> {
  await withNode(async (node, ztunnel) => {
    using redirection = apply(nodeMode({ ...options, pods }), { node, ztunnel });
    const events: WatchEvent[] = [];
    using watching = watch(redirection, { ...watchOptions, onEvent: (event) => events.push(event) });
    // The first look at everything, so that a test's change is met by a notification.
    await sleep(50);
    let seen = 0;
    await body({
      node,
      ztunnel,
      redirection,
      events,
      ended: watching.ended,
      close: () => watching.close(),
      async next(type, withinMs = 2000) {
        for (const deadline = Date.now() + withinMs; Date.now() < deadline; await sleep(10)) {
          while (seen < events.length) {
            const event = events[seen++]!;
            if (event.type === type) return event as never;
          }
        }
        throw new Error(`no event ${type}, only ${JSON.stringify(events.map(({ type }) => type))}`);
      },
    });
  });
}

const inForce = ({ redirection, node, ztunnel }: Watched) =>
  verify(redirection.plan, { node, ztunnel }).differences.map(differenceText);

describeRequiring('watch', rootAndTools, () => {
  it.each<[string, (there: Watched) => void, string[]]>([
    ['nft flush ruleset', ({ node }) => runIn(node, 'nft', 'flush', 'ruleset'), ['table']],
    [
      'a table put to sleep',
      ({ node }) => runIn(node, 'nft', 'add', 'table', 'ip', 'ztunnel-nat', '{ flags dormant; }'),
      ['table'],
    ],
    ['a rule deleted', ({ node }) => runIn(node, 'nft', 'flush', 'table', 'ip', 'ztunnel-nat'), ['rule']],
    ['a policy rule deleted', ({ node }) => runIn(node, 'ip', 'rule', 'del', 'pref', '101'), ['policy-rule']],
    [
      'a parameter that the kernel announces',
      ({ node }) => writeSysctl(node, 'net.ipv4.conf.vethza.rp_filter', 1),
      ['sysctl'],
    ],
    ['routes flushed', ({ node }) => runIn(node, 'ip', 'route', 'flush', 'table', '100'), ['route']],
    [
      'the proxy’s side flushed',
      ({ ztunnel }) => {
        runIn(ztunnel, 'nft', 'flush', 'ruleset');
        runIn(ztunnel, 'ip', 'rule', 'flush');
      },
      ['policy-rule', 'table'],
    ],
    [
      'a link deleted, with the addresses, routes and parameters that went with it',
      ({ node }) => runIn(node, 'ip', 'link', 'del', 'istioin'),
      ['address', 'link', 'route'],
    ],
  ])('repairs within a second: %s', async (_what, damage, subjects) => {
    await withWatch(async (there) => {
      damage(there);
      const { differences } = await there.next('repaired', 1000);
      const found = new Set(differences.map(({ what }) => what));
      // Whether parameters are looked at now or a moment later is a matter of what was looked at just before.
      if (!subjects.includes('sysctl')) found.delete('sysctl');
      expect([...found].sort()).toEqual(subjects);
      expect(inForce(there)).toEqual([]);
      // Its own repair is no reason for another.
      await sleep(400);
      expect(there.events.map(({ type }) => type)).toEqual(['repaired']);
    });
  });

  it('puts a pod back into its set, and leaves the counters of the rules alone', async () => {
    await withWatch(async (there) => {
      there.redirection.addPod({ ip: '10.244.1.11', veth: 'vethpod' });
      // A packet for the pod, which nobody answers: the node's own, so it is counted by output-1.
      there.node.run(() =>
        runIn(there.node, 'bash', '-c', 'echo > /dev/tcp/10.244.1.10/80 & sleep 0.1; kill $!; true'),
      );
      const counted = () => there.redirection.readBack().rules.find(({ id }) => id === 'output-1')!.packets;
      const before = counted();
      expect(before).toBeGreaterThan(0);
      const set = ['ip', 'ztunnel-mangle', 'ztunnel-pods-ips'];
      runIn(there.node, 'nft', 'delete', 'element', ...set, '{ 10.244.1.11 }');
      const { differences } = await there.next('repaired', 1000);
      expect(differences.map(differenceText)).toEqual([
        'node: member 10.244.1.11 is missing: is not in ip ztunnel-mangle ztunnel-pods-ips: its connections go past the proxy',
      ]);
      expect(inForce(there)).toEqual([]);
      expect(counted()).toBeGreaterThanOrEqual(before);
    });
  });

  it('finds parameters that no notification tells of by looking every so often', async () => {
    await withWatch(
      async (there) => {
        for (const name of ['net.ipv4.conf.istioin.accept_local', 'net.ipv4.neigh.vethpod.proxy_delay']) {
          writeSysctl(there.node, name, name.endsWith('accept_local') ? 0 : 80);
          const { differences } = await there.next('repaired', 3000);
          expect(differences.map((one) => one.name)).toEqual([name]);
          expect(inForce(there)).toEqual([]);
        }
      },
      { parametersEveryMs: 100, checkEveryMs: 86_400_000 },
    );
  });

  it.each<[string, (there: Watched) => void, (there: Watched) => void, string[]]>([
    [
      'a policy rule',
      ({ node }) => runIn(node, 'ip', 'rule', 'add', 'pref', '9', 'fwmark', '0x200/0xf00', 'lookup', '2004'),
      ({ node }) => runIn(node, 'ip', 'rule', 'del', 'pref', '9'),
      ['9: from all fwmark 0x200/0xf00 lookup 2004'],
    ],
    [
      'a chain of nft (trap 9)',
      ({ node }) => {
        const chain = 'add chain ip kube-proxy pre { type nat hook prerouting priority -110; }';
        const rule = 'add rule ip kube-proxy pre ip daddr 10.96.0.105 tcp dport 80 dnat to 10.244.2.10:80';
        runIn(node, 'nft', `add table ip kube-proxy; ${chain}; ${rule}`);
      },
      ({ node }) => runIn(node, 'nft', 'flush', 'chain', 'ip', 'kube-proxy', 'pre'),
      ['ip kube-proxy pre'],
    ],
    [
      'a rule of iptables-nft',
      ({ node }) =>
        runIn(node, 'iptables-nft', '-t', 'raw', '-A', 'PREROUTING', '-j', 'MARK', '--set-xmark', '0x300/0x300'),
      ({ node }) => runIn(node, 'iptables-nft', '-t', 'raw', '-F'),
      ['ip raw PREROUTING'],
    ],
  ])(
    'tells within a second of %s in front, once, leaves it, and tells when it is gone',
    async (_what, add, del, names) => {
      await withWatch(
        async (there) => {
          add(there);
          const { differences } = await there.next('unrepairable', 1000);
          expect(differences.map(({ kind, name }) => [kind, name])).toEqual(names.map((name) => ['in-front', name]));
          runIn(there.node, 'nft', 'add', 'table', 'ip', 'unrelated');
          await sleep(500);
          expect(there.events).toHaveLength(1);
          del(there);
          expect((await there.next('unrepairable', 1000)).differences).toEqual([]);
          expect(inForce(there)).toEqual([]);
        },
        { checkEveryMs: 86_400_000, parametersEveryMs: 86_400_000 },
      );
    },
  );

  it('does not fight: after maxRepairs it pauses, says so, and tries again', async () => {
    await withWatch(
      async (there) => {
        for (let i = 0; i < 2; i++) {
          runIn(there.node, 'ip', 'rule', 'del', 'pref', '101');
          await there.next('repaired');
        }
        runIn(there.node, 'ip', 'rule', 'del', 'pref', '101');
        const { repairs, windowMs, retryInMs } = await there.next('paused');
        expect([repairs, windowMs, retryInMs]).toEqual([2, 60_000, 500]);
        expect(inForce(there)).toHaveLength(1);
        await there.next('repaired');
        expect(inForce(there)).toEqual([]);
      },
      { maxRepairs: 2, windowMs: 60_000, pauseMs: 500 },
    );
  });

  it('reads everything again where notifications were lost (ENOBUFS), and goes on', async () => {
    await withWatch(
      async (there) => {
        // The parameter changes without a notification: it is repaired because everything is read.
        writeSysctl(there.node, 'net.ipv4.conf.vethza.accept_local', 0);
        const commands = Array.from({ length: 200 }, (_, i) => `rule add pref ${1000 + i} lookup main`).join('\n');
        runIn(there.node, 'bash', '-c', `printf '%s\\n' '${commands}' | ip -batch -`);
        // With so little room any few notifications are too many, in the proxy's namespace too.
        while ((await there.next('resynchronised')).role !== 'node');
        if (inForce(there).length > 0) await there.next('repaired');
        expect(inForce(there)).toEqual([]);
        runIn(there.node, 'ip', 'rule', 'del', 'pref', '101');
        await there.next('repaired');
      },
      { receiveBufferBytes: 1, parametersEveryMs: 86_400_000 },
    );
  });

  it('goes on with the other pods where a pod’s device is gone', async () => {
    await withWatch(
      async (there) => {
        runIn(there.node, 'ip', 'link', 'del', 'vethpod');
        const told = () => {
          const last = there.events.findLast(({ type }) => type === 'unrepairable');
          return last?.type === 'unrepairable' && last.differences.map(({ what, kind }) => `${kind} ${what}`);
        };
        await expect
          .poll(told, { timeout: 3000, interval: 20 })
          .toEqual(['missing link', 'missing sysctl', 'missing sysctl']);
        runIn(there.node, 'nft', 'flush', 'ruleset');
        await there.next('repaired', 3000);
        expect(there.redirection.readBack().pods).toEqual(['10.244.1.10']);
      },
      { checkEveryMs: 100 },
    );
  });

  it('says what failed where the kernel refuses, and tries again', async () => {
    await withWatch(async (there) => {
      runIn(there.node, 'ip', 'link', 'del', 'istioin');
      runIn(there.node, 'ip', 'link', 'add', 'istioin', 'type', 'bridge');
      const { error } = await there.next('failed');
      expect(error).toMatchObject({ code: 'ERR_REDIRECTION_FAILED', cause: { code: 'ERR_REDIRECTION_CONFLICT' } });
      runIn(there.node, 'ip', 'link', 'del', 'istioin');
      await there.next('repaired', 3000);
      expect(inForce(there)).toEqual([]);
    });
  });

  it('ends with the redirection, which it does not bring back', async () => {
    await withWatch(async (there) => {
      there.redirection.remove();
      expect(await there.ended).toBe('closed');
      expect(there.events).toEqual([{ type: 'ended', reason: 'closed' }]);
      expect(runIn(there.node, 'nft', 'list', 'ruleset')).toBe('');
    });
  });

  it('ends when a namespace is gone, and says which', async () => {
    await withWatch(async (there) => {
      deleteNamespace(there.ztunnel.name!);
      expect(await there.ended).toBe('namespace-gone');
      expect(there.events).toEqual([{ type: 'ended', reason: 'namespace-gone', role: 'ztunnel' }]);
    });
  });

  it.each(['before', 'after'])('ends when its signal aborts, %s it began', async (when) => {
    const abort = new AbortController();
    if (when === 'before') abort.abort();
    await withWatch(
      async (there) => {
        abort.abort();
        expect(await there.ended).toBe('aborted');
        there.close();
        expect(there.events).toEqual([{ type: 'ended', reason: 'aborted' }]);
        expect(inForce(there)).toEqual([]);
      },
      { signal: abort.signal },
    );
  });

  it.each(['intervalMs', 'settleMs', 'parametersEveryMs', 'checkEveryMs', 'maxRepairs', 'receiveBufferBytes'] as const)(
    'names the option %s',
    async (field) => {
      await withNode((node, ztunnel) => {
        using redirection = apply(nodeMode(options), { node, ztunnel });
        expect(() => watch(redirection, { onEvent: () => {}, [field]: 0 })).toThrow(
          expect.objectContaining({ field: expect.stringContaining(field) }),
        );
      });
    },
  );
});
