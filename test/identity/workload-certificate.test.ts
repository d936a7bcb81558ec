import { beforeAll, describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../../src/identity/certificate-authority.ts';
import { PrivateKey } from '../../src/identity/private-key.ts';
import { formatSpiffeId } from '../../src/identity/spiffe-id.ts';
import { loadWorkloadCertificate, type WorkloadCertificate } from '../../src/identity/workload-certificate.ts';
import { refusal } from './craft.ts';

const identity = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount: 'sleep' });
let issued: WorkloadCertificate;

beforeAll(async () => {
  issued = await (await CertificateAuthority.create({ trustDomain: 'cluster.local' })).issue({ identity });
});

describe('loadWorkloadCertificate', () => {
  it('takes up what was issued, with its key as PEM, as object, or without', () => {
    const loaded = loadWorkloadCertificate({ ...issued, key: issued.key!.exportPem() });
    expect(loaded).toMatchObject({ ...issued, key: expect.any(PrivateKey) });
    expect(loaded.key!.fingerprint).toBe(issued.key!.fingerprint);
    expect(loadWorkloadCertificate(issued).key).toBe(issued.key);
    const { chainPem, rootsPem } = issued;
    expect('key' in loadWorkloadCertificate({ chainPem, rootsPem })).toBe(false);
  });

  it('refuses parts that do not belong together', async () => {
    const key = await PrivateKey.generate();
    const code = (change: object) => refusal(() => loadWorkloadCertificate({ ...issued, ...change }));
    expect(code({ key })).toBe('ERR_IDENTITY_KEY_MISMATCH key');
    expect(code({ key: 'x' })).toBe('ERR_IDENTITY_KEY keyPem');
    expect(code({ chainPem: '' })).toBe('ERR_IDENTITY_INVALID chainPem');
    expect(code({ rootsPem: '' })).toBe('ERR_IDENTITY_INVALID rootsPem');
    expect(code({ chainPem: issued.rootsPem, key: undefined })).toBe('ERR_IDENTITY_NO_SPIFFE_ID chainPem[0]');
    expect(code({ chainPem: issued.chainPem + issued.key!.exportPem() })).toBe('ERR_IDENTITY_PEM chainPem[2]');
  });
});
