import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { openNetlink } from '../../src/netlink/index.ts';
import { addRoute } from '../../src/netlink/route/index.ts';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { apply, hostProbes, PROBE_IP, PROBE_IP6, PROBES_SET, PROBES_SET6 } from '../../src/redirection/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn, vethPair, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { loadRendering, renderings, renderingTools } from './load-rendering.ts';
import { stuck, Talk } from './talk.ts';

describe('hostProbes', () => {
  it('is a value: JSON keeps all of it', () => {
    const plan = hostProbes({ pods: [{ ip: '10.1.0.2', comment: 'uid' }] });
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  });

  it.each([
    ['a pod twice', { pods: [{ ip: '10.0.0.1' }, { ip: '10.0.0.1' }] }, 'pods[1].ip'],
    ['a mapped address', { pods: [{ ip: '::ffff:10.0.0.1' }] }, 'pods[0].ip'],
    ['an IPv6 pod where there is no IPv6', { ipv6: false, pods: [{ ip: 'fd00::1' }] }, 'pods[0].ip'],
    ['a long way of writing an address', { pods: [{ ip: 'fd00:0::1' }] }, 'pods[0].ip'],
  ])('refuses %s, naming the option', (_what, options, field) => {
    expect(() => hostProbes(options)).toThrow(expect.objectContaining({ field }));
  });
});

/** A node and a pod with two addresses of each family, and what address the pod sees the node at. */
async function withNode(
  body: (host: NetworkNamespace, seenBy: (ip: string) => Promise<string>) => Promise<void>,
): Promise<void> {
  await withNamespaces(['host', 'pod'], async (...namespaces) => {
    const [host, pod] = namespaces as [NetworkNamespace, NetworkNamespace];
    vethPair(
      { namespace: host, device: 'vethpod', addresses: ['10.1.0.1/24', 'fd00:1::1/64'] },
      { namespace: pod, device: 'eth0', addresses: ['10.1.0.2/24', '10.1.0.3/24', 'fd00:1::2/64', 'fd00:1::3/64'] },
    );
    {
      using route = openNetlink({ family: 'route', namespace: pod });
      addRoute(route, { destination: '0.0.0.0/0', gateway: '10.1.0.1' });
      addRoute(route, { destination: '::/0', gateway: 'fd00:1::1' });
    }
    const server = await listen({ namespace: pod, host: '::', port: 80 });
    server.on('connection', (socket) => socket.end(String(socket.remoteAddress).replace('::ffff:', '')));
    try {
      await body(host, async (ip) => {
        const socket = await connect({ namespace: host, host: ip, port: 80, timeoutMs: 1500 });
        const seen = await new Promise<string>((done) => socket.once('data', (data) => done(String(data))));
        socket.destroy();
        return seen;
      });
    } finally {
      server.close();
    }
  });
}

describeRequiring('probes of the node (facts section 7.4)', { root: true, tools: ['ip', ...renderingTools] }, () => {
  const pods = [
    { ip: '10.1.0.2', comment: 'uid-1' },
    { ip: 'fd00:1::2', comment: 'uid-1' },
  ];

  it.each(renderings)('come from the address that pods let pass, by %s; those to others do not', async (rendering) => {
    await withNode(async (host, seenBy) => {
      expect(await seenBy('10.1.0.2')).toBe('10.1.0.1');
      loadRendering(rendering, hostProbes({ pods }), { host });
      expect(await seenBy('10.1.0.2')).toBe(PROBE_IP);
      expect(await seenBy('fd00:1::2')).toBe(PROBE_IP6);
      expect(await seenBy('10.1.0.3')).toBe('10.1.0.1');
      expect(await seenBy('fd00:1::3')).toBe('fd00:1::1');
    });
  });

  it('pods come and go; an address that went to another pod is not taken away by the first', async () => {
    await withNode(async (host, seenBy) => {
      using redirection = apply(hostProbes(), { host });
      const [first, second] = pods as [(typeof pods)[0], (typeof pods)[1]];
      expect([redirection.addPod(first), redirection.addPod(second)]).toEqual([true, true]);
      expect(await seenBy(first.ip)).toBe(PROBE_IP);
      expect(redirection.readBack().pods).toEqual([first.ip, second.ip]);
      expect(redirection.addPod({ ...first, comment: 'uid-2' })).toBe(false);
      const set = runIn(host, 'nft', 'list', 'set', 'ip', 'istio-ambient-nat', PROBES_SET);
      expect(set).toContain('10.1.0.2 comment "uid-2"');
      expect(redirection.removePod(first.ip, 'uid-1')).toBe(false);
      expect(redirection.removePod(first.ip, 'uid-2')).toBe(true);
      expect(redirection.removePod(second.ip)).toBe(true);
      expect(runIn(host, 'nft', 'list', 'set', 'ip6', 'istio-ambient-nat', PROBES_SET6)).not.toContain('fd00');
      expect(await seenBy(first.ip)).toBe('10.1.0.1');
    });
  });

  it('leave a connection of the node that is open as it is, where nothing was tracked before', async () => {
    await withNamespaces(['host', 'pod'], async (...namespaces) => {
      const [host, pod] = namespaces as [NetworkNamespace, NetworkNamespace];
      vethPair(
        { namespace: host, device: 'vethpod', addresses: ['10.1.0.1/24', 'fd00:1::1/64'] },
        { namespace: pod, device: 'eth0', addresses: ['10.1.0.2/24', 'fd00:1::2/64'] },
      );
      const server = await listen({ namespace: pod, host: '::', port: 80 });
      const open = new Set<Socket>();
      server.on('connection', (socket) => {
        open.add(socket);
        socket.on('error', () => {});
        socket.pipe(socket);
      });
      try {
        const talks = [await Talk.open('v4', host, '10.1.0.2'), await Talk.open('v6', host, 'fd00:1::2')];
        expect(await stuck(talks)).toEqual([]);
        using probes = apply(hostProbes({ pods: [{ ip: '10.1.0.2' }, { ip: 'fd00:1::2' }] }), { host });
        expect(await stuck(talks)).toEqual([]);
        probes.remove();
        expect(await stuck(talks)).toEqual([]);
        for (const talk of talks) talk.end();
      } finally {
        for (const socket of open) socket.destroy();
        server.close();
      }
    });
  });
});
