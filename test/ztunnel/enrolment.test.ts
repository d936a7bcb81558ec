import type { Socket } from 'node:net';
import { expect, it } from 'vitest';
import { apply, podMode } from '../../src/redirection/index.ts';
import { describeRequiring } from '../support/require.ts';
import { EchoServer, Mesh, SLEEP, untilEnd, VIP } from './mesh.ts';

/** An echoed connection that is asked again and again. */
class Held {
  readonly #socket: Socket;
  readonly #end: ReturnType<typeof untilEnd>;
  #sent = '';
  #received = '';
  #arrived = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#end = untilEnd(socket);
    socket.on('data', (chunk: Buffer) => {
      this.#received += chunk.toString('latin1');
      this.#arrived();
    });
  }

  /** Sends more and waits until everything has come back. */
  async again(): Promise<void> {
    const text = `${this.#sent.length} and on. `;
    this.#sent += text;
    const complete = new Promise<string>((resolve) => {
      this.#arrived = () => {
        if (this.#received === this.#sent) resolve('all of it');
      };
    });
    this.#socket.write(text);
    expect(await Promise.race([complete, this.#end.then(({ error }) => error ?? 'an end')])).toBe('all of it');
  }

  async end(): Promise<void> {
    this.#socket.end();
    expect((await this.#end).error).toBeUndefined();
  }
}

describeRequiring(
  'a pod that comes into the mesh and leaves it again, by shared proxy and podMode()',
  { root: true },
  () => {
    it('keeps every connection that it has open, in both directions, each on its way', {
      timeout: 60_000,
    }, async () => {
      await using mesh = await Mesh.start({ prefix: `ze${process.pid % 1000}-`, mode: 'pod' });
      const httpbin = new EchoServer();
      await mesh.serve('httpbin', 80, httpbin.handle);
      await mesh.serve('sleep', 80, new EchoServer().handle);
      const proxy = mesh.proxy('a');
      const pod = mesh.namespace('sleep');
      // Outside the mesh at first.
      mesh.lab.redirection('sleep')!.remove();
      await proxy.removePod('sleep');
      const open = async () => [
        new Held(await mesh.connect('sleep', VIP, 80)),
        new Held(await mesh.connect('outside', SLEEP, 80)),
      ];
      const use = (held: readonly Held[]) => Promise.all(held.map((each) => each.again()));
      const handled = async () => (await proxy.stats()).connectionsOpened;

      const before = await open();
      await use(before);
      const unserved = await handled();

      await proxy.addPod(mesh.pod('sleep'));
      const redirection = apply(podMode({ captureDns: false }), { pod });
      await use(before);
      expect(await handled()).toBe(unserved);
      const within = await open();
      await use(within);
      expect(await handled()).toBe(unserved + 2);

      let drainedAt: number | undefined;
      const drained = redirection.drainAndRemove({ deadlineMs: 30_000, pollMs: 20 }).then((result) => {
        drainedAt = performance.now();
        return result;
      });
      const after = await open();
      for (let i = 0; i < 3; i++) await use([...before, ...within, ...after]);
      // What came after it goes past the proxy, which still has the two from before.
      expect(await handled()).toBe(unserved + 2);
      expect((await proxy.stats()).openConnections).toBe(2);
      expect(drainedAt).toBeUndefined();
      await Promise.all(within.map((each) => each.end()));
      expect(await drained).toMatchObject({ cut: 0 });
      expect(await proxy.removePod('sleep')).toBe(true);
      await use([...before, ...after]);
      expect(httpbin.peers.map(({ ip }) => ip)).toEqual([SLEEP, SLEEP, SLEEP]);
    });
  },
);
