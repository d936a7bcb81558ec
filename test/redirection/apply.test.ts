import { describe, expect, it } from 'vitest';
import { apply, renderText, countsBetween } from '../../src/redirection/index.ts';
import { describeRequiring } from '../support/require.ts';
import { CLIENT2, FAR, HTTPBIN, OUTSIDE, PLAIN, SLEEP, VIP, withTopology } from './topology.ts';

describeRequiring('node mode', { root: true }, () => {
  it('works', async () => {
    await withTopology(async (t) => {
      expect(await t.ask(t.sleep, VIP, 80)).toBe(SLEEP);
      expect(await t.ask(t.outside, HTTPBIN, 80)).toBe(OUTSIDE);
      console.log(renderText(t.plan(t.a)));
      using a = apply(t.plan(t.a), t.namespaces(t.a));
      using b = apply(t.plan(t.b), t.namespaces(t.b));
      const proxyA = await t.proxy(t.a);
      const proxyB = await t.proxy(t.b);
      console.log(await t.ask(t.sleep, VIP, 80));
      console.log(proxyA.accepted, proxyB.accepted);
      console.log(await t.ask(t.sleep, HTTPBIN, 80));
      console.log(await t.ask(t.sleep, CLIENT2, 80));
      console.log(await t.ask(t.outside, HTTPBIN, 80));
      console.log('far', await t.ask(t.sleep, FAR, 8080));
      console.log('plain vip', await t.ask(t.plain, VIP, 80), await t.ask(t.plain, CLIENT2, 80));
      console.log('node-b', await t.ask(t.b.namespace, HTTPBIN, 80), await t.ask(t.b.namespace, VIP, 80));
      console.log('node-a', await t.ask(t.a.namespace, VIP, 80));
      console.log(proxyA.accepted, proxyB.accepted);
      for (const c of a.readBack().rules) console.log(c.role, c.id, c.packets, c.text);
    });
  });
});
