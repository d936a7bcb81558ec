import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { apply, podMode, type RedirectionPlan } from '../../src/redirection/index.ts';
import { parseProcNetTcp } from '../../src/redirection/open-connections.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { type PodWorld, verdicts, withPodWorld } from './pod-flows.ts';

describe('parseProcNetTcp', () => {
  it('reads open connections of both families, and leaves listeners and what has ended', () => {
    const text = [
      '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode',
      '   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1',
      '   1: 0200010A:D431 0100010A:0050 01 00000000:00000000 02:000A0000 00000000     0        0 2',
      '   2: 0200010A:D432 0100010A:0050 06 00000000:00000000 03:00001000 00000000     0        0 0',
      '   3: 000000FD010000000000000002000000:0050 000000FD010000000000000001000000:D431 08 0:0 0:0 0 0 0 3',
      '   4: 0000000000000000FFFF00000200010A:0050 0000000000000000FFFF00000100010A:D433 01 0:0 0:0 0 0 0 4',
      '',
    ].join('\n');
    expect(parseProcNetTcp(text)).toEqual([
      { local: { ip: '10.1.0.2', port: 54321 }, remote: { ip: '10.1.0.1', port: 80 } },
      { local: { ip: 'fd00:0:0:1::2', port: 80 }, remote: { ip: 'fd00:0:0:1::1', port: 54321 } },
      { local: { ip: '10.1.0.2', port: 80 }, remote: { ip: '10.1.0.1', port: 54323 } },
    ]);
  });
});

/** A conversation that was open before: says something now, and what comes back. */
async function ask({ client, server }: { client: Socket; server: Socket }): Promise<string> {
  client.write('still there?');
  const heard = await answer(server);
  server.write('yes');
  return `${heard} ${await answer(client)}`;
}

function answer(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 1500, 'nothing');
    const done = (text: string) => {
      clearTimeout(timer);
      resolve(text);
    };
    socket.once('data', (data) => done(data.toString()));
    socket.once('error', (error) => done(String((error as { code?: unknown }).code)));
    socket.once('close', () => done('closed'));
  });
}

describeRequiring(
  'enrolling a pod that has connections open (trap 3, in the pod)',
  { root: true, tools: ['nft'] },
  () => {
    /** Opens a conversation each way and family, puts the plan in force, and asks each. */
    async function enrolled(world: PodWorld, plan: RedirectionPlan): Promise<string[]> {
      const open: { client: Socket; server: Socket }[] = [];
      const closing: (() => void)[] = [];
      try {
        for (const [from, to, ip] of [
          [world.pod, world.outside, '10.1.0.1'],
          [world.outside, world.pod, '10.1.0.2'],
          [world.pod, world.outside, 'fd00:1::1'],
          [world.outside, world.pod, 'fd00:1::2'],
          [world.pod, world.pod, '127.0.0.1'],
        ] as const) {
          const listener = await listen({ namespace: to, host: ip, port: 7000 });
          closing.push(() => listener.close());
          const accepted = new Promise<Socket>((resolve) => listener.once('connection', resolve));
          const client = await connect({ namespace: from, host: ip, port: 7000 });
          const server = await accepted;
          for (const socket of [client, server]) {
            socket.on('error', () => {});
            closing.push(() => socket.destroy());
          }
          open.push({ client, server });
        }
        apply(plan, { pod: world.pod }).close();
        return await Promise.all(open.map(ask));
      } finally {
        for (const close of closing) close();
      }
    }

    it('disturbs none of them, in or out, and new ones are captured', async () => {
      await withPodWorld(async (world) => {
        const answers = await enrolled(world, podMode());
        expect(answers).toEqual(Array.from({ length: 5 }, () => 'still there? yes'));
        expect(await verdicts(world)).toMatchObject({ 'v4 out': '15001', 'v6 out': '15001', 'v4 in': '15006' });
        expect(runIn(world.pod, 'nft', 'list', 'tables')).not.toContain('tracking');
      });
    });

    it('breaks those that leave or enter the pod where the cure is taken out', async () => {
      await withPodWorld(async (world) => {
        const plan = podMode();
        const sides = plan.sides.map((side) => ({ ...side, keepsOpenConnections: false }));
        const answers = await enrolled(world, { ...plan, sides });
        for (const answer of answers.slice(0, 4)) expect(answer).not.toBe('still there? yes');
      });
    });
  },
);
