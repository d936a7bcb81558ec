import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeRequiring } from '../support/require.ts';
import {
  CLIENT2,
  EchoServer,
  eventually,
  HOSTNAME,
  HTTPBIN,
  identityOf,
  Mesh,
  OUTSIDE,
  SLEEP,
  service,
  untilEnd,
  VIP,
  workloads,
  ZTUNNEL_A,
} from './mesh.ts';

const nobody = {
  name: 'nobody',
  namespace: 'default',
  hostname: 'nobody.default.svc.cluster.local',
  vips: ['/10.96.0.200'],
  ports: { 80: 80 },
};

// Ports of each server: 80 (or 8080) echoes, 81 answers after the end, 82 resets, 83 notes how its client leaves.
describeRequiring('outbound: what becomes of a connection that a pod opens', { root: true }, () => {
  let mesh: Mesh;
  const httpbin = new EchoServer();
  const client2 = new EchoServer();
  const outside = new EchoServer();
  const resets: Record<'httpbin' | 'client2' | 'outside', (string | undefined)[]> = {
    httpbin: [],
    client2: [],
    outside: [],
  };

  beforeAll(async () => {
    mesh = await Mesh.start({ prefix: `zo${process.pid % 1000}-`, services: [service, nobody] });
    await mesh.serve('httpbin', 80, httpbin.handle);
    await mesh.serve('client2', 80, client2.handle);
    await mesh.serve('outside', 8080, outside.handle);
    for (const pod of ['httpbin', 'client2', 'outside'] as const) {
      await mesh.serve(pod, 81, (socket) => {
        void untilEnd(socket).then(({ received }) => socket.end(`answer to ${received}`));
      });
      await mesh.serve(pod, 82, (socket) => socket.once('data', () => socket.resetAndDestroy()));
      await mesh.serve(pod, 83, (socket) => {
        socket.on('error', (error: NodeJS.ErrnoException) => resets[pod].push(error.code));
        socket.on('data', () => socket.write('got it'));
      });
    }
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

  it('facts 1.10: halves end one by one, and nothing that was sent is lost', async () => {
    for (const [host, port] of [
      [HTTPBIN, 81],
      [CLIENT2, 81],
      [OUTSIDE, 81],
    ] as const) {
      const socket = await mesh.connect('sleep', host, port);
      const outcome = untilEnd(socket);
      socket.end('question');
      // The server answers only after it has seen the end of the question.
      expect(await outcome).toEqual({ received: Buffer.from('answer to question'), error: undefined });
    }
  });

  it('an application that resets is a reset for its client, on every path, and the log says so', async () => {
    for (const [host, port] of [
      [HTTPBIN, 82],
      [CLIENT2, 82],
      [OUTSIDE, 82],
    ] as const) {
      const socket = await mesh.connect('sleep', host, port);
      const { localPort } = socket;
      const outcome = untilEnd(socket);
      socket.write('x');
      expect((await outcome).error).toBe('ECONNRESET');
      const { level, message, fields } = await mesh.accessLine('a', 'outbound', localPort!);
      expect({ level, message }).toEqual({ level: 'error', message: 'connection complete' });
      expect(fields.error).not.toBe('');
    }
  });

  it('a client that resets is a reset for the application', async () => {
    for (const [host, reset] of [
      [HTTPBIN, resets.httpbin],
      [CLIENT2, resets.client2],
      [OUTSIDE, resets.outside],
    ] as const) {
      const before = reset.length;
      const socket = await mesh.connect('sleep', host, 83);
      socket.write('x');
      await new Promise((resolve) => socket.once('data', resolve));
      socket.resetAndDestroy();
      await eventually(() => reset.length > before);
      expect(reset.at(-1)).toBe('ECONNRESET');
    }
  });

  describe('refused, with a reset', () => {
    async function refused(host: string, port: number) {
      const { localPort, received, error } = await mesh.ask('sleep', host, port, 'x');
      expect({ received: received.length, error }).toEqual({ received: 0, error: 'ECONNRESET' });
      return { log: await mesh.accessLine('a', 'outbound', localPort), localPort };
    }

    it('facts 1.3: a port nobody listens on, on another node: 503', async () => {
      const before = mesh.inboundCount('b');
      const { log } = await refused(HTTPBIN, 4444);
      expect({ level: log.level, message: log.message, error: log.fields.error }).toEqual({
        level: 'error',
        message: 'connection complete',
        error: 'http status: 503 Service Unavailable',
      });
      const inbound = await mesh.nextInbound('b', before);
      expect(inbound.access.fields.error).toBe('connect: ECONNREFUSED');
      expect(inbound.decision).toMatchObject({ decision: { kind: 'accept' }, rbac: { allowed: true } });
    });

    it('a port nobody listens on, on the same node and outside', async () => {
      for (const host of [CLIENT2, OUTSIDE]) {
        expect((await refused(host, 4444)).log.fields.error).toBe('connect: ECONNREFUSED');
      }
    });

    it('facts 2.3 step 3: a service without a healthy endpoint', async () => {
      const { log } = await refused('10.96.0.200', 80);
      expect(log).toEqual({
        level: 'warn',
        message: 'connection failed',
        fields: {
          'src.addr': expect.stringMatching(/^10\.244\.1\.10:\d+$/),
          'dst.addr': '10.96.0.200:80',
          direction: 'outbound',
          error: 'no healthy upstream: 10.96.0.200:80',
        },
      });
    });

    it('facts 2.8: the proxy’s own listener, which would dial itself for ever', async () => {
      const { connectionsOpened } = await mesh.proxy('a').stats();
      const { log, localPort } = await refused(ZTUNNEL_A, 15001);
      expect(log).toMatchObject({
        level: 'warn',
        message: 'connection failed',
        fields: { 'dst.addr': `${ZTUNNEL_A}:15001`, error: 'attempted recursive call to ourselves' },
      });
      expect(await mesh.decision('a', 'outbound', localPort)).toMatchObject({
        decision: { kind: 'reject', cause: 'self-call' },
      });
      expect((await mesh.proxy('a').stats()).connectionsOpened).toBe(connectionsOpened + 1);
    });

    it('facts 2.6 step 2: a capture port of a pod, on the same node and on another', async () => {
      expect((await refused(CLIENT2, 15008)).log.fields.error).toBe('attempted recursive call to ourselves');
      const before = mesh.inboundCount('b');
      expect((await refused(HTTPBIN, 15006)).log.fields.error).toBe('http status: 503 Service Unavailable');
      const inbound = await mesh.nextInbound('b', before);
      expect(inbound.access).toMatchObject({
        level: 'warn',
        message: 'connection failed',
        fields: { error: 'attempted recursive call to ourselves' },
      });
    });

    it('a source that no workload of this node has, and what the mesh does not know of', async () => {
      mesh.write({ workloads: [workloads.client2, workloads.httpbin] });
      const socket = await eventually(async () => {
        const outcome = await mesh.ask('sleep', OUTSIDE, 8080, 'x');
        return outcome.error === undefined ? undefined : outcome;
      });
      expect(socket.error).toBe('ECONNRESET');
      const { message, fields } = await mesh.accessLine('a', 'outbound', socket.localPort);
      expect({ message, error: fields.error }).toEqual({
        message: 'connection failed',
        error: `unknown source: no workload of this node has the address ${SLEEP}`,
      });
      expect(await mesh.decision('a', 'outbound', socket.localPort)).toMatchObject({
        decision: { kind: 'reject', cause: 'unknown-source' },
      });
    });
  });
});
