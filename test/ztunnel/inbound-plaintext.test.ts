import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeRequiring } from '../support/require.ts';
import { EchoServer, eventually, HTTPBIN, identityOf, Mesh, OUTSIDE, policy, untilEnd, workloads } from './mesh.ts';

describeRequiring('inbound plaintext: port 15006, from outside the mesh', { root: true }, () => {
  let mesh: Mesh;
  const httpbin = new EchoServer();

  beforeAll(async () => {
    mesh = await Mesh.start({
      prefix: `zp${process.pid % 1000}-`,
      proxies: ['b'],
      policies: policy('no-444', 'Deny', 'destinationPorts: [444]'),
    });
    await mesh.serve('httpbin', 80, httpbin.handle);
    await mesh.serve('httpbin', 444, httpbin.handle);
  });
  afterAll(() => mesh?.[Symbol.asyncDispose]());

  it('facts 2.7: relayed to the pod, from the client’s own address, and logged without identities', async () => {
    const { localPort, received, error } = await mesh.ask('outside', HTTPBIN, 80, 'plain');
    expect({ text: received.toString(), error }).toEqual({ text: 'plain', error: undefined });
    expect(httpbin.peers.at(-1)?.ip).toBe(OUTSIDE);
    expect(await mesh.accessLine('b', 'inbound', localPort)).toEqual({
      level: 'info',
      message: 'connection complete',
      fields: {
        'src.addr': `${OUTSIDE}:${localPort}`,
        'dst.addr': `${HTTPBIN}:80`,
        'dst.workload': 'httpbin',
        'dst.namespace': 'default',
        'dst.cluster': 'Kubernetes',
        direction: 'inbound',
        bytes_sent: '5',
        bytes_recv: '5',
        duration: expect.stringMatching(/^\d+ms$/),
      },
    });
    const decision = await mesh.decision('b', 'inbound-plaintext', localPort);
    expect(decision).toMatchObject({
      originalDestination: `${HTTPBIN}:80`,
      decision: { kind: 'accept' },
      rbac: { allowed: true },
      dialled: `${HTTPBIN}:80`,
      dialledFrom: OUTSIDE,
    });
    expect(decision).not.toHaveProperty('tunnel');
  });

  it('what a policy denies is reset without a byte', async () => {
    const before = httpbin.peers.length;
    const { localPort, received, error } = await mesh.ask('outside', HTTPBIN, 444, 'plain');
    expect({ bytes: received.length, error }).toEqual({ bytes: 0, error: 'ECONNRESET' });
    expect(await mesh.accessLine('b', 'inbound', localPort)).toMatchObject({
      level: 'error',
      message: 'connection complete',
      fields: {
        bytes_sent: '0',
        error: 'connection closed due to policy rejection: explicitly denied by: default/no-444',
      },
    });
    expect(httpbin.peers.length).toBe(before);
  });

  it('facts 2.8: a capture port would lead the proxy to itself', async () => {
    for (const port of [15001, 15006]) {
      const { localPort, error } = await mesh.ask('outside', HTTPBIN, port, 'plain');
      expect(error).toBe('ECONNRESET');
      expect(await mesh.accessLine('b', 'inbound', localPort)).toMatchObject({
        level: 'warn',
        message: 'connection failed',
        fields: { 'dst.addr': `${HTTPBIN}:${port}`, error: 'attempted recursive call to ourselves' },
      });
    }
  });

  it('a port that nobody listens on', async () => {
    const { localPort, error } = await mesh.ask('outside', HTTPBIN, 4444, 'plain');
    expect(error).toBe('ECONNRESET');
    expect(await mesh.accessLine('b', 'inbound', localPort)).toMatchObject({
      level: 'error',
      fields: { error: 'connect: ECONNREFUSED' },
    });
  });

  it('a pod that is not in the registry (yet) takes nothing', async () => {
    const open = await mesh.connect('outside', HTTPBIN, 80);
    const echoed = untilEnd(open);
    mesh.write({ workloads: [workloads.sleep], policies: '' });
    const { localPort } = await eventually(async () => {
      const outcome = await mesh.ask('outside', HTTPBIN, 80, 'plain');
      return outcome.error !== undefined && outcome;
    });
    expect(await mesh.accessLine('b', 'inbound', localPort)).toMatchObject({
      level: 'warn',
      message: 'connection failed',
      fields: { error: 'the local workload is not known' },
    });
    // Who was let in stays.
    open.end('still here');
    expect((await echoed).received.toString()).toBe('still here');
    mesh.write({});
  });

  it('facts 3.8: STRICT, which is a denial of whoever has no identity, refuses plaintext', async () => {
    const strict =
      '- {name: strict, namespace: istio-system, scope: WorkloadSelector, action: Deny, dryRun: false, rules: [[[{notPrincipals: [!Presence []]}]]]}\n';
    const bound = { ...workloads.httpbin, authorizationPolicies: ['istio-system/strict'] };
    mesh.write({ workloads: [workloads.sleep, bound], policies: strict });
    await eventually(async () => {
      const { localPort, error } = await mesh.ask('outside', HTTPBIN, 80, 'plain');
      if (error === undefined) return false;
      const { fields } = await mesh.accessLine('b', 'inbound', localPort);
      return fields.error?.endsWith('explicitly denied by: istio-system/strict') ?? false;
    });
    // Node A gets its proxy only now: the mesh itself is let in.
    await mesh.startProxy('a');
    expect((await mesh.ask('sleep', HTTPBIN, 80, 'as sleep')).received.toString()).toBe('as sleep');
    await eventually(() => mesh.accessLines('b').find(({ fields }) => fields['src.identity'] === identityOf('sleep')));
  });
});
