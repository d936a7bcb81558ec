import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeRequiring } from '../support/require.ts';
import {
  CLIENT2,
  EchoServer,
  HOSTNAME,
  HTTPBIN,
  identityOf,
  Mesh,
  OUTSIDE,
  policy,
  SLEEP,
  VIP,
  workload,
  workloads,
  ZTUNNEL_A,
} from './mesh.ts';

describeRequiring('outbound: what becomes of a connection that a pod opens', { root: true }, () => {
  let mesh: Mesh;
  const httpbin = new EchoServer();
  const client2 = new EchoServer();
  const outside = new EchoServer();

  beforeAll(async () => {
    mesh = await Mesh.start({ prefix: `zo${process.pid % 1000}-` });
    await mesh.serve('httpbin', 80, httpbin.handle);
    await mesh.serve('client2', 80, client2.handle);
    await mesh.serve('outside', 8080, outside.handle);
  });
  afterAll(() => mesh?.[Symbol.asyncDispose]());

  it('facts 2.3 step 6: a service on another node, through a tunnel, seen from the pod’s own address', async () => {
    const before = mesh.inboundCount('b');
    const { localPort, received, error } = await mesh.ask('sleep', VIP, 80, 'to the service');
    expect({ text: received.toString(), error }).toEqual({ text: 'to the service', error: undefined });
    expect(httpbin.peers.at(-1)?.ip).toBe(SLEEP);

    const outbound = await mesh.accessLine('a', 'outbound', localPort);
    expect(outbound).toEqual({
      level: 'info',
      message: 'connection complete',
      fields: {
        'src.addr': `${SLEEP}:${localPort}`,
        'src.workload': 'sleep',
        'src.namespace': 'default',
        'src.identity': identityOf('sleep'),
        'src.cluster': 'Kubernetes',
        'dst.addr': `${HTTPBIN}:15008`,
        'dst.hbone_addr': `${HTTPBIN}:80`,
        'dst.service': HOSTNAME,
        'dst.workload': 'httpbin',
        'dst.namespace': 'default',
        'dst.identity': identityOf('httpbin'),
        'dst.cluster': 'Kubernetes',
        direction: 'outbound',
        bytes_sent: '14',
        bytes_recv: '14',
        duration: expect.stringMatching(/^\d+ms$/),
      },
    });
    expect(await mesh.decision('a', 'outbound', localPort)).toMatchObject({
      originalDestination: `${VIP}:80`,
      decision: { kind: 'hbone', via: 'direct' },
      tunnel: {
        localIdentity: identityOf('sleep'),
        peerIdentity: identityOf('httpbin'),
        tls: expect.stringMatching(/^TLSv1\.3 TLS_AES_(256_GCM_SHA384|128_GCM_SHA256) /),
        authority: `${HTTPBIN}:80`,
      },
      dialled: `${HTTPBIN}:15008`,
      dialledFrom: SLEEP,
      bytesSent: 14,
      bytesReceived: 14,
    });

    // The port that httpbin's side knows is the tunnel's: facts section 3.7.
    const inbound = await mesh.nextInbound('b', before);
    expect(inbound.access.fields).toEqual({
      'src.addr': expect.stringMatching(/^10\.244\.1\.10:\d+$/),
      'src.workload': 'sleep',
      'src.namespace': 'default',
      'src.identity': identityOf('sleep'),
      'src.cluster': 'Kubernetes',
      'dst.addr': `${HTTPBIN}:15008`,
      'dst.hbone_addr': `${HTTPBIN}:80`,
      'dst.service': HOSTNAME,
      'dst.workload': 'httpbin',
      'dst.namespace': 'default',
      'dst.identity': identityOf('httpbin'),
      'dst.cluster': 'Kubernetes',
      direction: 'inbound',
      bytes_sent: '14',
      bytes_recv: '14',
      duration: expect.stringMatching(/^\d+ms$/),
    });
    expect(inbound.decision).toMatchObject({
      originalDestination: `${HTTPBIN}:15008`,
      decision: { kind: 'accept' },
      rbac: { allowed: true },
      tunnel: { localIdentity: identityOf('httpbin'), peerIdentity: identityOf('sleep'), authority: `${HTTPBIN}:80` },
      dialled: `${HTTPBIN}:80`,
      dialledFrom: SLEEP,
    });
  });

  it('facts 1.8: connections of the same pair share one tunnel, those of another pod do not', async () => {
    await Promise.all([1, 2, 3].map(() => mesh.ask('sleep', HTTPBIN, 80, 'x')));
    const { openOutboundTunnels } = await mesh.proxy('a').stats();
    await mesh.ask('sleep', VIP, 80, 'x');
    expect(await mesh.proxy('a').stats()).toMatchObject({ openOutboundTunnels });
    await mesh.ask('client2', VIP, 80, 'x');
    expect(await mesh.proxy('a').stats()).toMatchObject({ openOutboundTunnels: openOutboundTunnels + 1 });
    expect(httpbin.peers.at(-1)?.ip).toBe(CLIENT2);
  });

  it('a pod of the same node is served inside the proxy, with one record for each side', async () => {
    const tunnels = (await mesh.proxy('a').stats()).openOutboundTunnels;
    const { localPort, received, error } = await mesh.ask('sleep', CLIENT2, 80, 'neighbour');
    expect({ text: received.toString(), error }).toEqual({ text: 'neighbour', error: undefined });
    expect(client2.peers.at(-1)?.ip).toBe(SLEEP);
    expect((await mesh.proxy('a').stats()).openOutboundTunnels).toBe(tunnels);
    for (const direction of ['outbound', 'inbound'] as const) {
      const { level, fields } = await mesh.accessLine('a', direction, localPort);
      expect({ level, ...fields }).toMatchObject({
        level: 'info',
        'src.identity': identityOf('sleep'),
        'dst.addr': `${CLIENT2}:80`,
        'dst.workload': 'client2',
        'dst.identity': identityOf('client2'),
        bytes_sent: '9',
        bytes_recv: '9',
      });
      expect(fields).not.toHaveProperty('dst.hbone_addr');
      const decision = await mesh.decision('a', direction, localPort);
      expect(decision).toMatchObject({ decision: { kind: 'local', via: 'direct' }, dialledFrom: SLEEP });
      expect(decision.rbac?.allowed).toBe(direction === 'inbound' ? true : undefined);
    }
  });

  it('facts 2.3 step 3: what the mesh does not know is relayed in plain TCP, without a word about identities', async () => {
    const { localPort, received } = await mesh.ask('sleep', OUTSIDE, 8080, 'plain');
    expect(received.toString()).toBe('plain');
    const { fields } = await mesh.accessLine('a', 'outbound', localPort);
    expect(fields).toEqual({
      'src.addr': `${SLEEP}:${localPort}`,
      'src.workload': 'sleep',
      'src.namespace': 'default',
      'src.cluster': 'Kubernetes',
      'dst.addr': `${OUTSIDE}:8080`,
      direction: 'outbound',
      bytes_sent: '5',
      bytes_recv: '5',
      duration: expect.stringMatching(/^\d+ms$/),
    });
    expect(await mesh.decision('a', 'outbound', localPort)).toMatchObject({
      decision: { kind: 'tcp', via: 'passthrough' },
      dialled: `${OUTSIDE}:8080`,
      dialledFrom: SLEEP,
    });
  });
});
