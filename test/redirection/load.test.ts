/** What a change of the redirection does to connections that are open: nothing. */
import { once } from 'node:events';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { apply, drainAndRemove, podMode, remove, verify } from '../../src/redirection/index.ts';
import { describeRequiring } from '../support/require.ts';
import type { LoadPath, LoadReport } from './load-worker.ts';
import { POD, WORLD, withPodProxy } from './pod-proxy.ts';
import { stuck, Talk } from './talk.ts';
import { CLIENT2, type Conversation, FAR, SLEEP, VIP, withTopology } from './topology.ts';

const ROUNDS = 200;
const LONG = 120_000;

async function withLoad(
  paths: readonly LoadPath[],
  body: (report: () => Promise<LoadReport>) => Promise<void>,
): Promise<void> {
  const worker = new Worker(new URL('./load-worker.ts', import.meta.url), { workerData: paths });
  try {
    await once(worker, 'message');
    await body(async () => {
      worker.postMessage('report');
      return (await once(worker, 'message'))[0] as LoadReport;
    });
  } finally {
    worker.postMessage('stop');
    await worker.terminate();
  }
}

describeRequiring('connections that are open', { root: true }, () => {
  it(
    `survive ${ROUNDS} applies and removes under load: of enrolled pods, to them, from the node, from outside`,
    async () => {
      await withTopology(async (t) => {
        const name = (namespace: { readonly name: string | undefined }) => namespace.name!;
        const paths: LoadPath[] = [
          { from: name(t.sleep), to: name(t.outside), ip: FAR, port: 9001 },
          { from: name(t.plain), to: name(t.sleep), ip: SLEEP, port: 9002 },
          { from: name(t.a.namespace), to: name(t.sleep), ip: SLEEP, port: 9003 },
          { from: name(t.outside), to: name(t.sleep), ip: SLEEP, port: 9004 },
          { from: name(t.client2), to: name(t.sleep), ip: SLEEP, port: 9005 },
        ];
        await withLoad(paths, async (report) => {
          const plan = t.plan(t.a);
          const namespaces = t.namespaces(t.a);
          const later: Conversation[] = [];
          let before = await report();
          for (let round = 1; round <= ROUNDS; round++) {
            const redirection = apply(plan, namespaces);
            await turn();
            redirection.remove();
            await turn();
            // Opened between two rounds, when nothing is in force.
            if (round % 20 === 0) later.push(await t.dial(t.sleep, FAR, 8080));
            if (round % 50 !== 0) continue;
            const after = await report();
            expect(after.ended).toEqual([]);
            for (const [i, echoed] of after.echoed.entries()) expect(echoed).toBeGreaterThan(before.echoed[i]!);
            before = after;
          }
          using redirection = apply(plan, namespaces);
          expect(verify(plan, namespaces).inForce).toBe(true);
          await sleep(300);
          const last = await report();
          expect(last.ended).toEqual([]);
          for (const [i, echoed] of last.echoed.entries()) expect(echoed).toBeGreaterThan(before.echoed[i]!);
          const answers = await Promise.all(later.map((conversation) => conversation.ask()));
          expect(answers).toEqual(later.map(() => t.a.hostIp));
          redirection.remove();
        });
      });
    },
    LONG,
  );

  it(
    `survive ${ROUNDS} applies of the same plan while the proxy carries them, and their pod leaving and coming back as often`,
    async () => {
      await withTopology(async (t) => {
        let a = apply(t.plan(t.a), t.namespaces(t.a));
        apply(t.plan(t.b), t.namespaces(t.b)).close();
        const proxies = [await t.proxy(t.a), await t.proxy(t.b)];
        const open = [
          await t.dial(t.sleep, FAR, 8080),
          await t.dial(t.sleep, VIP, 80),
          await t.dial(t.sleep, CLIENT2, 80),
          await t.dial(t.outside, SLEEP, 80),
        ];
        const expected = await Promise.all(open.map((conversation) => conversation.ask()));
        const carried = () => proxies.flatMap(({ accepted }) => accepted).length;
        const before = carried();
        expect(before).toBeGreaterThanOrEqual(open.length);
        const pod = t.a.pods.find(({ ip }) => ip === SLEEP)!;
        for (let round = 0; round < ROUNDS; round++) {
          // Under way while the rules are replaced, and while the pod is out.
          const answers = open.map((conversation) => conversation.ask(5000));
          a.close();
          a = apply(t.plan(t.a), t.namespaces(t.a));
          a.removePod(pod.ip);
          await turn();
          a.addPod(pod);
          expect(await Promise.all(answers)).toEqual(expected);
        }
        expect(carried()).toBe(before);
        a.close();
        remove(t.plan(t.a), t.namespaces(t.a));
      });
    },
    LONG,
  );

  it(
    `survive ${ROUNDS} applies and removes in their pod, and those that it captures as many drains begun and taken back`,
    async () => {
      await withPodProxy(async ({ pod, outside, accepted }) => {
        const plan = podMode();
        const name = (namespace: { readonly name: string | undefined }) => namespace.name!;
        // Open before there are rules, and never at rest: none is captured.
        const paths: LoadPath[] = [
          { from: name(pod), to: name(outside), ip: WORLD.v4, port: 9001 },
          { from: name(outside), to: name(pod), ip: POD.v4, port: 9002 },
        ];
        await withLoad(paths, async (report) => {
          for (let round = 0; round < ROUNDS; round++) {
            apply(plan, { pod }).remove();
            await turn();
          }
          const before = await report();
          apply(plan, { pod }).close();
          const captured = [await Talk.open('out', pod, WORLD.v6), await Talk.open('in', outside, POD.v6)];
          expect(await stuck(captured)).toEqual([]);
          for (let round = 0; round < ROUNDS; round++) {
            const redirection = apply(plan, { pod });
            const abort = new AbortController();
            const drained = redirection.drainAndRemove({ signal: abort.signal });
            await turn();
            abort.abort();
            await drained.catch(() => {});
            redirection.close();
          }
          apply(plan, { pod }).close();
          expect(await stuck(captured)).toEqual([]);
          expect(accepted).toHaveLength(2);
          const after = await report();
          expect(after.ended).toEqual([]);
          for (const [i, echoed] of after.echoed.entries()) expect(echoed).toBeGreaterThan(before.echoed[i]!);
          for (const talk of captured) talk.end();
          expect(await drainAndRemove(plan, { pod }, { pollMs: 20 })).toMatchObject({ cut: 0 });
        });
      });
    },
    LONG,
  );
});
