import { X509Certificate } from 'node:crypto';
import { inspect } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { readCertificates } from '../../src/identity/certificate.ts';
import { CertificateAuthority } from '../../src/identity/certificate-authority.ts';
import { ManualClock } from '../../src/identity/clock.ts';
import { createCsr } from '../../src/identity/csr.ts';
import { PrivateKey } from '../../src/identity/private-key.ts';
import { formatSpiffeId, type SpiffeId } from '../../src/identity/spiffe-id.ts';
import { verifyChain } from '../../src/identity/verify-chain.ts';
import type { WorkloadCertificate } from '../../src/identity/workload-certificate.ts';
import { describeRequiring, run } from '../support/require.ts';
import { craftCa, HOUR, refusal } from './craft.ts';
import { temporaryFiles } from './temporary-files.ts';

const DAY = 24 * HOUR;
const trustDomain = 'cluster.local';
const sleep = formatSpiffeId({ trustDomain, namespace: 'default', serviceAccount: 'sleep' });
const foreign = formatSpiffeId({ trustDomain: 'other.example', namespace: 'default', serviceAccount: 'sleep' });

let clock: ManualClock;
let ca: CertificateAuthority;

beforeAll(async () => {
  clock = new ManualClock();
  ca = await CertificateAuthority.create({ trustDomain, clock });
});

function verify(certificate: WorkloadCertificate, now = clock.now(), roots = certificate.rootsPem) {
  return verifyChain({ chain: certificate.chainPem, roots, purpose: 'server', now, expected: { oneOf: [sleep] } });
}

describe('CertificateAuthority', () => {
  it('issues a leaf as Istio does, with its key', async () => {
    const certificate = await ca.issue({ identity: sleep });
    expect(verify(certificate).id).toBe(sleep);
    const [leaf, intermediate, ...rest] = readCertificates(certificate.chainPem);
    expect(rest).toEqual([]);
    expect(Buffer.from(leaf!.subject).toString('hex')).toBe('3000');
    expect(leaf).toMatchObject({ keyUsage: 0b101, uriNames: [sleep], basicConstraints: { ca: false } });
    expect(intermediate).toMatchObject({ basicConstraints: { ca: true, pathLength: 0 }, selfIssued: false });
    expect(certificate.key!.matches(leaf!.publicKeyDer)).toBe(true);
    expect(readCertificates(certificate.rootsPem)[0]).toMatchObject({
      selfIssued: true,
      basicConstraints: { pathLength: 1 },
    });
  });

  it('dates back by 2 minutes, and issues for 24 hours', async () => {
    const { notBefore, notAfter } = await ca.issue({ identity: sleep });
    expect(notBefore.getTime()).toBe(clock.now() - 120_000);
    expect(notAfter.getTime()).toBe(clock.now() + DAY);
    const other = await ca.issue({ identity: sleep, ttlMs: HOUR, notBeforeSkewMs: 5000 });
    expect(other.notBefore.getTime()).toBe(clock.now() - 5000);
    expect(other.notAfter.getTime()).toBe(clock.now() + HOUR);
  });

  it('cuts a life at the end of the issuer, and issues none after it', async () => {
    const own = new ManualClock();
    const short = await CertificateAuthority.create({ trustDomain, clock: own, intermediateTtlMs: HOUR });
    expect((await short.issue({ identity: sleep })).notAfter).toEqual(short.notAfter);
    own.jump(HOUR);
    await expect(short.issue({ identity: sleep })).rejects.toMatchObject({ code: 'ERR_IDENTITY_CA_EXPIRED' });
    const renewed = await short.createIntermediate();
    expect(renewed.notAfter.getTime()).toBeGreaterThan(own.now());
    own.jump(3650 * DAY);
    await expect(short.createIntermediate()).rejects.toMatchObject({ code: 'ERR_IDENTITY_CA_EXPIRED' });
    own.jump(-3651 * DAY);
    await expect(short.issue({ identity: sleep })).rejects.toMatchObject({ code: 'ERR_IDENTITY_CA_EXPIRED' });
  });

  it('issues for a CSR, and then has no key to give', async () => {
    const key = await PrivateKey.generate();
    const csr = createCsr({ identity: sleep, key });
    for (const certificate of [await ca.issue({ csr }), await ca.issue({ csr, identity: sleep })]) {
      expect(verify(certificate).id).toBe(sleep);
      expect('key' in certificate).toBe(false);
      expect(key.matches(readCertificates(certificate.chainPem)[0]!.publicKeyDer)).toBe(true);
    }
  });

  it('refuses what it must not or cannot issue', async () => {
    const csr = createCsr({ identity: foreign, key: await PrivateKey.generate() });
    const code = (options: Parameters<CertificateAuthority['issue']>[0]) =>
      ca.issue(options).then(
        () => 'issued',
        (error) => `${error.code} ${error.field}`,
      );
    expect(await code({ identity: foreign })).toBe('ERR_IDENTITY_TRUST_DOMAIN identity');
    expect(await code({ csr })).toBe('ERR_IDENTITY_TRUST_DOMAIN identity');
    expect(await code({ csr, identity: sleep })).toBe('ERR_IDENTITY_INVALID identity');
    expect(await code({})).toBe('ERR_IDENTITY_INVALID identity');
    expect(await code({ identity: 'x' as SpiffeId })).toBe('ERR_IDENTITY_SPIFFE_ID spiffeId');
    expect(await code({ csr: 'x' })).toBe('ERR_IDENTITY_CSR csr');
    for (const ttlMs of [0, -1, Number.NaN, 91 * DAY])
      expect(await code({ identity: sleep, ttlMs })).toBe('ERR_IDENTITY_INVALID ttlMs');
    expect(await code({ identity: sleep, notBeforeSkewMs: -1 })).toBe('ERR_IDENTITY_INVALID notBeforeSkewMs');
  });

  it('refuses options that make no authority', async () => {
    const code = (options: Parameters<typeof CertificateAuthority.create>[0]) =>
      CertificateAuthority.create(options).then(
        () => 'made',
        (error) => `${error.code} ${error.field}`,
      );
    expect(await code({ trustDomain: 'Not One' })).toBe('ERR_IDENTITY_INVALID trustDomain');
    expect(await code({ trustDomain: 'a'.repeat(65) })).toBe('ERR_IDENTITY_INVALID trustDomain');
    expect(await code({ trustDomain, rootTtlMs: 0 })).toBe('ERR_IDENTITY_INVALID rootTtlMs');
    expect(await code({ trustDomain, intermediateTtlMs: 0 })).toBe('ERR_IDENTITY_INVALID intermediateTtlMs');
    await expect(ca.createIntermediate({ name: 'x\n' })).rejects.toMatchObject({ field: 'name' });
  });

  it('ends on an aborted signal', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(ca.issue({ identity: sleep, signal })).rejects.toThrow('enough');
    await expect(ca.createIntermediate({ signal })).rejects.toThrow('enough');
    await expect(CertificateAuthority.create({ trustDomain, signal })).rejects.toThrow('enough');
  });

  it('RFC 5280 section 4.1.2.2: serial numbers are positive, of 16 bytes, and from the given source', async () => {
    const own = await CertificateAuthority.create({
      trustDomain,
      clock,
      random: (length) => Buffer.alloc(length, 0xff),
    });
    const serial = async (authority: CertificateAuthority) =>
      readCertificates((await authority.issue({ identity: sleep })).chainPem)[0]!.serialNumber;
    expect(await serial(own)).toBe(`7f${'ff'.repeat(15)}`);
    const serials = await Promise.all(Array.from({ length: 50 }, () => serial(ca)));
    expect(new Set(serials).size).toBe(50);
    for (const one of serials) expect(one).toMatch(/^[4-7][0-9a-f]{31}$/);
  });
});

describe('an intermediate of a node', () => {
  it('leads to the same root, and makes no further one', async () => {
    const [a, b] = await Promise.all([
      ca.createIntermediate({ name: 'node-a' }),
      ca.createIntermediate({ name: 'node-b' }),
    ]);
    for (const node of [a, b]) {
      expect(verify(await node.issue({ identity: sleep }), clock.now(), ca.rootsPem).id).toBe(sleep);
      await expect(node.createIntermediate()).rejects.toMatchObject({ code: 'ERR_IDENTITY_NO_ROOT_KEY' });
      expect(node.export().rootKeyPem).toBeUndefined();
    }
    expect(a.export().keyPem).not.toBe(b.export().keyPem);
    const name = new X509Certificate(a.export().chainPem).subject;
    expect(name).toMatch(/^O=cluster\.local\nCN=ambient-kit node-a [0-9a-f]{8}$/);
  });
});

describe('an authority in PEM', () => {
  it('goes on where the exported one stopped', async () => {
    const loaded = CertificateAuthority.load({ ...ca.export(), clock });
    expect(verify(await loaded.issue({ identity: sleep }), clock.now(), ca.rootsPem).id).toBe(sleep);
    const below = await loaded.createIntermediate();
    expect(verify(await below.issue({ identity: sleep }), clock.now(), ca.rootsPem).id).toBe(sleep);
  });

  it('of one self-signed certificate, as istiod makes it, sends the leaf alone', async () => {
    const root = await craftCa('istiod');
    const [pem] = [new X509Certificate(root.certificate.der).toString()];
    for (const chainPem of ['', pem]) {
      const loaded = CertificateAuthority.load({
        trustDomain,
        chainPem,
        rootsPem: pem,
        keyPem: root.key.exportPem(),
        clock,
      });
      const certificate = await loaded.issue({ identity: sleep });
      expect(readCertificates(certificate.chainPem)).toHaveLength(1);
      expect(verify(certificate).id).toBe(sleep);
    }
  });

  it('is refused where the parts do not belong together', async () => {
    const mine = ca.export();
    const other = (await CertificateAuthority.create({ trustDomain, clock })).export();
    const code = (change: object) => refusal(() => CertificateAuthority.load({ ...mine, ...change }));
    expect(code({})).toBe('nothing thrown');
    expect(code({ keyPem: other.keyPem })).toBe('ERR_IDENTITY_KEY_MISMATCH keyPem');
    expect(code({ rootKeyPem: other.rootKeyPem })).toBe('ERR_IDENTITY_KEY_MISMATCH rootKeyPem');
    expect(code({ rootsPem: other.rootsPem })).toBe('ERR_IDENTITY_SIGNATURE chainPem[0]');
    expect(code({ rootsPem: '' })).toBe('ERR_IDENTITY_INVALID rootsPem');
    expect(code({ keyPem: 'x' })).toBe('ERR_IDENTITY_KEY keyPem');
    expect(code({ trustDomain: '' })).toBe('ERR_IDENTITY_INVALID trustDomain');
    const leaf = await ca.issue({ identity: sleep });
    expect(code({ chainPem: leaf.chainPem, keyPem: leaf.key!.exportPem() })).toBe('ERR_IDENTITY_NOT_A_CA chainPem[0]');
  });

  it('shows no key unless exported', async () => {
    const { keyPem, rootKeyPem } = ca.export();
    const shown =
      inspect(ca, { showHidden: true, depth: 9 }) + JSON.stringify(ca) + inspect(await ca.issue({ identity: sleep }));
    for (const pem of [keyPem, rootKeyPem!]) expect(shown).not.toContain(pem.split('\n')[2]);
    expect(shown).not.toContain('PRIVATE KEY');
    expect(shown).toContain('cluster.local');
  });
});

describeRequiring('issued certificates and openssl', { tools: ['openssl'] }, () => {
  it('openssl verify accepts the chain in both roles, and refuses it under another root', async () => {
    using files = temporaryFiles();
    const own = await CertificateAuthority.create({ trustDomain });
    const certificate = await (await own.createIntermediate({ name: 'node-a' })).issue({ identity: sleep });
    const chain = files.write('chain.pem', certificate.chainPem);
    const root = files.write('root.pem', certificate.rootsPem);
    for (const purpose of ['sslclient', 'sslserver'])
      expect(
        run('openssl', 'verify', '-x509_strict', '-purpose', purpose, '-CAfile', root, '-untrusted', chain, chain),
      ).toBe(`${chain}: OK\n`);
    const foreignRoot = files.write('foreign.pem', (await CertificateAuthority.create({ trustDomain })).rootsPem);
    expect(() => run('openssl', 'verify', '-CAfile', foreignRoot, '-untrusted', chain, chain)).toThrow(/unable to get/);
  });

  it('openssl x509 -text shows the leaf of Istio', async () => {
    using files = temporaryFiles();
    const { chainPem } = await ca.issue({ identity: sleep });
    const text = run('openssl', 'x509', '-in', files.write('leaf.pem', chainPem), '-noout', '-text');
    expect(text).toMatch(/Version: 3 /);
    expect(text).toMatch(/Subject: *\n/);
    expect(text).toMatch(/Signature Algorithm: ecdsa-with-SHA256/);
    expect(text).toMatch(/NIST CURVE: P-256/);
    expect(text).toMatch(/X509v3 Key Usage: critical\s+Digital Signature, Key Encipherment\n/);
    expect(text).toMatch(
      /X509v3 Extended Key Usage: \s*TLS Web Server Authentication, TLS Web Client Authentication\n/,
    );
    expect(text).toMatch(/X509v3 Basic Constraints: critical\s+CA:FALSE\n/);
    expect(text).toMatch(new RegExp(`X509v3 Subject Alternative Name: critical\\s+URI:${sleep}\\n`));
    expect(text).toMatch(/Not Before: Dec 31 23:58:00 2029 GMT\s+Not After : Jan {2}2 00:00:00 2030 GMT/);
    const key = /X509v3 Authority Key Identifier: \s*(?:keyid:)?([0-9A-F:]{59})/.exec(text)?.[1];
    const issuer = run('openssl', 'x509', '-in', files.write('ca.pem', ca.export().chainPem), '-noout', '-text');
    expect(/X509v3 Subject Key Identifier: \s*([0-9A-F:]{59})/.exec(issuer)?.[1]).toBe(key);
  });
});
