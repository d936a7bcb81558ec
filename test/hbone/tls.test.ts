import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { HboneClient, HboneServer } from '../../src/hbone/index.ts';
import { clientCertificate, idOf, serverCertificate } from './mesh.ts';
import { rawTls, tlsOptions } from './raw-peer.ts';

async function serving(): Promise<{ server: HboneServer; port: number; refusals: unknown[] } & AsyncDisposable> {
  const server = new HboneServer({ credentials: serverCertificate });
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  const refusals: unknown[] = [];
  server.on('refused', (error) => refusals.push(error));
  return { server, port, refusals, [Symbol.asyncDispose]: () => server.close() };
}

describe('the server’s TLS (facts section 1.5)', () => {
  it('TLS 1.3 with an Istio suite and X25519, ALPN h2', async () => {
    await using mesh = await serving();
    const socket = await rawTls(mesh.port);
    expect(socket.getProtocol()).toBe('TLSv1.3');
    expect(socket.getCipher().standardName).toBe('TLS_AES_256_GCM_SHA384');
    expect(socket.getEphemeralKeyInfo()).toMatchObject({ name: 'X25519' });
    expect(socket.alpnProtocol).toBe('h2');
    socket.destroy();
  });

  it.each([
    ['TLS 1.2', { maxVersion: 'TLSv1.2' as const }],
    ['ChaCha20 alone', { ciphers: 'TLS_CHACHA20_POLY1305_SHA256' }],
    ['another ALPN', { ALPNProtocols: ['http/1.1'] }],
    ['a group that is not offered', { ecdhCurve: 'P-521' }],
  ])('refuses %s in the handshake', async (_what, options) => {
    await using mesh = await serving();
    await expect(rawTls(mesh.port, options)).rejects.toMatchObject({ code: expect.stringMatching(/^E/) });
    await sleep(20);
    expect(mesh.refusals).toMatchObject([{ code: 'ERR_HBONE_TLS' }]);
  });

  it('refuses a client without a certificate', async () => {
    await using mesh = await serving();
    const { ca } = tlsOptions(clientCertificate);
    const refused = once(mesh.server, 'refused');
    const socket = connect({
      host: '127.0.0.1',
      port: mesh.port,
      ca,
      ALPNProtocols: ['h2'],
      checkServerIdentity: () => undefined,
    });
    socket.on('error', () => {}).resume();
    expect((await refused)[0]).toMatchObject({ code: 'ERR_HBONE_TLS' });
    socket.destroy();
  });

  it('takes a client without ALPN', async () => {
    await using mesh = await serving();
    const accepted = once(mesh.server, 'connection');
    const { ALPNProtocols: _none, ...options } = tlsOptions(clientCertificate);
    const socket = connect({ host: '127.0.0.1', port: mesh.port, ...options }).on('error', () => {});
    expect((await accepted)[0]).toMatchObject({ peer: { serviceAccount: 'client' } });
    socket.destroy();
  });

  it('resumes no session', async () => {
    await using mesh = await serving();
    let session: Buffer | undefined;
    const first = connect({ host: '127.0.0.1', port: mesh.port, ...tlsOptions(clientCertificate) });
    first.on('session', (ticket) => {
      session = ticket;
    });
    first.on('error', () => {}).resume();
    await once(first, 'data');
    await sleep(50);
    session ??= first.getSession();
    first.destroy();
    const second = await rawTls(mesh.port, { session });
    expect(second.isSessionReused()).toBe(false);
    second.destroy();
  });
});

describe('the client’s TLS (facts section 1.5)', () => {
  it('sends no SNI, and offers TLS 1.3 with ALPN h2 alone', async () => {
    const listener = createServer({ ...tlsOptions(serverCertificate), requestCert: true, minVersion: 'TLSv1.2' });
    const seen = once(listener, 'secureConnection') as Promise<[TLSSocket]>;
    await once(listener.listen(0, '127.0.0.1'), 'listening');
    const { port } = listener.address() as AddressInfo;
    await using client = new HboneClient({ credentials: clientCertificate });
    const to = {
      authority: 'named.example:80',
      peerIdentity: idOf('server'),
      destination: { host: 'localhost', port },
    };
    const connecting = client.connect(to).catch((error) => error.code);
    const [socket] = await seen;
    socket.on('error', () => {});
    expect(socket.servername).toBe(false);
    expect([socket.getProtocol(), socket.alpnProtocol, socket.authorized]).toEqual(['TLSv1.3', 'h2', true]);
    await client.close();
    expect(await connecting).toBe('ERR_HBONE_CLOSED');
    socket.destroy();
    listener.close();
  });

  it('does not go down to TLS 1.2', async () => {
    const listener = createServer({ ...tlsOptions(serverCertificate), requestCert: true, maxVersion: 'TLSv1.2' });
    await once(listener.listen(0, '127.0.0.1'), 'listening');
    const { port } = listener.address() as AddressInfo;
    await using client = new HboneClient({ credentials: clientCertificate });
    const to = { authority: '127.0.0.1:80', peerIdentity: idOf('server'), destination: { port } };
    await expect(client.connect(to)).rejects.toMatchObject({ code: 'ERR_HBONE_TLS' });
    listener.close();
  });

  it('no key in what its errors say', async () => {
    const pem = clientCertificate.key!.exportPem();
    await using client = new HboneClient({ credentials: { ...clientCertificate, chainPem: 'broken' } });
    const failure = await client.connect({ authority: '127.0.0.1:80', peerIdentity: idOf('server') }).catch((e) => e);
    const { inspect } = await import('node:util');
    expect(inspect(failure, { depth: 10 })).not.toContain(pem.split('\n')[1]);
  });
});
