import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { Certificate, CertificateAuthority } from '../../src/identity/index.ts';
import { createNamespace, deleteNamespace } from '../../src/netns/index.ts';
import { listen } from '../../src/socket/index.ts';
import { startZtunnel, type ZtunnelOptions } from '../../src/ztunnel/index.ts';
import { describeRequiring } from '../support/require.ts';
import { credentialsOf, HboneClient, refusal } from './hbone-client.ts';
import {
  EchoServer,
  eventually,
  HTTPBIN,
  identityOf,
  Mesh,
  SLEEP,
  service,
  TRUST_DOMAIN,
  untilEnd,
  VIP,
  workload,
  workloads,
} from './mesh.ts';

describeRequiring('startZtunnel: what it follows while it runs', { root: true }, () => {
  /** Passes before the last of these tests, and must have no say in it. */
  const START_TIMEOUT_MS = 8000;
  let mesh: Mesh;
  let startedMs: number;
  const httpbin = new EchoServer();

  beforeAll(async () => {
    mesh = await Mesh.start({
      prefix: `zz${process.pid % 1000}-`,
      ztunnel: { startTimeoutMs: START_TIMEOUT_MS, certificateTtlMs: 6000 },
    });
    startedMs = performance.now();
    await mesh.serve('httpbin', 80, httpbin.handle);
    await mesh.serve('outside', 80, httpbin.handle);
  });
  afterAll(() => mesh?.[Symbol.asyncDispose]());

  /** An address that nobody knows is a passthrough that nobody answers: not waited for. */
  const works = async (host: string) =>
    Promise.race([
      mesh.ask('sleep', host, 80, 'x').then(({ received }) => received.toString() === 'x'),
      new Promise<false>((resolve) => setTimeout(resolve, 300, false)),
    ]);

  it('stats add up', async () => {
    const before = await mesh.proxy('a').stats();
    await mesh.ask('sleep', VIP, 80, Buffer.alloc(1000));
    await mesh.ask('sleep', VIP, 81, 'refused');
    const after = await eventually(async () => {
      const stats = await mesh.proxy('a').stats();
      return stats.openConnections === 0 && stats;
    });
    expect({
      opened: after.connectionsOpened - before.connectionsOpened,
      closed: after.connectionsClosed - before.connectionsClosed,
      failed: after.connectionsFailed - before.connectionsFailed,
      denied: after.connectionsDenied - before.connectionsDenied,
      sent: after.bytesSent - before.bytesSent,
      received: after.bytesReceived - before.bytesReceived,
    }).toEqual({ opened: 2, closed: 2, failed: 1, denied: 0, sent: 1000, received: 1000 });
  });

  it('bad content is refused whole, with line and reason, and what was in force stays', async () => {
    expect(await works(VIP)).toBe(true);
    const count = mesh.warnings.length;
    mesh.write('workloads: []\nservices: []\npolicies:\n- {name: p, namespace: default, scope: Everywhere}\n');
    await eventually(() => mesh.warnings.length >= count + 2);
    for (const warning of mesh.warnings.slice(count)) {
      expect(warning).toMatch(/^discovery: .*policies\[0\]/);
      expect(warning).toContain(`${mesh.path}:4:`);
    }
    expect(await works(VIP)).toBe(true);
    // Content that reads well and contradicts itself, too: a uid that is there twice.
    mesh.write({ workloads: [workloads.sleep, workloads.sleep] });
    await eventually(() => mesh.warnings.length >= count + 4);
    expect(await works(VIP)).toBe(true);
    mesh.write({});
  });

  it('facts 1.11: a renewed certificate is for new tunnels; those that stand stay as they are', {
    timeout: 15_000,
  }, async () => {
    const target = { namespace: mesh.namespace('outside'), ip: HTTPBIN };
    const credentials = await credentialsOf(mesh.authority);
    using client = await HboneClient.connect(target, credentials);
    const { stream } = await client.request(`${HTTPBIN}:80`);
    const serial = async () => {
      using other = await HboneClient.connect(target, credentials);
      return other.tls.getPeerCertificate().serialNumber;
    };
    const first = client.tls.getPeerCertificate().serialNumber;
    const socket = await mesh.connect('sleep', VIP, 80);
    socket.write('before');
    await new Promise((resolve) => socket.once('data', resolve));
    await eventually(async () => (await serial()) !== first, 10_000);
    const renewed = await serial();
    // Long enough that the first certificate is over, by its own dates.
    const leaf = new Certificate(client.tls.getPeerCertificate().raw);
    await eventually(() => Date.now() > leaf.notAfterMs, 10_000);
    expect([first, renewed]).not.toContain(await serial());
    const echoed = new Promise((resolve) => stream.once('data', (chunk: Buffer) => resolve(chunk.toString())));
    stream.write('still');
    expect(await echoed).toBe('still');
    const outcome = untilEnd(socket);
    socket.end(' after');
    expect((await outcome).received.toString()).toBe(' after');
    expect(await works(VIP)).toBe(true);
  });

  it('certificates are for the workloads of the node alone, and forgotten with them', async () => {
    const target = { namespace: mesh.namespace('outside'), ip: HTTPBIN };
    const credentials = await credentialsOf(mesh.authority);
    // httpbin moves to another service account: the old one's certificate is of no use to anybody any more.
    mesh.write({ workloads: [workloads.sleep, workload('httpbin', HTTPBIN, 'b', { serviceAccount: 'other' })] });
    await eventually(async () => {
      try {
        using client = await HboneClient.connect(target, credentials);
        return client.tls.getPeerCertificate().subjectaltname === `URI:${identityOf('other')}`;
      } catch {
        return false;
      }
    });
    // Node A takes no tunnels for a pod of node B, wherever its packets come from.
    const before = mesh.inboundCount('a');
    mesh.write({ workloads: [workload('sleep', SLEEP, 'b'), workloads.httpbin] });
    await eventually(
      async () =>
        (await refusal({ ...target, ip: SLEEP }, credentials)) !== 'closed' && mesh.inboundCount('a') > before,
    );
    const log = (await mesh.nextInbound('a', mesh.inboundCount('a') - 1)).access;
    expect(log.fields.error).toBe(`no workload of this node has the address ${SLEEP}`);
    mesh.write({});
    await eventually(() => works(VIP));
  });

  it('a service and a workload that come later are usable, and gone when they go', { timeout: 30_000 }, async () => {
    const other = {
      ...service,
      name: 'other',
      hostname: 'other.default.svc.cluster.local',
      vips: ['/10.96.0.107'],
    };
    const backend = workload('httpbin', HTTPBIN, 'b', { services: { [`default/${other.hostname}`]: { 80: 80 } } });
    await eventually(() => performance.now() > startedMs + START_TIMEOUT_MS, 2 * START_TIMEOUT_MS);
    mesh.write({ workloads: [workloads.sleep, backend], services: [other] });
    await eventually(() => works('10.96.0.107'));
    mesh.write({});
    await eventually(() => works(VIP));
  });
});

describeRequiring('startZtunnel: a start that fails leaves nothing behind', { root: true }, () => {
  const name = `zs${process.pid % 1000}-proxy`;
  let authority: ZtunnelOptions['authority'];
  const good = join(import.meta.dirname, 'empty-mesh.yaml');

  beforeAll(async () => {
    createNamespace(name).close();
    authority = (await CertificateAuthority.create({ trustDomain: TRUST_DOMAIN })).export();
  });
  afterAll(() => deleteNamespace(name, { missingOk: true }));

  const options = (more: Partial<ZtunnelOptions> = {}): ZtunnelOptions => ({
    namespace: name,
    nodeName: 'node-a',
    trustDomain: TRUST_DOMAIN,
    discovery: { path: good },
    authority,
    ...more,
  });
  const left = () => ({ descriptors: readdirSync('/proc/self/fd').length, threads: threadCount() });

  /** Starts once to warm up what stays on purpose, then again under watch. */
  async function failing(more: Partial<ZtunnelOptions>): Promise<Error & { code?: string; field?: string }> {
    const start = () =>
      startZtunnel(options(more)).then(
        () => undefined,
        (error: Error) => error,
      );
    await start();
    const before = left();
    const error = await start();
    // Fewer where a thread of the first start was still on its way out.
    await eventually(() => left().threads <= before.threads);
    expect(left().descriptors).toBe(before.descriptors);
    if (error === undefined) throw new Error('it started');
    return error;
  }

  it('a mesh file that is not there, or bad', async () => {
    expect(await failing({ discovery: { path: '/nowhere/mesh.yaml' } })).toMatchObject({
      code: 'ERR_DISCOVERY_FILE_MISSING',
    });
    expect(await failing({ discovery: { path: import.meta.filename } })).toMatchObject({ name: 'MeshFileError' });
  });

  it('a namespace that is not there', async () => {
    const error = await failing({ namespace: `${name}-not` });
    expect(error).toMatchObject({ code: 'ERR_ZTUNNEL_START' });
    expect(error.message).toContain(`${name}-not`);
  });

  it('a port that is taken', async () => {
    await using proxy = await startZtunnel(options());
    const error = await failing({});
    expect(error).toMatchObject({ code: 'ERR_ZTUNNEL_START' });
    expect(error.message).toMatch(/15001.*EADDRINUSE|EADDRINUSE.*15001/);
    await proxy.stats();
  });

  it('with two threads, of which neither gets its port', async () => {
    await using _proxy = await startZtunnel(options());
    expect(await failing({ threads: 2 })).toMatchObject({ code: 'ERR_ZTUNNEL_START' });
  });

  it('a log that cannot be opened', async () => {
    expect(await failing({ accessLog: { path: '/nowhere/access.log' } })).toMatchObject({ code: 'ENOENT' });
    expect(await failing({ decisionLogPath: '/nowhere/decisions.jsonl' })).toMatchObject({ code: 'ENOENT' });
  });

  it('an abort, before, during and at the end of the start', async () => {
    const reason = new Error('changed my mind');
    for (const afterMs of [0, 1, 20, 40]) {
      const start = async () => {
        const controller = new AbortController();
        if (afterMs === 0) controller.abort(reason);
        else setTimeout(() => controller.abort(reason), afterMs);
        return startZtunnel(options({ signal: controller.signal })).then(
          // On a quick machine it may have been faster: then the signal has no say any more.
          (proxy) => proxy.close().then(() => reason),
          (error: unknown) => error,
        );
      };
      await start();
      const before = left();
      expect(await start()).toBe(reason);
      await eventually(() => left().threads <= before.threads);
      expect(left().descriptors).toBe(before.descriptors);
    }
  });

  it('a signal that aborts after the start does nothing', async () => {
    const controller = new AbortController();
    await using proxy = await startZtunnel(options({ signal: controller.signal }));
    controller.abort();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await proxy.stats()).toMatchObject({ connectionsOpened: 0 });
  });

  it('a start that takes too long', async () => {
    expect(await failing({ startTimeoutMs: 1 })).toMatchObject({ code: 'ERR_ZTUNNEL_START' });
  });

  describe('bad options are named, before anything is made', () => {
    const cases: [string, Partial<ZtunnelOptions>][] = [
      ['nodeName', { nodeName: '' }],
      ['threads', { threads: 0 }],
      ['threads', { threads: 65 }],
      ['threads', { threads: 1.5 }],
      ['maxStreamsPerTunnel', { maxStreamsPerTunnel: 0 }],
      ['tunnelIdleMs', { tunnelIdleMs: -1 }],
      ['packetMark', { packetMark: 2 ** 32 }],
      ['drainDeadlineMs', { drainDeadlineMs: 2 ** 31 }],
      ['startTimeoutMs', { startTimeoutMs: 0 }],
      ['busyPollMs', { busyPollMs: -0.1 }],
      ['busyPollMs', { busyPollMs: 1.1 }],
      ['busyPollMs', { busyPollMs: Number.NaN }],
      ['certificateTtlMs', { certificateTtlMs: Number.NaN }],
      ['http2.initialWindowBytes', { http2: { initialWindowBytes: 0 } }],
      ['http2.connectionWindowBytes', { http2: { connectionWindowBytes: 65_534 } }],
      ['http2.maxFrameBytes', { http2: { maxFrameBytes: 16_383 } }],
    ];
    for (const [field, more] of cases) {
      it(`${field}: ${JSON.stringify(more)}`, async () => {
        await expect(startZtunnel(options(more))).rejects.toMatchObject({ code: 'ERR_ZTUNNEL_CONFIG', field });
      });
    }

    it('the authority’s key never shows in the error about it', async () => {
      const [, secret] = /\n([\w+/=]{40,})\n/.exec(authority.keyPem)!;
      const error = await failing({ authority: { ...authority, keyPem: authority.keyPem.replace(/.$/m, '!') } });
      expect(`${error.stack}${JSON.stringify(error)}`).not.toContain(secret!.slice(0, 16));
    });
  });

  it('after close(): closed is resolved, stats are refused, the ports are free, a second close waits for the first', async () => {
    const proxy = await startZtunnel(options());
    await Promise.all([proxy.close(), proxy.close(), proxy.drain()]);
    await proxy.closed;
    await expect(proxy.stats()).rejects.toMatchObject({ code: 'ERR_ZTUNNEL_CLOSED' });
    const { openNamespace, namespacePath } = await import('../../src/netns/index.ts');
    using namespace = openNamespace(namespacePath(name));
    onTestFinished(() => namespace.close());
    for (const port of [15001, 15006, 15008]) {
      (await listen({ namespace, host: '0.0.0.0', port })).close();
    }
  });
});

function threadCount(): number {
  return Number(/^Threads:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
}
