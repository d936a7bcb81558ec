import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeRequiring } from '../support/require.ts';
import {
  type AccessLine,
  CLIENT2,
  EchoServer,
  eventually,
  HTTPBIN,
  identityOf,
  Mesh,
  type Outcome,
  policy,
  untilEnd,
  VIP,
  workloads,
} from './mesh.ts';

const CUT = 'connection closed due to policy change';
const isCut = ({ fields }: AccessLine) => fields.error === CUT;

/** A principal as a policy writes it: facts section 3.4, without `spiffe://`. */
const principal = (pod: string) => `principals: [!Exact "${identityOf(pod).slice('spiffe://'.length)}"]`;

describeRequiring('policies, at the destination of every path', { root: true }, () => {
  let mesh: Mesh;
  const httpbin = new EchoServer();
  const client2 = new EchoServer();

  beforeAll(async () => {
    mesh = await Mesh.start({ prefix: `zr${process.pid % 1000}-` });
    for (const port of [80, 444]) {
      await mesh.serve('httpbin', port, httpbin.handle);
      await mesh.serve('client2', port, client2.handle);
    }
  });
  afterAll(() => mesh?.[Symbol.asyncDispose]());

  const open = () => mesh.ask('sleep', HTTPBIN, 80, 'x');
  const isDenied = ({ error }: Outcome) => error === 'ECONNRESET';
  /** Waits until the registry that was just written is in force, as `ask` shows it. */
  async function until(denied: boolean, ask: () => Promise<Outcome>): Promise<Outcome> {
    await eventually(async () => isDenied(await ask()) === denied);
    // The one that showed it may have been open already, and cut: this one meets the new policies from the start.
    return ask();
  }
  async function reset(): Promise<void> {
    mesh.write({});
    await until(false, () => mesh.ask('sleep', HTTPBIN, 80, 'x'));
    await until(false, () => mesh.ask('sleep', CLIENT2, 80, 'x'));
  }

  describe('facts 3.3: a denial', () => {
    const cases: [string, string, (pod: 'sleep' | 'client2') => Promise<Outcome>][] = [
      ['by principal', principal('client2'), (pod) => mesh.ask(pod, HTTPBIN, 80, 'x')],
      ['by port', 'destinationPorts: [444]', (pod) => mesh.ask(pod, HTTPBIN, pod === 'sleep' ? 80 : 444, 'x')],
      [
        'by namespace, of all ports but one',
        'namespaces: [!Exact default], notDestinationPorts: [80]',
        (pod) => mesh.ask(pod, HTTPBIN, pod === 'sleep' ? 80 : 444, 'x'),
      ],
      ['by source address', 'sourceIps: [10.244.1.11/32]', (pod) => mesh.ask(pod, HTTPBIN, 80, 'x')],
    ];
    for (const [what, match, ask] of cases) {
      it(`over HBONE, ${what}`, async () => {
        mesh.write({ policies: policy('no-entry', 'Deny', match) });
        const { localPort, received } = await until(true, () => ask('client2'));
        expect(received.length).toBe(0);
        expect((await ask('sleep')).error).toBeUndefined();
        expect(await mesh.accessLine('a', 'outbound', localPort)).toMatchObject({
          level: 'error',
          message: 'connection complete',
          fields: { 'dst.identity': identityOf('httpbin'), error: 'http status: 401 Unauthorized' },
        });
        const denied = mesh.decisions('b').filter(({ rbac }) => rbac?.allowed === false);
        expect(denied.at(-1)).toMatchObject({
          rbac: { reason: 'explicitly denied by: default/no-entry' },
          failure: 'connection closed due to policy rejection: explicitly denied by: default/no-entry',
        });
        expect(denied.at(-1)).not.toHaveProperty('dialled');
        await reset();
      });
    }

    it('on the same node, in both records', async () => {
      mesh.write({ policies: policy('no-entry', 'Deny', principal('sleep')) });
      const { localPort } = await until(true, () => mesh.ask('sleep', CLIENT2, 80, 'x'));
      const error = 'connection closed due to policy rejection: explicitly denied by: default/no-entry';
      for (const direction of ['outbound', 'inbound']) {
        expect(await mesh.accessLine('a', direction, localPort)).toMatchObject({
          level: 'error',
          message: 'connection complete',
          fields: { 'src.identity': identityOf('sleep'), error },
        });
      }
      await reset();
    });
  });

  it('facts 3.3: where there is an ALLOW, what none allows is refused', async () => {
    mesh.write({ policies: policy('only-client2', 'Allow', principal('client2')) });
    await until(true, open);
    expect((await mesh.ask('client2', HTTPBIN, 80, 'x')).error).toBeUndefined();
    expect(
      mesh
        .decisions('b')
        .filter(({ rbac }) => rbac?.allowed === false)
        .at(-1)?.rbac?.reason,
    ).toBe('allow policies exist, but none allowed');
    await reset();
  });

  it('facts 3.2: a selector policy binds the workloads that list it, on tunnels that stand too', async () => {
    const policies = policy('selected', 'Deny', principal('sleep'), 'WorkloadSelector');
    mesh.write({ policies });
    expect((await open()).error).toBeUndefined();
    const { openInboundTunnels } = await mesh.proxy('b').stats();
    // The same policy, and the workload that now lists it: what the proxy knew when the tunnel was made is not asked.
    mesh.write({
      policies,
      workloads: [
        workloads.sleep,
        workloads.client2,
        { ...workloads.httpbin, authorizationPolicies: ['default/selected'] },
      ],
    });
    await until(true, open);
    expect((await mesh.proxy('b').stats()).openInboundTunnels).toBe(openInboundTunnels);
    await reset();
  });

  describe('facts 3.6: a policy that comes while connections are open', () => {
    async function held(pod: 'sleep' | 'client2' | 'outside', host: string, port = 80): Promise<Socket> {
      const socket = await mesh.connect(pod, host, port);
      socket.write('hello');
      await new Promise((resolve) => socket.once('data', resolve));
      return socket;
    }

    it('cuts those that it denies, by HBONE, in plaintext and on the same node, and leaves tunnels and others alone', async () => {
      const denied = [await held('sleep', VIP), await held('sleep', CLIENT2), await held('outside', HTTPBIN)];
      const kept = [await held('client2', VIP), await held('sleep', HTTPBIN, 444)];
      const cutBefore = mesh.accessLines('b').filter(isCut).length;
      const before = { a: await mesh.proxy('a').stats(), b: await mesh.proxy('b').stats() };
      const ends = denied.map(untilEnd);
      const ports = denied.map(({ localPort }) => localPort!);

      mesh.write({
        policies:
          policy('no-sleep', 'Deny', `${principal('sleep')}, destinationPorts: [80]`) +
          policy('no-plaintext', 'Deny', 'notPrincipals: [!Presence []]'),
      });
      expect((await Promise.all(ends)).map(({ error }) => error)).toEqual(['ECONNRESET', 'ECONNRESET', 'ECONNRESET']);

      expect((await mesh.accessLine('a', 'outbound', ports[0]!)).fields.error).toMatch(/^stream reset by peer/);
      for (const direction of ['outbound', 'inbound']) {
        expect((await mesh.accessLine('a', direction, ports[1]!)).fields.error).toBe(CUT);
      }
      expect((await mesh.accessLine('b', 'inbound', ports[2]!)).fields).toMatchObject({ error: CUT, bytes_recv: '5' });
      expect(mesh.accessLines('b').filter(isCut).length).toBe(cutBefore + 2);

      for (const socket of kept) {
        const outcome = untilEnd(socket);
        socket.end(' and on');
        expect((await outcome).received.toString()).toBe(' and on');
      }
      const after = { a: await mesh.proxy('a').stats(), b: await mesh.proxy('b').stats() };
      expect(after.a.openOutboundTunnels).toBe(before.a.openOutboundTunnels);
      expect(after.b.openInboundTunnels).toBe(before.b.openInboundTunnels);
      expect(after.b.connectionsDenied).toBe(before.b.connectionsDenied + 2);
      await reset();
    });

    it('cuts nothing where it denies nobody who is there', async () => {
      const socket = await held('sleep', VIP);
      mesh.write({ policies: policy('no-client2', 'Deny', principal('client2')) });
      await until(true, () => mesh.ask('client2', HTTPBIN, 80, 'x'));
      const outcome = untilEnd(socket);
      socket.end(' there');
      expect(await outcome).toEqual({ received: Buffer.from(' there'), error: undefined });
      await reset();
    });
  });
});
