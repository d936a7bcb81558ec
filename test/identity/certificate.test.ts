import { describe, expect, it } from 'vitest';
import { Certificate, readCertificates } from '../../src/identity/certificate.ts';
import { extension, subjectAltName } from '../../src/identity/certificate-writer.ts';
import { DerReader, TAG_SEQUENCE } from '../../src/identity/der-reader.ts';
import { derBitsOfBytes, derOctetString, derSequence, derUtf8String } from '../../src/identity/der-writer.ts';
import { encodePem } from '../../src/identity/pem.ts';
import type { SpiffeId } from '../../src/identity/spiffe-id.ts';
import { describeRequiring, run } from '../support/require.ts';
import { altNames, craft, craftCa, craftLeaf, keyUsage, NOW, refusal } from './craft.ts';
import { temporaryFiles } from './temporary-files.ts';

const SLEEP = 'spiffe://cluster.local/ns/default/sa/sleep' as SpiffeId;
const pem = (certificate: Certificate): string => encodePem('CERTIFICATE', certificate.der);

describe('Certificate, RFC 5280 section 4', () => {
  it('reads what a leaf says', async () => {
    const ca = await craftCa('ca');
    const { certificate } = await craftLeaf(ca, SLEEP);
    expect(certificate).toMatchObject({
      notBeforeMs: NOW - 3_600_000,
      notAfterMs: NOW + 3_600_000,
      basicConstraints: { ca: false, pathLength: undefined },
      keyUsage: 0b101,
      extendedKeyUsage: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
      uriNames: [SLEEP],
      unhandledExtensions: [],
      selfIssued: false,
    });
    expect(certificate.namesAsIssuer(ca.certificate)).toBe(true);
    expect(certificate.signedBy(ca.certificate)).toBe(true);
    expect(certificate.signedBy((await craftCa('ca')).certificate)).toBe(false);
    expect(ca.certificate).toMatchObject({ basicConstraints: { ca: true, pathLength: 3 }, keyUsage: 0b1100000 });
  });

  it('takes only URIs from among the alternative names', async () => {
    const { certificate } = await craft({
      subject: 'x',
      extensions: () => [altNames([2, 'spiffe://dns.example/ns/a/sa/b'], [6, 'https://x'], [1, 'a@b'], [6, SLEEP])],
    });
    expect(certificate.uriNames).toEqual(['https://x', SLEEP]);
  });

  it('section 4.2: notes a critical extension that it does not know, and name constraints in any case', async () => {
    const value = derOctetString(Buffer.of(1));
    const { certificate } = await craft({
      extensions: () => [
        extension('1.2.3.4', true, value),
        extension('1.2.3.5', false, value),
        extension('2.5.29.30', false, value),
      ],
    });
    expect(certificate.unhandledExtensions).toEqual(['1.2.3.4', '2.5.29.30']);
  });

  it('section 4.2: refuses an extension that is there twice', async () => {
    await expect(craft({ extensions: () => [keyUsage(1), keyUsage(32)] })).rejects.toMatchObject({
      code: 'ERR_IDENTITY_MALFORMED',
    });
    await expect(craft({ extensions: () => [subjectAltName(SLEEP), altNames([6, 'x:y'])] })).rejects.toMatchObject({
      code: 'ERR_IDENTITY_MALFORMED',
    });
  });

  it('section 4.1.2.1: refuses extensions in a version that has none', async () => {
    const bytes = Buffer.from((await craftCa('ca')).certificate.der);
    const version3 = Buffer.from('a003020102', 'hex');
    bytes[bytes.indexOf(version3) + 4] = 1;
    expect(refusal(() => new Certificate(bytes))).toBe('ERR_IDENTITY_MALFORMED certificate.tbsCertificate.version');
  });

  it('section 4.1.1.2: refuses an unsigned algorithm that is not the signed one', async () => {
    const { certificate } = await craftCa('ca');
    const ecdsaWithSha256 = Buffer.from('06082a8648ce3d040302', 'hex');
    const bytes = Buffer.from(certificate.der);
    bytes[bytes.lastIndexOf(ecdsaWithSha256) + 9] = 3;
    expect(refusal(() => new Certificate(bytes))).toBe('ERR_IDENTITY_MALFORMED certificate.tbsCertificate.signature');
  });

  it('refuses bytes behind the certificate, and any cut of it, by a typed error', async () => {
    const { certificate } = await craftLeaf(await craftCa('ca'), SLEEP);
    const bytes = Buffer.from(certificate.der);
    expect(refusal(() => new Certificate(Buffer.concat([bytes, Buffer.of(0)])))).toMatch(/^ERR_IDENTITY_MALFORMED/);
    for (let length = 0; length < bytes.length; length++)
      expect(refusal(() => new Certificate(bytes.subarray(0, length)))).toMatch(/^ERR_IDENTITY_MALFORMED/);
  });

  it('never believes a certificate with one bit changed', async () => {
    const ca = await craftCa('ca');
    const { certificate } = await craftLeaf(ca, SLEEP);
    const bytes = Buffer.from(certificate.der);
    for (let at = 0; at < bytes.length; at++) {
      bytes[at]! ^= 1 << (at % 8);
      let believed = false;
      try {
        believed = new Certificate(bytes).signedBy(ca.certificate);
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_IDENTITY_MALFORMED' });
      }
      expect(believed, `bit ${at % 8} of byte ${at}`).toBe(false);
      bytes[at]! ^= 1 << (at % 8);
    }
  });

  it('reads the certificate it is given and not one hidden inside it as PEM', async () => {
    // node:crypto looks for PEM before DER: X509Certificate would check the signature of the hidden one.
    const ca = await craftCa('ca');
    const honest = await craftLeaf(ca, SLEEP);
    const forged = await craft({
      subject: 'forger',
      extensions: () => [
        extension('1.2.3.4', false, derUtf8String(`\n${pem(honest.certificate)}`)),
        subjectAltName('spiffe://cluster.local/ns/kube-system/sa/admin' as SpiffeId),
      ],
    });
    expect(forged.certificate.uriNames).toEqual(['spiffe://cluster.local/ns/kube-system/sa/admin']);
    expect(forged.certificate.signedBy(ca.certificate)).toBe(false);
  });

  it('takes no signature by SHA-1', async () => {
    const { certificate } = await craftCa('ca');
    const ecdsaWithSha1 = Buffer.from('06072a8648ce3d0401', 'hex');
    const tbs = new DerReader(certificate.tbs, 'x').enter(TAG_SEQUENCE, 'tbs');
    const parts: Uint8Array[] = [];
    while (!tbs.done) parts.push(tbs.whole(tbs.tag, 'part'));
    parts[2] = derSequence(ecdsaWithSha1);
    const sha1 = new Certificate(
      derSequence(derSequence(...parts), derSequence(ecdsaWithSha1), derBitsOfBytes(certificate.signature)),
    );
    expect(sha1.signatureAlgorithmTaken).toBe(false);
    expect(sha1.signedBy(certificate)).toBe(false);
  });
});

describe('readCertificates', () => {
  it('reads PEM, DER and parsed ones in their order', async () => {
    const a = (await craftCa('a')).certificate;
    const b = (await craftCa('b')).certificate;
    expect(readCertificates(pem(a) + pem(b)).map((found) => found.equals(a))).toEqual([true, false]);
    const mixed = readCertificates([a, b.der]);
    expect(mixed[0]).toBe(a);
    expect(mixed[1]!.equals(b)).toBe(true);
  });

  it('names the one at fault, and the list that is too long', async () => {
    const { der } = (await craftCa('a')).certificate;
    expect(refusal(() => readCertificates([der, Buffer.from('no')], 'roots'))).toBe(
      'ERR_IDENTITY_MALFORMED roots[1].certificate',
    );
    expect(refusal(() => readCertificates([der, der, der], 'chain', 2))).toBe('ERR_IDENTITY_INVALID chain');
    expect(refusal(() => readCertificates(7 as never, 'chain'))).toBe('ERR_IDENTITY_INVALID chain');
    expect(refusal(() => readCertificates([7 as never], 'chain'))).toBe('ERR_IDENTITY_INVALID chain[0]');
  });
});

describeRequiring('certificates of other makers', { tools: ['openssl'] }, () => {
  it.each([
    ['rsa:2048', ['-sha256'], true],
    ['rsa:2048', ['-sha512'], true],
    ['rsa:2048', ['-sha1'], false],
    ['ed25519', [], true],
    ['ec:P-384', ['-sha384'], true],
  ])('openssl %s %j', (kind, digest, taken) => {
    using files = temporaryFiles();
    const key = kind.startsWith('ec:')
      ? ['-newkey', 'ec', '-pkeyopt', `ec_paramgen_curve:${kind.slice(3)}`]
      : ['-newkey', kind];
    const out = files.path('cert.pem');
    run(
      'openssl',
      'req',
      '-x509',
      ...key,
      '-nodes',
      '-keyout',
      files.path('key.pem'),
      '-out',
      out,
      '-subj',
      '/O=x',
      ...digest,
    );
    const [certificate] = readCertificates(files.read('cert.pem'));
    expect(certificate!.selfIssued).toBe(true);
    expect(certificate!.basicConstraints).toEqual({ ca: true, pathLength: undefined });
    expect(certificate!.signedBy(certificate!)).toBe(taken);
  });
});
