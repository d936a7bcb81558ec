import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  CertificateAuthority,
  formatSpiffeId,
  peerIdentity,
  verifyChain,
  type WorkloadCertificate,
} from '../../src/identity/index.ts';

const trustDomain = 'cluster.local';
const sleep = formatSpiffeId({ trustDomain, namespace: 'default', serviceAccount: 'sleep' });
const httpbin = formatSpiffeId({ trustDomain, namespace: 'default', serviceAccount: 'httpbin' });

let client: WorkloadCertificate;
let server: WorkloadCertificate;
let stranger: WorkloadCertificate;

beforeAll(async () => {
  const root = await CertificateAuthority.create({ trustDomain });
  const [a, b] = await Promise.all([
    root.createIntermediate({ name: 'node-a' }),
    root.createIntermediate({ name: 'node-b' }),
  ]);
  client = await a.issue({ identity: sleep });
  server = await b.issue({ identity: httpbin });
  stranger = await (await CertificateAuthority.create({ trustDomain })).issue({ identity: sleep });
});

/** Facts section 1.5: TLS 1.3, ALPN h2, a client certificate is a must, no host names. */
const tls = (certificate: WorkloadCertificate) => ({
  key: certificate.key!.exportPem(),
  cert: certificate.chainPem,
  ca: certificate.rootsPem,
  minVersion: 'TLSv1.3' as const,
  ALPNProtocols: ['h2'],
});

/** What the server sent, leaf first. The server's side of this is not to be had from every Node (nodejs/node#65579). */
function chainOf(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let next = socket.getPeerCertificate(true);
  while (next?.raw && !chain.some((der) => next.raw.equals(der))) {
    chain.push(next.raw);
    next = next.issuerCertificate;
  }
  return chain;
}

async function handshake(asClient: WorkloadCertificate, asServer: WorkloadCertificate) {
  const listener = createServer({ ...tls(asServer), requestCert: true, rejectUnauthorized: false });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const accepted = once(listener, 'secureConnection') as Promise<[TLSSocket]>;
  const socket = connect({ port, host: '127.0.0.1', ...tls(asClient), checkServerIdentity: () => undefined });
  try {
    await once(socket, 'secureConnect');
    const [inbound] = await accepted;
    const result = {
      protocol: inbound.getProtocol(),
      alpn: inbound.alpnProtocol,
      authorized: inbound.authorized,
      clientLeaf: inbound.getPeerCertificate().raw,
      serverChain: chainOf(socket),
    };
    inbound.destroy();
    return result;
  } finally {
    socket.destroy();
    listener.close();
  }
}

describe('mutual TLS 1.3 by node:tls, facts section 1.5', () => {
  it('both sides believe each other across two intermediates of one root', async () => {
    const seen = await handshake(client, server);
    expect(seen).toMatchObject({ protocol: 'TLSv1.3', alpn: 'h2', authorized: true });
    expect(peerIdentity({ leaf: seen.clientLeaf, expected: { trustDomain } }).id).toBe(sleep);
    const expected = { oneOf: [httpbin] };
    const { serverChain: chain } = seen;
    const found = verifyChain({ chain, roots: client.rootsPem, purpose: 'server', now: Date.now(), expected });
    expect(found.id).toBe(httpbin);
  });

  it('OpenSSL, too, does not believe a client of another root', async () => {
    const seen = await handshake({ ...stranger, rootsPem: server.rootsPem }, server);
    expect(seen.authorized).toBe(false);
  });
});
