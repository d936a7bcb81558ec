import { describe, expect, it } from 'vitest';
import { CertificateAuthority, formatSpiffeId, readCertificates } from '../../src/identity/index.ts';
import { verifierFor } from '../../src/ztunnel/peer-verifier.ts';

const authority = await CertificateAuthority.create({ trustDomain: 'cluster.local' });

async function leaf(serviceAccount: string, ca = authority): Promise<Buffer> {
  const identity = formatSpiffeId({ trustDomain: ca.trustDomain, namespace: 'default', serviceAccount });
  const { chainPem } = await ca.issue({ identity });
  return Buffer.from(readCertificates(chainPem, 'chainPem')[0]!.der);
}

describe('facts 1.6: whom a certificate must name, once its chain is good', () => {
  const api = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount: 'api' });
  const web = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount: 'web' });

  it('outbound: one of the identities that are expected', async () => {
    const verifier = verifierFor({ oneOf: [web, api] });
    expect(verifier.verifyPeer(await leaf('api'))).toBe(api);
    const other = await leaf('other');
    expect(() => verifier.verifyPeer(other)).toThrow(expect.objectContaining({ code: 'ERR_IDENTITY_UNEXPECTED_PEER' }));
  });

  it('outbound: nobody, where none is expected', async () => {
    const der = await leaf('api');
    expect(() => verifierFor({ oneOf: [] }).verifyPeer(der)).toThrow();
  });

  it('inbound: anybody of the trust domain, and nobody of another', async () => {
    const verifier = verifierFor({ trustDomain: 'cluster.local' });
    expect(verifier.verifyPeer(await leaf('anybody'))).toBe('spiffe://cluster.local/ns/default/sa/anybody');
    const foreign = await leaf('api', await CertificateAuthority.create({ trustDomain: 'elsewhere' }));
    expect(() => verifier.verifyPeer(foreign)).toThrow(expect.objectContaining({ code: 'ERR_IDENTITY_TRUST_DOMAIN' }));
  });

  it('refuses what is no certificate', () => {
    expect(() => verifierFor({ trustDomain: 'cluster.local' }).verifyPeer(Buffer.from('no DER'))).toThrow();
  });
});
