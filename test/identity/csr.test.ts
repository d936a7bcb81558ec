import { describe, expect, it } from 'vitest';
import { extension } from '../../src/identity/certificate-writer.ts';
import { createCsr, readCsr } from '../../src/identity/csr.ts';
import { der, derBitsOfBytes, derOid, derSequence, derSetOfOne, derUnsigned } from '../../src/identity/der-writer.ts';
import { ECDSA_WITH_SHA256, ID_EXTENSION_REQUEST } from '../../src/identity/oids.ts';
import { decodePem } from '../../src/identity/pem.ts';
import { PrivateKey } from '../../src/identity/private-key.ts';
import { formatSpiffeId, type SpiffeId } from '../../src/identity/spiffe-id.ts';
import { describeRequiring, run } from '../support/require.ts';
import { altNames, refusal } from './craft.ts';
import { temporaryFiles } from './temporary-files.ts';

const identity = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount: 'sleep' });

/** A request with any extensions, signed by `signer`, for the key `key`. */
function craftCsr(key: PrivateKey, extensions: readonly Uint8Array[], signer = key): Uint8Array {
  const attribute = derSequence(derOid(ID_EXTENSION_REQUEST), derSetOfOne(derSequence(...extensions)));
  const info = derSequence(derUnsigned(Buffer.of(0)), derSequence(), key.publicKeyDer, der(0xa0, attribute));
  return derSequence(info, derSequence(derOid(ECDSA_WITH_SHA256)), derBitsOfBytes(signer.sign(info)));
}

describe('certificate requests, facts section 5', () => {
  it('is read back', async () => {
    const key = await PrivateKey.generate();
    const csr = createCsr({ identity, key });
    const request = readCsr(csr);
    expect(request.identity.id).toBe(identity);
    expect(key.matches(request.publicKeyDer)).toBe(true);
    expect(readCsr(decodePem('CERTIFICATE REQUEST', csr, 'csr')[0]!)).toEqual(request);
  });

  it('refuses to ask for what is no identity', async () => {
    const key = await PrivateKey.generate();
    expect(refusal(() => createCsr({ identity: 'spiffe://x' as SpiffeId, key }))).toBe(
      'ERR_IDENTITY_SPIFFE_ID spiffeId',
    );
  });

  it('passes over other extensions that are asked for', async () => {
    const key = await PrivateKey.generate();
    const ca = extension('2.5.29.19', true, derSequence(Buffer.from('0101ff', 'hex')));
    expect(readCsr(craftCsr(key, [ca, altNames([6, identity])])).identity.id).toBe(identity);
  });

  it.each([
    ['two URIs', [altNames([6, identity], [6, identity])]],
    ['a DNS name beside the URI', [altNames([6, identity], [2, 'x.example'])]],
    ['a DNS name alone', [altNames([2, 'x.example'])]],
    ['a URI of another kind', [altNames([6, 'https://x.example/'])]],
    ['two lists of names', [altNames([6, identity]), altNames([6, identity])]],
    ['no name', []],
  ])('refuses %s', async (_, extensions) => {
    const bytes = craftCsr(await PrivateKey.generate(), extensions);
    expect(refusal(() => readCsr(bytes))).toMatch(/^ERR_IDENTITY_CSR csr\.subjectAltName/);
  });

  it('refuses a request for a key that the asker does not hold', async () => {
    const bytes = craftCsr(await PrivateKey.generate(), [altNames([6, identity])], await PrivateKey.generate());
    expect(refusal(() => readCsr(bytes))).toBe('ERR_IDENTITY_CSR csr.signature');
  });

  it('refuses any cut of a request, and any change of a bit, by a typed error', async () => {
    const bytes = Buffer.from(craftCsr(await PrivateKey.generate(), [altNames([6, identity])]));
    for (let length = 0; length < bytes.length; length++)
      expect(refusal(() => readCsr(bytes.subarray(0, length)))).toMatch(/^ERR_IDENTITY_CSR/);
    for (let at = 0; at < bytes.length; at++) {
      bytes[at]! ^= 1 << (at % 8);
      expect(
        refusal(() => readCsr(bytes)),
        `byte ${at}`,
      ).toMatch(/^ERR_IDENTITY_CSR/);
      bytes[at]! ^= 1 << (at % 8);
    }
  });

  it('refuses two requests, none, and one that is too large', async () => {
    const csr = createCsr({ identity, key: await PrivateKey.generate() });
    expect(refusal(() => readCsr(csr + csr))).toBe('ERR_IDENTITY_CSR csr');
    expect(refusal(() => readCsr(''))).toBe('ERR_IDENTITY_CSR csr');
    expect(refusal(() => readCsr(new Uint8Array(20_000)))).toBe('ERR_IDENTITY_CSR csr');
    expect(refusal(() => readCsr(csr.replaceAll('CERTIFICATE REQUEST', 'CERTIFICATE')))).toBe(
      'ERR_IDENTITY_PEM csr[0]',
    );
  });
});

describeRequiring('certificate requests and openssl', { tools: ['openssl'] }, () => {
  it('reads ours: empty subject, one critical URI, SHA-256, a signature that holds', async () => {
    using files = temporaryFiles();
    const path = files.write('our.csr', createCsr({ identity, key: await PrivateKey.generate() }));
    const text = run('openssl', 'req', '-in', path, '-noout', '-text', '-verify');
    expect(text).toMatch(/Subject: *\n/);
    expect(text).toMatch(new RegExp(`X509v3 Subject Alternative Name: critical\\s+URI:${identity}\\n`));
    expect(text).toMatch(/Signature Algorithm: ecdsa-with-SHA256/);
    expect(text).toMatch(/NIST CURVE: P-256/);
  });

  const request = (key: readonly string[]): string => {
    using files = temporaryFiles();
    const out = files.path('their.csr');
    const names = ['-subj', '/O=x', '-addext', `subjectAltName=URI:${identity}`];
    run('openssl', 'req', '-new', ...key, '-nodes', '-keyout', files.path('key.pem'), '-out', out, ...names);
    return files.read('their.csr');
  };

  it('writes one that we read', () => {
    const csr = request(['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']);
    expect(readCsr(csr).identity.serviceAccount).toBe('sleep');
  });

  it.each([
    ['RSA', ['-newkey', 'rsa:2048']],
    ['P-384', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384']],
  ])('writes one with a key of %s, which is refused', (_, key) => {
    expect(refusal(() => readCsr(request(key)))).toMatch(/^ERR_IDENTITY_CSR csr\.publicKey/);
  });
});
