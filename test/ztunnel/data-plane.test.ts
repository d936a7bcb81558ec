import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeRequiring } from '../support/require.ts';
import { receiveBody, sendBody } from './bodies.ts';
import {
  CLIENT2,
  EchoServer,
  eventually,
  HTTPBIN,
  identityOf,
  Mesh,
  OUTSIDE,
  type PodName,
  policy,
  untilEnd,
  VIP,
} from './mesh.ts';

for (const [mode, threads] of [
  ['node', 1],
  ['node', 2],
  ['pod', 1],
  ['pod', 2],
] as const) {
  describeRequiring(
    `the data plane in ${mode} mode with ${threads} thread${threads > 1 ? 's' : ''} a node`,
    { root: true },
    () => {
      let mesh: Mesh;
      const bodyBytes = 32 << 20;

      beforeAll(async () => {
        mesh = await Mesh.start({ prefix: `zd${mode[0]}${threads}${process.pid % 1000}-`, mode, ztunnel: { threads } });
        for (const pod of ['httpbin', 'client2', 'outside'] as const) {
          await mesh.serve(pod, 80, new EchoServer().handle);
          // A body in, its digest out; and one more body, whose digest comes by another way.
          await mesh.serve(pod, 81, async (socket) => socket.end((await receiveBody(socket)).digest));
          await mesh.serve(pod, 82, (socket) => void sendBody(socket, bodyBytes));
        }
      });
      afterAll(() => mesh?.[Symbol.asyncDispose]());

      const paths: [string, PodName, string][] = [
        ['cross-node, by its service', 'sleep', VIP],
        ['same node', 'sleep', CLIENT2],
        ['outside', 'sleep', OUTSIDE],
        ['plaintext in', 'outside', HTTPBIN],
      ];
      for (const [what, from, host] of paths) {
        it(`${what}: 64 at once, four times, and none is lost`, async () => {
          for (let round = 0; round < 4; round++) {
            const answers = await Promise.all(
              Array.from({ length: 64 }, (_, i) => mesh.ask(from, host, 80, `${round}/${i}`.padEnd(1000 * i, '.'))),
            );
            expect(answers.filter(({ error }) => error !== undefined)).toEqual([]);
            answers.forEach(({ received }, i) => {
              expect(received.length).toBe(Math.max(1000 * i, `${round}/${i}`.length));
              expect(received.toString('latin1', 0, `${round}/${i}`.length)).toBe(`${round}/${i}`);
            });
          }
        });

        it(`${what}: ${threads > 1 ? 100 : 1000} one after another`, async () => {
          for (let i = 0; i < (threads > 1 ? 100 : 1000); i++) {
            const { received, error } = await mesh.ask(from, host, 80, `number ${i}`);
            if (error !== undefined || received.toString() !== `number ${i}`) throw new Error(`number ${i}: ${error}`);
          }
        });
      }

      it('every connection is told of exactly once on each side, and the counts agree', async () => {
        const [a, b] = await eventually(async () => {
          const stats = [await mesh.proxy('a').stats(), await mesh.proxy('b').stats()] as const;
          return stats.every(({ openConnections }) => openConnections === 0) && stats;
        });
        expect([a.connectionsFailed, b.connectionsFailed]).toEqual([0, 0]);
        expect([a.connectionsOpened, b.connectionsOpened]).toEqual([a.connectionsClosed, b.connectionsClosed]);
        const outbound = mesh.accessLines('a').filter(({ fields }) => fields['dst.identity'] === identityOf('httpbin'));
        const inbound = mesh.accessLines('b').filter(({ fields }) => fields['src.identity'] === identityOf('sleep'));
        expect(inbound.length).toBe(outbound.length);
        expect(mesh.accessLines('a').length).toBe(a.connectionsClosed);
        expect(mesh.decisions('b').length).toBe(b.connectionsClosed);
        expect(mesh.warnings).toEqual([]);
      });

      it('every thread accepts its share of what pods open', async () => {
        const parts = await mesh.proxy('a').threadStats();
        const opened = parts.map(({ connectionsOpened }) => connectionsOpened);
        expect(opened.length).toBe(threads);
        expect(opened.reduce((a, b) => a + b)).toBe((await mesh.proxy('a').stats()).connectionsOpened);
        // The kernel spreads a thousand and more by their addresses and ports.
        expect(Math.min(...opened) / Math.max(...opened)).toBeGreaterThan(0.5);
      });

      it('every thread accepts its share of what comes in', async () => {
        const before = await mesh.proxy('b').threadStats();
        await Promise.all(Array.from({ length: 200 }, (_, i) => mesh.ask('outside', HTTPBIN, 80, `${i}`)));
        const after = await mesh.proxy('b').threadStats();
        for (const [i, { connectionsOpened }] of after.entries()) {
          expect(connectionsOpened - before[i]!.connectionsOpened).toBeGreaterThan(threads > 1 ? 50 : 199);
        }
      });

      it('bodies of 32 MiB, up and down, arrive whole, by HBONE and spliced', { timeout: 60_000 }, async () => {
        for (const host of [HTTPBIN, CLIENT2]) {
          const up = await mesh.connect('sleep', host, 81);
          const answer = untilEnd(up);
          const sent = await sendBody(up, bodyBytes);
          expect((await answer).received.toString()).toBe(sent);
          const down = await mesh.connect('sleep', host, 82);
          const received = await receiveBody(down);
          down.end();
          expect(received).toEqual({ bytes: bodyBytes, digest: sent });
        }
      });
    },
  );
}

describeRequiring('drain', { root: true }, () => {
  async function started(label: string, drainDeadlineMs: number): Promise<Mesh> {
    const mesh = await Mesh.start({ prefix: `z${label}${process.pid % 1000}-`, ztunnel: { drainDeadlineMs } });
    await mesh.serve('httpbin', 80, new EchoServer().handle);
    return mesh;
  }

  async function held(mesh: Mesh) {
    const socket = await mesh.connect('sleep', VIP, 80);
    socket.write('hello');
    await new Promise((resolve) => socket.once('data', resolve));
    return socket;
  }

  /** Whether a new connection is answered within a while that is long for this mesh. */
  async function served(mesh: Mesh): Promise<boolean> {
    // The answer comes after what was asked of the thread before it.
    await Promise.all([mesh.proxy('a').stats(), mesh.proxy('b').stats()]);
    const answer = mesh.ask('sleep', VIP, 80, 'late').then(({ received }) => received.toString() === 'late');
    return Promise.race([answer.catch(() => false), new Promise<false>((resolve) => setTimeout(resolve, 400, false))]);
  }

  describe('facts 1.11', () => {
    it('open connections go on until they end, new ones are refused, then it is over', async () => {
      await using mesh = await started('e', 20_000);
      const socket = await held(mesh);
      const port = socket.localPort!;
      let isOver = false;
      const drained = mesh
        .proxy('a')
        .drain()
        .then(() => {
          isOver = true;
        });
      // Behind TPROXY a port without a listener does not even refuse: a proxy that comes after this one finds the SYN sent again.
      expect(await served(mesh)).toBe(false);
      expect(isOver).toBe(false);
      const outcome = untilEnd(socket);
      socket.end(' and goodbye');
      expect(await outcome).toEqual({ received: Buffer.from(' and goodbye'), error: undefined });
      await drained;
      await mesh.proxy('a').closed;
      expect(await mesh.accessLine('a', 'outbound', port)).toMatchObject({
        level: 'info',
        fields: { bytes_sent: '17', bytes_recv: '17' },
      });
    });

    it('the destination’s proxy asks its peers to leave, and lets them finish', async () => {
      await using mesh = await started('f', 20_000);
      const socket = await held(mesh);
      const drained = mesh.proxy('b').drain();
      // The tunnel is told to take no more, and node A finds nobody to make another with. What it sent before it heard is served.
      await eventually(async () => !(await served(mesh)));
      const outcome = untilEnd(socket);
      socket.end(' to the last byte');
      expect(await outcome).toEqual({ received: Buffer.from(' to the last byte'), error: undefined });
      await drained;
    });

    it('the deadline cuts what is left, and says so', async () => {
      await using mesh = await started('g', 300);
      const socket = await held(mesh);
      const port = socket.localPort!;
      const outcome = untilEnd(socket);
      await Promise.all([mesh.proxy('a').drain(), mesh.proxy('a').drain()]);
      expect((await outcome).error).toBe('ECONNRESET');
      const log = await mesh.accessLine('a', 'outbound', port);
      expect(log.fields.error).toBe('connection closed due to connection drain');
    });

    it('an abort cuts at once, also one that comes with a second call', async () => {
      await using mesh = await started('h', 600_000);
      const outcome = untilEnd(await held(mesh));
      const first = mesh.proxy('a').drain();
      const controller = new AbortController();
      const second = mesh.proxy('a').drain({ signal: controller.signal });
      controller.abort();
      await Promise.all([first, second]);
      expect((await outcome).error).toBe('ECONNRESET');
    });

    it('with nothing open it is over at once, tunnels or not', async () => {
      await using mesh = await started('i', 600_000);
      await mesh.ask('sleep', VIP, 80, 'a tunnel is left standing');
      await mesh.proxy('b').drain();
      await mesh.proxy('a').drain();
    });
  });

  it('a policy that comes during the drain still cuts', async () => {
    await using mesh = await started('j', 600_000);
    const outcome = untilEnd(await held(mesh));
    const drained = mesh.proxy('b').drain();
    mesh.write({ policies: policy('nobody', 'Deny', 'destinationPorts: [80]') });
    expect((await outcome).error).toBe('ECONNRESET');
    await drained;
  });
});

describeRequiring('logs that cannot be written', { root: true }, () => {
  it('are told of once, and hold nobody up', async () => {
    await using mesh = await Mesh.start({
      prefix: `zl${process.pid % 1000}-`,
      ztunnel: { accessLog: { path: '/dev/full' }, decisionLogPath: '/dev/full' },
    });
    await mesh.serve('httpbin', 80, new EchoServer().handle);
    for (let i = 0; i < 5; i++) expect((await mesh.ask('sleep', VIP, 80, 'x')).received.toString()).toBe('x');
    await eventually(() => mesh.warnings.length >= 4);
    expect(mesh.warnings.toSorted()).toEqual([
      expect.stringMatching(/^access log: ENOSPC/),
      expect.stringMatching(/^access log: ENOSPC/),
      expect.stringMatching(/^decision log: ENOSPC/),
      expect.stringMatching(/^decision log: ENOSPC/),
    ]);
  });
});
