import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openNetlink } from '../../src/netlink/index.ts';
import { addAddress, addRoute, deleteAddress } from '../../src/netlink/route/index.ts';
import { createNamespace, deleteNamespace, openNamespace } from '../../src/netns/index.ts';
import { apply, podMode } from '../../src/redirection/index.ts';
import { connect, listen } from '../../src/socket/index.ts';
import type { PodOptions, Ztunnel } from '../../src/ztunnel/index.ts';
import { describeRequiring } from '../support/require.ts';
import {
  CLIENT2,
  EchoServer,
  eventually,
  HTTPBIN,
  identityOf,
  Mesh,
  OUTSIDE,
  policy,
  SLEEP,
  untilEnd,
  VIP,
  workload,
  workloads,
} from './mesh.ts';

const prefix = (label: string) => `zp${label}${process.pid % 1000}-`;
const descriptors = () => readdirSync('/proc/self/fd').length;

/** A connection that has had an answer. */
async function held(mesh: Mesh, host: string): Promise<Socket> {
  const socket = await mesh.connect('sleep', host, 80);
  socket.write('hello');
  await new Promise((resolve) => socket.once('data', resolve));
  return socket;
}

async function failureOf(promise: Promise<unknown>): Promise<Error & { code?: string; field?: string }> {
  return promise.then(
    () => {
      throw new Error('it did not fail');
    },
    (error) => error,
  );
}

describeRequiring(
  'shared mode: what a pod opens and what comes to it, from inside its namespace',
  { root: true },
  () => {
    let mesh: Mesh;
    const servers = { httpbin: new EchoServer(), client2: new EchoServer(), sleep: new EchoServer() };

    beforeAll(async () => {
      mesh = await Mesh.start({ prefix: prefix('a'), mode: 'pod' });
      for (const [pod, server] of Object.entries(servers)) await mesh.serve(pod as 'sleep', 80, server.handle);
      await mesh.serve('outside', 80, new EchoServer().handle);
    });
    afterAll(() => mesh?.[Symbol.asyncDispose]());

    it('listens in the pods and not in its own namespace', async () => {
      expect(mesh.proxy('a').pods.map(({ uid }) => uid)).toEqual(['sleep', 'client2']);
      for (const [where, expected] of [
        ['sleep', 'EADDRINUSE'],
        ['ztunnel-a', undefined],
      ] as const) {
        for (const port of [15001, 15006, 15008]) {
          const error = await listen({ namespace: mesh.namespace(where), host: '0.0.0.0', port }).then(
            (server) => void server.close(),
            (reason: { code: string }) => reason.code,
          );
          expect(error, `${where}:${port}`).toBe(expected);
        }
      }
    });

    it('to another node: through a tunnel from the pod’s own address', async () => {
      const before = mesh.inboundCount('b');
      const { localPort, received } = await mesh.ask('sleep', VIP, 80, 'across');
      expect(received.toString()).toBe('across');
      expect(servers.httpbin.peers.at(-1)?.ip).toBe(SLEEP);
      expect(await mesh.decision('a', 'outbound', localPort)).toMatchObject({
        originalDestination: `${VIP}:80`,
        decision: { kind: 'hbone', via: 'direct' },
        tunnel: { localIdentity: identityOf('sleep'), peerIdentity: identityOf('httpbin') },
        dialled: `${HTTPBIN}:15008`,
      });
      const { access } = await mesh.nextInbound('b', before);
      expect(access.fields['src.addr']).toMatch(/^10\.244\.1\.10:/);
    });

    it('to a pod beside it: handed over inside the proxy, dialled in the other pod from the client’s address', async () => {
      const { localPort, received } = await mesh.ask('sleep', CLIENT2, 80, 'beside');
      expect(received.toString()).toBe('beside');
      expect(servers.client2.peers.at(-1)?.ip).toBe(SLEEP);
      for (const direction of ['outbound', 'inbound']) {
        expect(await mesh.decision('a', direction, localPort)).toMatchObject({
          decision: { kind: 'local' },
          dialled: `${CLIENT2}:80`,
          dialledFrom: SLEEP,
        });
      }
    });

    it('to itself by its service: handed over to itself', async () => {
      // Captured, since the VIP is no address of the pod.
      const socket = await connect({ namespace: mesh.namespace('httpbin'), host: VIP, port: 80, allowHalfOpen: true });
      const outcome = untilEnd(socket);
      socket.end('myself');
      expect((await outcome).received.toString()).toBe('myself');
      expect(servers.httpbin.peers.at(-1)?.ip).toBe(HTTPBIN);
    });

    it('facts 2.8: to the proxy’s own ports, in whichever pod, it leads nowhere', async () => {
      for (const host of [SLEEP, CLIENT2, HTTPBIN]) {
        for (const port of [15001, 15006]) {
          const { received, error } = await mesh.ask('client2', host, port, 'loop');
          expect({ received: received.length, error }, `${host}:${port}`).toEqual({ received: 0, error: 'ECONNRESET' });
        }
      }
    });

    it('facts 2.2: an address that a pod has made up changes neither who it is nor where it seems to come from', async () => {
      const madeUp = '10.244.1.99';
      const namespace = mesh.namespace('sleep');
      using route = openNetlink({ family: 'route', namespace });
      addAddress(route, { device: 'lo', ip: madeUp, prefixLength: 32 });
      try {
        for (const [host, server, port] of [
          [VIP, servers.httpbin, 33_000],
          [CLIENT2, servers.client2, 33_001],
        ] as const) {
          const source = { ip: madeUp, port };
          const socket = await connect({ namespace, host, port: 80, source, allowHalfOpen: true });
          const outcome = untilEnd(socket);
          socket.end('who am I?');
          expect((await outcome).received.toString()).toBe('who am I?');
          expect(server.peers.at(-1)?.ip).toBe(SLEEP);
        }
        const line = await mesh.accessLine('a', 'outbound', 33_000);
        expect(line.fields).toMatchObject({ 'src.addr': `${madeUp}:33000`, 'src.identity': identityOf('sleep') });
        const handedOver = await mesh.accessLine('a', 'inbound', 33_001);
        expect(handedOver.fields).toMatchObject({ 'src.addr': `${SLEEP}:33001`, 'src.identity': identityOf('sleep') });
      } finally {
        deleteAddress(route, { device: 'lo', ip: madeUp, prefixLength: 32 });
      }
    });

    it('IPv6, where the pods have it: between two pods, by the addresses of that family', async () => {
      const v6 = { sleep: 'fd00:1::10', client2: 'fd00:1::11' } as const;
      for (const name of ['sleep', 'client2'] as const) {
        using route = openNetlink({ family: 'route', namespace: mesh.namespace(name) });
        addAddress(route, { device: 'eth0', ip: v6[name], prefixLength: 128, noDad: true });
        addRoute(route, { destination: '::/0', device: 'eth0' });
      }
      const server = await listen({
        namespace: mesh.namespace('client2'),
        host: v6.client2,
        port: 80,
        allowHalfOpen: true,
      });
      const peers: string[] = [];
      server.on('connection', (socket) => {
        peers.push(socket.remoteAddress!);
        socket.pipe(socket);
      });
      const bothFamilies = [
        workload('sleep', SLEEP, 'a', { workloadIps: [SLEEP, v6.sleep] }),
        workload('client2', CLIENT2, 'a', { workloadIps: [CLIENT2, v6.client2] }),
        workloads.httpbin,
      ];
      mesh.write({ workloads: bothFamilies });
      try {
        await eventually(async () => {
          const socket = await connect({
            namespace: mesh.namespace('sleep'),
            host: v6.client2,
            port: 80,
            allowHalfOpen: true,
          });
          const outcome = untilEnd(socket);
          socket.end('six');
          return (await outcome).received.toString() === 'six';
        });
        expect(peers.at(-1)).toBe(v6.sleep);
      } finally {
        server.close();
        mesh.write({});
      }
    });

    it('a policy cuts what is handed over, and the same pair goes on once it is gone', async () => {
      const open = await held(mesh, CLIENT2);
      const outcome = untilEnd(open);
      mesh.write({ policies: policy('no-sleep', 'Deny', `principals: [!Exact "${identityOf('sleep').slice(9)}"]`) });
      expect((await outcome).error).toBe('ECONNRESET');
      mesh.write({});
      await eventually(async () => (await mesh.ask('sleep', CLIENT2, 80, 'again')).received.toString() === 'again');
    });

    it('a workload that the registry forgets is nobody: what it opens is refused, what comes to it as well', async () => {
      mesh.write({ workloads: [workloads.sleep, workloads.httpbin] });
      try {
        await eventually(async () => (await mesh.ask('client2', OUTSIDE, 80, 'x')).error === 'ECONNRESET');
        const { localPort } = await mesh.ask('client2', OUTSIDE, 80, 'x');
        const { fields } = await mesh.accessLine('a', 'outbound', localPort);
        expect(fields.error).toBe(
          'unknown source: this node has no workload default/client2 (service account client2)',
        );
        expect((await mesh.ask('outside', CLIENT2, 80, 'x')).error).toBe('ECONNRESET');
      } finally {
        mesh.write({});
      }
      await eventually(async () => (await mesh.ask('client2', OUTSIDE, 80, 'back')).received.toString() === 'back');
    });

    it('facts 7.5: behind the TPROXY variant of the plan as well', async () => {
      const namespace = mesh.namespace('httpbin');
      mesh.lab.redirection('httpbin')!.remove();
      using _plan = apply(podMode({ captureDns: false, inbound: 'tproxy' }), { pod: namespace });
      expect((await mesh.ask('outside', HTTPBIN, 80, 'plain')).received.toString()).toBe('plain');
      expect(servers.httpbin.peers.at(-1)?.ip).toBe(OUTSIDE);
      expect((await mesh.ask('sleep', VIP, 80, 'hbone')).received.toString()).toBe('hbone');
      expect(servers.httpbin.peers.at(-1)?.ip).toBe(SLEEP);
      const plain = mesh.decisions('b').filter(({ direction }) => direction === 'inbound-plaintext');
      expect(plain.at(-1)).toMatchObject({ originalDestination: `${HTTPBIN}:80` });
    });
  },
);

describeRequiring('shared mode with other options', { root: true }, () => {
  it('ipv6: false listens for IPv4 alone, and true for both by one socket', async () => {
    for (const ipv6 of [false, true]) {
      await using mesh = await Mesh.start({ prefix: prefix(`v${Number(ipv6)}`), mode: 'pod', ztunnel: { ipv6 } });
      await mesh.serve('outside', 80, new EchoServer().handle);
      const listening = (table: string) =>
        mesh.namespace('sleep').run(() => readFileSync(`/proc/thread-self/net/${table}`, 'latin1'));
      // State 0A listens; 15001 is 3A99.
      expect(/:3A99 \S+ 0A /.test(listening('tcp'))).toBe(!ipv6);
      expect(/:3A99 \S+ 0A /.test(listening('tcp6'))).toBe(ipv6);
      expect((await mesh.ask('sleep', OUTSIDE, 80, 'four')).received.toString()).toBe('four');
    }
  });

  it('originalSource: false lets the application see its own pod’s address', async () => {
    await using mesh = await Mesh.start({ prefix: prefix('o'), mode: 'pod', ztunnel: { originalSource: false } });
    const httpbin = new EchoServer();
    await mesh.serve('httpbin', 80, httpbin.handle);
    expect((await mesh.ask('sleep', VIP, 80, 'x')).received.toString()).toBe('x');
    expect((await mesh.ask('outside', HTTPBIN, 80, 'y')).received.toString()).toBe('y');
    expect(httpbin.peers.map(({ ip }) => ip)).toEqual([HTTPBIN, HTTPBIN]);
  });

  it('bad options are named, before anything is made', async () => {
    await using mesh = await Mesh.start({ prefix: prefix('n'), mode: 'pod', proxies: [] });
    const workloadOfSleep = { name: 'sleep', namespace: 'default', serviceAccount: 'sleep' };
    const cases: [string, Parameters<Mesh['startProxy']>[1]][] = [
      ['mode', { mode: 'sidecar' as 'node' }],
      ['podsFile', { mode: 'node', podsFile: { path: 'x' } }],
      ['workload', { workload: workloadOfSleep }],
      ['maxPods', { maxPods: 0 }],
      ['podDrainDeadlineMs', { podDrainDeadlineMs: -1 }],
      ['podRegistryWaitMs', { podRegistryWaitMs: 2 ** 31 }],
    ];
    for (const [field, options] of cases) {
      expect(await failureOf(mesh.startProxy('a', options))).toMatchObject({ code: 'ERR_ZTUNNEL_CONFIG', field });
    }
    const podsFile = { path: join(mesh.folder, 'not-there.yaml') };
    expect(await failureOf(mesh.startProxy('a', { podsFile }))).toMatchObject({ code: 'ERR_DISCOVERY_FILE_MISSING' });
  });
});

describeRequiring('two proxies on one node', { root: true }, () => {
  const decisionKinds = (mesh: Mesh) => mesh.decisions('a').map(({ decision }) => decision?.kind);

  it('a shared proxy hands over to pods that it serves, and speaks HBONE to the other’s', async () => {
    await using mesh = await Mesh.start({ prefix: prefix('b'), mode: 'pod', proxies: [] });
    const client2 = new EchoServer();
    await mesh.serve('client2', 80, client2.handle);
    await using one = await mesh.startProxy('a');
    await one.addPod(mesh.pod('sleep'));
    // Nobody takes what is for client2 yet: a connection that the proxy does not serve must not reach it either.
    expect((await mesh.ask('sleep', CLIENT2, 80, 'nobody')).error).toBe('ECONNRESET');
    await using two = await mesh.startProxy('a');
    await two.addPod(mesh.pod('client2'));
    expect((await mesh.ask('sleep', CLIENT2, 80, 'by tunnel')).received.toString()).toBe('by tunnel');
    expect(client2.peers.at(-1)?.ip).toBe(SLEEP);
    await eventually(() => mesh.decisions('a').length === 3);
    expect(decisionKinds(mesh).toSorted()).toEqual(['accept', 'hbone', 'hbone']);
  });

  it('dedicated proxies: each for the pod that it lives in, found by its address or named', async () => {
    await using mesh = await Mesh.start({ prefix: prefix('c'), mode: 'pod', proxies: [] });
    const client2 = new EchoServer();
    await mesh.serve('client2', 80, client2.handle);
    const dedicated = { mode: 'dedicated', packetMark: 0x539 } as const;
    await using one = await mesh.startProxy('a', { ...dedicated, namespace: mesh.namespace('sleep') });
    const named = { name: 'client2', namespace: 'default', serviceAccount: 'client2' };
    await using two = await mesh.startProxy('a', {
      ...dedicated,
      namespace: mesh.namespace('client2'),
      workload: named,
      threads: 2,
    });
    // Redirection in pods brings IPv6 too.
    const listening = mesh.namespace('sleep').run(() => readFileSync('/proc/thread-self/net/tcp6', 'latin1'));
    expect(listening).toMatch(/:3A99 \S+ 0A /);
    expect([...one.pods, ...two.pods].map(({ name }) => name)).toEqual(['sleep', 'client2']);
    expect((await mesh.ask('sleep', CLIENT2, 80, 'by tunnel')).received.toString()).toBe('by tunnel');
    expect(client2.peers.at(-1)?.ip).toBe(SLEEP);
    await eventually(() => mesh.decisions('a').length === 2);
    expect(decisionKinds(mesh).toSorted()).toEqual(['accept', 'hbone']);
    expect(await failureOf(one.addPod(mesh.pod('client2')))).toMatchObject({ code: 'ERR_ZTUNNEL_MODE' });
  });

  it('a dedicated proxy does not start where there is no workload for it', async () => {
    await using mesh = await Mesh.start({ prefix: prefix('d'), mode: 'pod', proxies: [] });
    const options = { mode: 'dedicated', namespace: mesh.namespace('ztunnel-a'), podRegistryWaitMs: 50 } as const;
    expect(await failureOf(mesh.startProxy('a', options))).toMatchObject({
      code: 'ERR_ZTUNNEL_START',
      message: expect.stringContaining('no workload of node-a has an address of'),
    });
    const named = { name: 'sleep', namespace: 'default', serviceAccount: 'nobody' };
    expect(await failureOf(mesh.startProxy('a', { ...options, workload: named }))).toMatchObject({
      code: 'ERR_ZTUNNEL_POD_UNKNOWN',
    });
  });

  it('a new shared proxy takes over from an old one, pod by pod, and loses no connection', async () => {
    await using mesh = await Mesh.start({ prefix: prefix('e'), mode: 'pod', ztunnel: { drainDeadlineMs: 20_000 } });
    await mesh.serve('httpbin', 80, new EchoServer().handle);
    const before = await held(mesh, VIP);
    const old = mesh.proxy('a');
    await using young = await mesh.startProxy('a');
    await Promise.all(mesh.podsOf('a').map((pod) => young.addPod(pod)));
    const drained = old.drain();
    for (let i = 0; i < 50; i++) expect((await mesh.ask('sleep', VIP, 80, `${i}`)).received.toString()).toBe(`${i}`);
    const outcome = untilEnd(before);
    before.end(' to the end');
    expect((await outcome).received.toString()).toBe(' to the end');
    await drained;
    expect((await young.stats()).connectionsOpened).toBeGreaterThanOrEqual(40);
  });
});

describeRequiring('removePod', { root: true }, () => {
  async function started(label: string): Promise<{ mesh: Mesh; proxy: Ztunnel }> {
    const mesh = await Mesh.start({ prefix: prefix(label), mode: 'pod' });
    for (const pod of ['httpbin', 'client2', 'outside'] as const) await mesh.serve(pod, 80, new EchoServer().handle);
    return { mesh, proxy: mesh.proxy('a') };
  }

  it('listens no more at once, lets open connections end, and leaves other pods alone', async () => {
    const { mesh, proxy } = await started('f');
    await using _mesh = mesh;
    const open = [await held(mesh, VIP), await held(mesh, CLIENT2), await held(mesh, OUTSIDE)];
    let isOver = false;
    const removed = proxy.removePod('sleep', { deadlineMs: 20_000 }).then((was) => {
      isOver = true;
      return was;
    });
    await eventually(async () => (await mesh.ask('sleep', VIP, 80, 'late')).error === 'ECONNREFUSED');
    expect(proxy.pods.map(({ uid }) => uid)).toEqual(['client2']);
    expect((await mesh.ask('client2', VIP, 80, 'other')).received.toString()).toBe('other');
    expect(isOver).toBe(false);
    for (const socket of open) {
      const outcome = untilEnd(socket);
      socket.end(' and goodbye');
      expect((await outcome).received.toString()).toBe(' and goodbye');
    }
    expect(await removed).toBe(true);
    expect(await proxy.removePod('sleep')).toBe(false);
  });

  it('of the pod that a connection was handed over to: the same', async () => {
    const { mesh, proxy } = await started('g');
    await using _mesh = mesh;
    const open = await held(mesh, CLIENT2);
    const removed = proxy.removePod('client2', { deadlineMs: 20_000 });
    // Not handed over any more, and nobody takes HBONE.
    await eventually(async () => (await mesh.ask('sleep', CLIENT2, 80, 'late')).error === 'ECONNRESET');
    const outcome = untilEnd(open);
    open.end(' to the end');
    expect((await outcome).received.toString()).toBe(' to the end');
    expect(await removed).toBe(true);
  });

  it('the deadline cuts what is left, 0 and an abort cut at once', async () => {
    const { mesh, proxy } = await started('h');
    await using _mesh = mesh;
    const ends: [string, (uid: string) => Promise<boolean>][] = [
      ['300', (uid) => proxy.removePod(uid, { deadlineMs: 300 })],
      ['0', (uid) => proxy.removePod(uid, { deadlineMs: 0 })],
      ['abort', (uid) => proxy.removePod(uid, { deadlineMs: 600_000, signal: AbortSignal.timeout(50) })],
      ['aborted', (uid) => proxy.removePod(uid, { deadlineMs: 600_000, signal: AbortSignal.abort() })],
    ];
    for (const [what, end] of ends) {
      const open = await held(mesh, VIP);
      const port = open.localPort!;
      const outcome = untilEnd(open);
      expect(await end('sleep'), what).toBe(true);
      expect((await outcome).error, what).toBe('ECONNRESET');
      const { fields } = await mesh.accessLine('a', 'outbound', port);
      expect(fields.error).toBe('connection closed due to connection drain');
      await proxy.addPod(mesh.pod('sleep'));
    }
  });

  it('the pod may come again while its old connections go on', async () => {
    const { mesh, proxy } = await started('i');
    await using _mesh = mesh;
    const open = await held(mesh, VIP);
    const removed = proxy.removePod('sleep', { deadlineMs: 20_000 });
    await proxy.addPod(mesh.pod('sleep'));
    expect((await mesh.ask('sleep', VIP, 80, 'new')).received.toString()).toBe('new');
    const outcome = untilEnd(open);
    open.end(' old');
    expect((await outcome).received.toString()).toBe(' old');
    expect(await removed).toBe(true);
    expect((await mesh.ask('sleep', VIP, 80, 'new')).received.toString()).toBe('new');
  });

  it('a drain of the whole proxy waits for pods that drain already, and cuts them too', async () => {
    const { mesh, proxy } = await started('j');
    await using _mesh = mesh;
    const outcome = untilEnd(await held(mesh, VIP));
    const removed = proxy.removePod('sleep', { deadlineMs: 600_000 });
    const cut = AbortSignal.timeout(200);
    await proxy.drain({ signal: cut });
    expect(cut.aborted).toBe(true);
    expect((await outcome).error).toBe('ECONNRESET');
    expect(await removed).toBe(true);
    await expect(proxy.addPod(mesh.pod('sleep'))).rejects.toMatchObject({ code: 'ERR_ZTUNNEL_CLOSED' });
    await expect(proxy.removePod('client2')).rejects.toMatchObject({ code: 'ERR_ZTUNNEL_CLOSED' });
  });
});

describeRequiring('addPod', { root: true }, () => {
  let mesh: Mesh;
  let proxy: Ztunnel;
  let folder: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'add-pod-'));
    mesh = await Mesh.start({ prefix: prefix('k'), mode: 'pod', proxies: [] });
    proxy = await mesh.startProxy('a', { maxPods: 2, podRegistryWaitMs: 100, threads: 2 });
    await mesh.serve('client2', 80, new EchoServer().handle);
  });
  afterAll(async () => {
    await mesh?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Fails, and has changed nothing. */
  async function refused(pod: PodOptions, expected: Record<string, unknown>): Promise<void> {
    await proxy.stats();
    const before = { descriptors: descriptors(), pods: proxy.pods };
    const error = await failureOf(proxy.addPod(pod));
    expect(error).toMatchObject(expected);
    await proxy.stats();
    expect({ descriptors: descriptors(), pods: proxy.pods }).toEqual(before);
  }

  it('takes a name, a path, a descriptor or an open namespace, which may be closed at once', async () => {
    const { netns: name } = mesh.pod('sleep');
    const ways: ((inside: ReturnType<typeof openNamespace>) => PodOptions['netns'])[] = [
      () => name,
      () => `/run/netns/${name as string}`,
      ({ fd }) => fd,
      (inside) => inside,
    ];
    for (const way of ways) {
      const inside = openNamespace(name as string);
      const added = proxy.addPod({ ...mesh.pod('sleep'), netns: way(inside) });
      inside.close();
      await added;
      expect(proxy.pods).toMatchObject([{ uid: 'sleep', inode: inside.inode }]);
      expect(await proxy.removePod('sleep')).toBe(true);
    }
  });

  describe('wrong types, named', () => {
    const cases: [string, Partial<Record<keyof PodOptions, unknown>>][] = [
      ['pod.uid', { uid: '' }],
      ['pod.uid', { uid: 7 }],
      ['pod.uid', { uid: 'x'.repeat(254) }],
      ['pod.name', { name: undefined }],
      ['pod.namespace', { namespace: '' }],
      ['pod.serviceAccount', { serviceAccount: null }],
      ['pod.netns', { netns: undefined }],
      ['pod.netns', { netns: -1 }],
      ['pod.netns', { netns: 1.5 }],
      ['pod.netns', { netns: {} }],
    ];
    it.each(cases)('%s: %j', async (field, differing) => {
      await refused({ ...mesh.pod('sleep'), ...differing } as PodOptions, { code: 'ERR_ZTUNNEL_POD_INVALID', field });
    });
  });

  it('a namespace that is gone, and what is none', async () => {
    const gone = `${prefix('k')}gone`;
    createNamespace(gone).close();
    deleteNamespace(gone);
    writeFileSync(join(folder, 'file'), '');
    for (const netns of [gone, join(folder, 'file'), join(folder, 'not'), '../sleep', '', 4000, 0]) {
      await refused({ ...mesh.pod('sleep'), netns }, { code: 'ERR_ZTUNNEL_POD_NETNS' });
    }
  });

  it('a pod that the registry does not know on this node, after the wait', async () => {
    for (const differing of [{ name: 'nobody' }, { serviceAccount: 'default' }, { namespace: 'other' }]) {
      await refused({ ...mesh.pod('sleep'), ...differing }, { code: 'ERR_ZTUNNEL_POD_UNKNOWN' });
    }
    await refused(mesh.pod('httpbin'), { code: 'ERR_ZTUNNEL_POD_UNKNOWN' });
  });

  it('facts 2.2: a pod that the registry learns of a moment later is served then', async () => {
    mesh.write({ workloads: [workloads.client2, workloads.httpbin] });
    await using patient = await mesh.startProxy('a', { podRegistryWaitMs: 8000 });
    const added = patient.addPod(mesh.pod('sleep'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(patient.pods).toEqual([]);
    mesh.write({});
    await added;
    expect(patient.pods).toMatchObject([{ uid: 'sleep' }]);
    await eventually(async () => (await failureOf(proxy.addPod(mesh.pod('nobody')))).code === 'ERR_ZTUNNEL_POD_NETNS');
  });

  it('the same pod twice, the same namespace twice, more than maxPods', async () => {
    await eventually(async () => {
      await proxy.addPod(mesh.pod('sleep'));
      return true;
    });
    await refused(mesh.pod('sleep'), { code: 'ERR_ZTUNNEL_POD_EXISTS' });
    const { netns } = mesh.pod('sleep');
    await refused({ ...mesh.pod('client2'), netns }, { code: 'ERR_ZTUNNEL_POD_EXISTS' });
    const [first, second] = await Promise.allSettled([
      proxy.addPod(mesh.pod('client2')),
      proxy.addPod(mesh.pod('client2')),
    ]);
    expect([first.status, second.status]).toEqual(['fulfilled', 'rejected']);
    await refused(mesh.pod('httpbin'), { code: 'ERR_ZTUNNEL_POD_LIMIT' });
    expect((await mesh.ask('sleep', CLIENT2, 80, 'still')).received.toString()).toBe('still');
    expect(await Promise.all([proxy.removePod('sleep'), proxy.removePod('client2')])).toEqual([true, true]);
  });

  it('a port that somebody else has in the pod: it is named, and the other ports are free again', async () => {
    const namespace = mesh.namespace('sleep');
    const taken = await listen({ namespace, host: '0.0.0.0', port: 15008 });
    await refused(mesh.pod('sleep'), {
      code: 'ERR_ZTUNNEL_POD_FAILED',
      message: expect.stringMatching(/sleep.*15008.*EADDRINUSE/),
    });
    for (const port of [15001, 15006]) (await listen({ namespace, host: '0.0.0.0', port })).close();
    taken.close();
    await proxy.addPod(mesh.pod('sleep'));
    expect(await proxy.removePod('sleep')).toBe(true);
  });

  it('an abort before it, and while it waits for the registry', async () => {
    const reason = new Error('changed my mind');
    expect(await failureOf(proxy.addPod(mesh.pod('sleep'), { signal: AbortSignal.abort(reason) }))).toBe(reason);
    await using patient = await mesh.startProxy('a', { podRegistryWaitMs: 60_000 });
    const before = descriptors();
    const controller = new AbortController();
    const unknown = { ...mesh.pod('sleep'), serviceAccount: 'unknown' };
    const added = failureOf(patient.addPod(unknown, { signal: controller.signal }));
    const removed = patient.removePod('sleep');
    controller.abort(reason);
    expect(await added).toBe(reason);
    expect(await removed).toBe(false);
    expect(descriptors()).toBe(before);
    // The end of the proxy ends a wait too.
    const late = failureOf(patient.addPod(unknown));
    await patient.close();
    expect(await late).toMatchObject({ code: 'ERR_ZTUNNEL_CLOSED' });
  });

  it('bad options of removePod are named', async () => {
    for (const deadlineMs of [-1, 1.5, Number.NaN, 2 ** 31]) {
      expect(await failureOf(proxy.removePod('sleep', { deadlineMs }))).toMatchObject({
        code: 'ERR_ZTUNNEL_POD_INVALID',
        field: 'deadlineMs',
      });
    }
  });

  it('a hundred times in and out, under way or not, leaves no descriptor and no listener', async () => {
    await proxy.addPod(mesh.pod('sleep'));
    await proxy.removePod('sleep');
    await proxy.stats();
    const before = descriptors();
    for (let i = 0; i < 50; i++) {
      await proxy.addPod(mesh.pod('sleep'));
      const [, removed] = await Promise.all([
        mesh.ask('sleep', OUTSIDE, 80, 'x').catch(() => {}),
        proxy.removePod('sleep', { deadlineMs: i % 2 === 0 ? 0 : 1000 }),
      ]);
      expect(removed).toBe(true);
      const added = proxy.addPod(mesh.pod('sleep'));
      expect(await proxy.removePod('sleep', { deadlineMs: 0 })).toBe(true);
      await added.catch(() => {});
    }
    expect(descriptors()).toBe(before);
    const tcp = mesh.namespace('sleep').run(() => readFileSync('/proc/thread-self/net/tcp6', 'latin1'));
    // State 0A listens.
    expect(tcp.split('\n').filter((line) => / 0A /.test(line))).toEqual([]);
  });

  it('is for shared mode', async () => {
    await using node = await mesh.startProxy('b', { mode: 'node', namespace: mesh.namespace('ztunnel-b') });
    expect(await failureOf(node.addPod(mesh.pod('httpbin')))).toMatchObject({ code: 'ERR_ZTUNNEL_MODE' });
    expect(await failureOf(node.removePod('httpbin'))).toMatchObject({ code: 'ERR_ZTUNNEL_MODE' });
    expect(node.pods).toEqual([]);
  });
});
