import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { expect, it } from 'vitest';
import { connect } from '../../src/socket/index.ts';
import { describeRequiring } from '../support/require.ts';
import { credentialsOf, HboneClient } from './hbone-client.ts';
import { EchoServer, HTTPBIN, Mesh, OUTSIDE } from './mesh.ts';

const EACH = 1000;
const AT_ONCE = 50;
/** Below what one tunnel takes. */
const STREAMS_PER_TUNNEL = 100;

interface Flow {
  readonly name: string;
  readonly stream: Duplex;
}

describeRequiring('a spoofed dial beside its owner’s own connections (facts section 12)', { root: true }, () => {
  it.each(['node', 'pod'] as const)(
    `${2 * EACH} connections of one client to one port, half of them HBONE, their ports bound early: none is broken (%s mode)`,
    { timeout: 120_000 },
    async (mode) => {
      const prefix = `zs${mode[0]}${process.pid % 1000}-`;
      const inPod = { mode: 'dedicated', namespace: `${prefix}httpbin`, packetMark: 0x539 } as const;
      await using mesh = await Mesh.start({ prefix, mode, proxies: ['b'], ztunnel: mode === 'pod' ? inPod : {} });
      const httpbin = new EchoServer();
      await mesh.serve('httpbin', 80, httpbin.handle);
      const namespace = mesh.namespace('outside');
      const credentials = await credentialsOf(mesh.authority);
      const sockets: Socket[] = [];
      const tunnels: HboneClient[] = [];
      const open: Flow[] = [];
      const broken: string[] = [];

      // bind(2) before connect(2), as one does that wants to know its port: from the half of the range that a spoofed bind(2) takes from.
      const plain = async (index: number): Promise<Flow> => {
        const socket = await connect({ namespace, host: HTTPBIN, port: 80, source: { ip: OUTSIDE } });
        sockets.push(socket.on('error', () => {}));
        return { name: `plain ${index}`, stream: socket };
      };
      const tunnelled = async (index: number): Promise<Flow> => {
        const { status, stream } = await tunnels.at(-1)!.request(`${HTTPBIN}:80`);
        if (status !== 200) throw new Error(`hbone ${index}: ${status}`);
        return { name: `hbone ${index}`, stream };
      };
      for (let index = 0; index < EACH; index += AT_ONCE) {
        if (index % STREAMS_PER_TUNNEL === 0) {
          tunnels.push(await HboneClient.connect({ namespace, ip: HTTPBIN }, credentials));
        }
        const batch = Array.from({ length: AT_ONCE }, (_, offset) => [
          plain(index + offset),
          tunnelled(index + offset),
        ]);
        for (const outcome of await Promise.allSettled(batch.flat())) {
          if (outcome.status === 'rejected') broken.push(String(outcome.reason));
          else open.push(outcome.value);
        }
      }
      // All of them at once, twice: a flow that met another is silent, or reset, or answers what the other was asked.
      for (const round of [1, 2]) {
        const answers = open.map(({ name, stream }) => wrongWith(stream, `${name}, round ${round}`));
        broken.push(...(await Promise.all(answers)).filter((failure) => failure !== undefined));
      }
      const own = new Set(sockets.map(({ localPort }) => localPort));
      for (const tunnel of tunnels) tunnel[Symbol.dispose]();
      for (const socket of sockets) socket.destroy();
      expect(broken).toEqual([]);
      expect(open.length).toBe(2 * EACH);
      expect(httpbin.peers.filter(({ ip, port }) => ip !== OUTSIDE || own.has(port))).toEqual([]);
    },
  );
});

/** Asks an echo. @returns what was wrong with its answer */
function wrongWith(stream: Duplex, question: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let answer = '';
    const settle = (failure?: string) => {
      clearTimeout(timer);
      stream.off('data', onData).off('close', onClose);
      resolve(failure);
    };
    const onData = (chunk: Buffer) => {
      answer += chunk;
      if (answer.length >= question.length) settle(answer === question ? undefined : `${question}: ${answer}`);
    };
    const onClose = () => settle(`${question}: closed`);
    const timer = setTimeout(() => settle(`${question}: no answer`), 10_000);
    stream.on('data', onData).on('close', onClose);
    stream.write(question);
  });
}
