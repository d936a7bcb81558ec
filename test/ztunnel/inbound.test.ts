import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../../src/identity/index.ts';
import { connect } from '../../src/socket/index.ts';
import { describeRequiring } from '../support/require.ts';
import { credentialsOf, HboneClient, type HboneTarget, refusal } from './hbone-client.ts';
import {
  CLIENT2,
  EchoServer,
  eventually,
  HOSTNAME,
  HTTPBIN,
  identityOf,
  Mesh,
  OUTSIDE,
  policy,
  SLEEP,
  TRUST_DOMAIN,
  untilEnd,
  workload,
  workloads,
} from './mesh.ts';

type Credentials = Awaited<ReturnType<typeof credentialsOf>>;

describeRequiring('inbound HBONE: port 15008, spoken to by Node’s own TLS and HTTP/2', { root: true }, () => {
  let mesh: Mesh;
  let target: HboneTarget;
  let credentials: Credentials;
  const httpbin = new EchoServer();

  beforeAll(async () => {
    mesh = await Mesh.start({
      prefix: `zi${process.pid % 1000}-`,
      // client2 has no service account, so no identity.
      workloads: [
        workloads.sleep,
        workloads.httpbin,
        workload('client2', CLIENT2, 'a', { trustDomain: '', serviceAccount: '' }),
      ],
      policies: policy('no-444', 'Deny', 'destinationPorts: [444]'),
    });
    await mesh.serve('httpbin', 80, httpbin.handle);
    await mesh.serve('httpbin', 444, httpbin.handle);
    target = { namespace: mesh.namespace('outside'), ip: HTTPBIN };
    credentials = await credentialsOf(mesh.authority);
  });
  afterAll(() => mesh?.[Symbol.asyncDispose]());

  const lastLog = async (count: number) => (await mesh.nextInbound('b', count)).access;

  it('shows the pod’s own identity, in TLS 1.3, with h2 and without a session ticket', async () => {
    using client = await HboneClient.connect(target, credentials);
    const sessions: unknown[] = [];
    client.tls.on('session', (session) => sessions.push(session));
    expect(client.tls.getPeerCertificate().subjectaltname).toBe(`URI:${identityOf('httpbin')}`);
    expect([client.tls.getProtocol(), client.tls.alpnProtocol]).toEqual(['TLSv1.3', 'h2']);
    expect(client.tls.authorized).toBe(true);
    await client.request(`${HTTPBIN}:80`);
    expect(sessions).toEqual([]);
  });

  it('facts 1.3: 200 once the pod is connected, with the pod’s baggage; bytes and ends both ways', async () => {
    using client = await HboneClient.connect(target, credentials);
    const before = mesh.inboundCount('b');
    const { status, headers, stream } = await client.request(`${HTTPBIN}:80`, {
      baggage: 'k8s.namespace.name=default',
      forwarded: `for="10.0.0.1:1";host=${HOSTNAME}`,
      traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00`,
    });
    expect({ status, baggage: headers.baggage }).toEqual({
      status: 200,
      baggage: 'k8s.cluster.name=Kubernetes,k8s.namespace.name=default',
    });
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.end('through the tunnel');
    await new Promise((resolve) => stream.once('close', resolve));
    expect(Buffer.concat(chunks).toString()).toBe('through the tunnel');
    expect(stream.rstCode).toBe(0);
    // `forwarded: for=` is not believed: the source is the tunnel's peer.
    expect(httpbin.peers.at(-1)?.ip).toBe(OUTSIDE);
    const { level, fields } = await lastLog(before);
    expect({ level, ...fields }).toMatchObject({
      level: 'info',
      'src.identity': identityOf('sleep'),
      'dst.hbone_addr': `${HTTPBIN}:80`,
      'dst.service': HOSTNAME,
      bytes_sent: '18',
      bytes_recv: '18',
    });
    expect(fields).not.toHaveProperty('src.workload');
  });

  it('facts 2.6: a service by its host name', async () => {
    using client = await HboneClient.connect(target, credentials);
    expect((await client.request(`${HOSTNAME}:80`)).status).toBe(200);
  });

  describe('facts 1.3: refused with a status, and the tunnel goes on', () => {
    const port = (number: number) => `${HTTPBIN}:${number}`;
    const cases: [string, string, Record<string, string>, number, string, 'failed' | 'complete'][] = [
      ['an address that is not the pod’s', `${SLEEP}:80`, {}, 400, `ip mismatch: ${HTTPBIN} != ${SLEEP}`, 'failed'],
      ['an authority without a port', HTTPBIN, {}, 400, `invalid authority: "${HTTPBIN}"`, 'failed'],
      [
        'another method',
        port(80),
        { ':method': 'GET', ':path': '/', ':scheme': 'https' },
        400,
        'method is "GET", not CONNECT',
        'failed',
      ],
      ['a port of the proxy', port(15008), {}, 503, 'attempted recursive call to ourselves', 'failed'],
      [
        'a host name of nobody',
        'x.y.svc.cluster.local:80',
        {},
        503,
        'no service or workload for hostname: x.y.svc.cluster.local',
        'failed',
      ],
      ['a port that the service has not', `${HOSTNAME}:81`, {}, 503, `no port mapping for ${HOSTNAME}:81`, 'failed'],
      ['a port that nobody listens on', port(4444), {}, 503, 'connect: ECONNREFUSED', 'complete'],
      [
        'what a policy denies',
        port(444),
        {},
        401,
        'connection closed due to policy rejection: explicitly denied by: default/no-444',
        'complete',
      ],
    ];
    for (const [what, authority, headers, status, error, event] of cases) {
      it(`${status} for ${what}`, async () => {
        using client = await HboneClient.connect(target, credentials);
        const before = mesh.inboundCount('b');
        const answer = await client.request(authority, headers);
        expect(answer.status).toBe(status);
        expect(answer.headers).not.toHaveProperty('baggage');
        // The body of what is no CONNECT is read to its end.
        answer.stream.end();
        const log = await lastLog(before);
        expect({ level: log.level, message: log.message, error: log.fields.error }).toEqual({
          level: event === 'failed' ? 'warn' : 'error',
          message: `connection ${event}`,
          error,
        });
        expect((await client.request(port(80))).status).toBe(200);
      });
    }

    it('says in the decision log which policy it was, and counts it', async () => {
      const { connectionsDenied } = await mesh.proxy('b').stats();
      using client = await HboneClient.connect(target, credentials);
      const before = mesh.inboundCount('b');
      await client.request(port(444));
      const { decision } = await mesh.nextInbound('b', before);
      expect(decision).toMatchObject({
        decision: { kind: 'accept' },
        rbac: { allowed: false, reason: 'explicitly denied by: default/no-444' },
      });
      expect(decision.rbac?.explanation).toContain('destinationPorts');
      expect(decision).not.toHaveProperty('dialled');
      expect((await mesh.proxy('b').stats()).connectionsDenied).toBe(connectionsDenied + 1);
    });
  });

  describe('facts 1.5 and 1.6: refused in the handshake, before a byte of HTTP/2', () => {
    async function refused(options: () => Promise<Parameters<typeof refusal>[1]>) {
      const before = mesh.inboundCount('b');
      const code = await refusal(target, await options());
      const { access, decision } = await mesh.nextInbound('b', before);
      expect(access).toMatchObject({ level: 'warn', message: 'connection failed' });
      expect(decision).toMatchObject({ decision: { kind: 'reject', cause: 'handshake' } });
      expect(access.fields).not.toHaveProperty('src.identity');
      return { code, error: access.fields.error };
    }

    it('a client without a certificate', async () => {
      const { code, error } = await refused(async () => ({ ca: credentials.ca }));
      expect(code).toBe('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED');
      expect(error).toMatch(/^tls: .*peer did not return a certificate/);
    });

    it('a client of an authority that is not ours', async () => {
      const stranger = await CertificateAuthority.create({ trustDomain: TRUST_DOMAIN });
      const { code, error } = await refused(async () => ({
        ...(await credentialsOf(stranger)),
        ca: credentials.ca,
      }));
      expect(code).toMatch(/^ERR_SSL_.*(UNKNOWN_CA|BAD_CERTIFICATE)/);
      expect(error).toMatch(/^tls: .*certificate \d of the chain/);
    });

    it('a client of another trust domain below the same root', async () => {
      const material = mesh.authority.export();
      const foreign = CertificateAuthority.load({ ...material, trustDomain: 'elsewhere.example' });
      const { code, error } = await refused(() =>
        credentialsOf(foreign, 'spiffe://elsewhere.example/ns/default/sa/sleep'),
      );
      expect(code).toMatch(/^ERR_SSL_/);
      expect(error).toMatch(/trust domain/);
      expect(error).toContain('elsewhere.example');
    });

    it('TLS 1.2', async () => {
      const { code } = await refused(async () => ({ ...credentials, maxVersion: 'TLSv1.2' as const }));
      expect(code).toBe('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
    });

    it('a client that wants HTTP/1.1 (RFC 7301 section 3.2)', async () => {
      const { code } = await refused(async () => ({ ...credentials, ALPNProtocols: ['http/1.1'] }));
      expect(code).toBe('ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL');
    });

    it('plaintext', async () => {
      const before = mesh.inboundCount('b');
      const socket = await connect({ namespace: mesh.namespace('outside'), host: HTTPBIN, port: 15008 });
      const outcome = untilEnd(socket);
      socket.write('GET / HTTP/1.1\r\n\r\n');
      const { received } = await outcome;
      // At most a TLS alert.
      expect(received.length).toBeLessThan(16);
      expect((await lastLog(before)).fields.error).toMatch(/^tls: /);
    });

    it('but a client without ALPN is taken', async () => {
      using client = await HboneClient.connect(target, { ...credentials, ALPNProtocols: [] });
      expect((await client.request(`${HTTPBIN}:80`)).status).toBe(200);
    });
  });

  it('a pod without an identity has no port 15008, and an address of nobody has none either', async () => {
    const before = mesh.inboundCount('a');
    const pod: HboneTarget = { namespace: mesh.namespace('outside'), ip: CLIENT2 };
    expect(await refusal(pod, credentials)).toMatch(/ECONNRESET|ERR_SOCKET_CLOSED|EPIPE/);
    const { access } = await mesh.nextInbound('a', before);
    expect(access).toMatchObject({
      level: 'warn',
      message: 'connection failed',
      fields: { 'dst.addr': `${CLIENT2}:15008`, error: 'workload client2 has no SPIFFE identity' },
    });
  });

  it('facts 1.11: a pod that leaves the registry takes its tunnels with it', async () => {
    using client = await HboneClient.connect(target, credentials);
    const { stream } = await client.request(`${HTTPBIN}:80`);
    const gone = new Promise((resolve) => client.tls.once('close', resolve));
    const closed = new Promise((resolve) => stream.once('close', resolve));
    mesh.write({ workloads: [workloads.sleep] });
    await Promise.all([gone, closed]);
    expect(await refusal(target, credentials)).toMatch(/ECONNRESET|ERR_SOCKET_CLOSED|EPIPE/);
    const log = await eventually(() =>
      mesh.accessLines('b').find(({ fields }) => fields.error === 'the local workload is not known any more'),
    );
    expect(log.message).toBe('connection complete');
    // And comes back with a new certificate when it is there again.
    mesh.write({ workloads: [workloads.sleep, workloads.httpbin] });
    await eventually(async () => {
      try {
        using again = await HboneClient.connect(target, credentials);
        return (await again.request(`${HTTPBIN}:80`)).status === 200;
      } catch {
        return false;
      }
    });
  });
});
