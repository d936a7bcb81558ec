import { once } from 'node:events';
import { type AddressInfo, Socket } from 'node:net';
import { expect, it } from 'vitest';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { listen, openListener } from '../../src/socket/index.ts';
import { decodeSockaddr, libc, SOCKADDR_BYTES } from '../../src/system/index.ts';
import { createDialler, type DiallerOptions } from '../../src/ztunnel/dialler.ts';
import { runIn, vethPair, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

/** proxy 10.78.0.1 ── 10.78.0.2 pod, which sends everything to the proxy. */
function withPair(body: (proxy: NetworkNamespace, pod: NetworkNamespace) => Promise<void>): Promise<void> {
  return withNamespaces(['proxy', 'pod'], async (proxy, pod) => {
    vethPair(
      { namespace: proxy!, device: 'eth0', addresses: ['10.78.0.1/24'] },
      { namespace: pod!, device: 'eth0', addresses: ['10.78.0.2/24'] },
    );
    runIn(pod!, 'ip', 'route', 'add', 'default', 'via', '10.78.0.1');
    // Answers to a client's address are for the socket here that has taken it: facts section 3, in its smallest form.
    runIn(proxy!, 'ip', 'route', 'add', 'local', '10.99.0.0/16', 'dev', 'lo');
    await body(proxy!, pod!);
  });
}

/** Dials the pod and gives the address that it sees. */
async function seenBy(
  proxy: NetworkNamespace,
  pod: NetworkNamespace,
  options: DiallerOptions,
  sourceIp: string | undefined,
): Promise<string | undefined> {
  const server = await listen({ namespace: pod, host: '0.0.0.0', port: 0 });
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const fd = proxy.run(() => createDialler(options).dial({ ip: '10.78.0.2', port }, sourceIp));
  const dialled = new Socket({ fd, manualStart: true } as { fd: number });
  try {
    const [socket] = await accepted;
    const { remoteAddress } = socket;
    socket.destroy();
    return remoteAddress;
  } finally {
    dialled.destroy();
    server.close();
  }
}

describeRequiring('createDialler', { root: true, tools: ['ip'] }, () => {
  const original: DiallerOptions = { originalSource: true };

  it('facts 2.6 step 4: dials from the client’s own address, which is none of ours', () =>
    withPair(async (proxy, pod) => {
      expect(await seenBy(proxy, pod, original, '10.99.0.5')).toBe('10.99.0.5');
      expect(await seenBy(proxy, pod, original, '::ffff:10.99.0.6')).toBe('10.99.0.6');
    }));

  it('from our own, where nobody is named, where that is asked for, and where the client is the target', () =>
    withPair(async (proxy, pod) => {
      expect(await seenBy(proxy, pod, original, undefined)).toBe('10.78.0.1');
      expect(await seenBy(proxy, pod, { originalSource: false }, '10.99.0.5')).toBe('10.78.0.1');
      expect(await seenBy(proxy, pod, original, '10.78.0.2')).toBe('10.78.0.1');
      expect(await seenBy(proxy, pod, original, '::ffff:10.78.0.2')).toBe('10.78.0.1');
    }));

  it('facts 12: from ports that clients do not use by themselves, each once towards a target, in use or not', () =>
    withPair(async (proxy, pod) => {
      const servers = await Promise.all([0, 0].map((port) => listen({ namespace: pod, host: '0.0.0.0', port })));
      const [one, other] = servers.map((server) => ({ ip: '10.78.0.2', port: (server.address() as AddressInfo).port }));
      const dialled: number[] = [];
      const dialler = (...sourcePorts: [number, number]) => createDialler({ ...original, sourcePorts });
      const dial = (by: ReturnType<typeof createDialler>, to = one!, clientPort?: number): number => {
        const fd = proxy.run(() => by.dial(to, '10.99.0.5', clientPort));
        dialled.push(fd);
        const address = Buffer.alloc(SOCKADDR_BYTES);
        libc().getsockname(fd, address, Int32Array.of(SOCKADDR_BYTES));
        return decodeSockaddr(address).port;
      };
      try {
        const usual = dial(createDialler(original));
        expect([usual >= 10_240, usual <= 32_767]).toEqual([true, true]);
        const four = dialler(20_000, 20_003);
        expect([dial(four), dial(four), dial(four), dial(four)].sort()).toEqual([20_000, 20_001, 20_002, 20_003]);
        expect(() => dial(four)).toThrow(expect.objectContaining({ code: 'EADDRNOTAVAIL' }));
        expect([20_000, 20_001, 20_002, 20_003]).toContain(dial(four, other));
        const two = dialler(21_000, 21_001);
        expect([dial(two, one, 21_000), dial(two, other, 21_000)]).toEqual([21_001, 21_001]);
        // A run of ports in use is jumped over, not walked through.
        for (let port = 22_000; port < 22_500; port++) dial(dialler(port, port));
        for (let count = 0; count < 20; count++) expect(dial(dialler(22_000, 22_999))).toBeGreaterThanOrEqual(22_500);
        using taken = proxy.run(() => openListener({ host: '0.0.0.0', port: 23_000 }));
        expect(taken.fd).toBeGreaterThan(0);
        expect(dial(dialler(23_000, 23_001))).toBe(23_001);
      } finally {
        for (const fd of dialled) libc().close(fd);
        for (const server of servers) server.close();
      }
    }));

  it('marks its packets before the first one leaves', () =>
    withPair(async (proxy, pod) => {
      runIn(proxy, 'ip', 'rule', 'add', 'fwmark', '0x539', 'prohibit');
      expect(() =>
        proxy.run(() =>
          createDialler({ originalSource: false, mark: 0x539 }).dial({ ip: '10.78.0.2', port: 1 }, undefined),
        ),
      ).toThrow(expect.objectContaining({ syscall: 'connect', code: 'EACCES' }));
      expect(await seenBy(proxy, pod, { originalSource: false, mark: 0x53a }, undefined)).toBe('10.78.0.1');
    }));

  it('knows the addresses of its namespace, as they come and go', () =>
    withPair(async (proxy) => {
      const { isOwn } = createDialler(original);
      const own = (ip: string) => proxy.run(() => isOwn(ip));
      expect(['10.78.0.1', '::ffff:10.78.0.1', '127.0.0.1', '10.78.0.2'].map(own)).toEqual([true, true, true, false]);
      expect(own('10.78.0.3')).toBe(false);
      runIn(proxy, 'ip', 'address', 'add', '10.78.0.3/24', 'dev', 'eth0');
      expect(own('10.78.0.3')).toBe(true);
    }));
});
