import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { PrivateKey } from '../../src/identity/private-key.ts';
import { refusal } from './craft.ts';

const pemOf = (type: 'rsa' | 'p384'): string => {
  const { privateKey } =
    type === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateKeyPairSync('ec', { namedCurve: 'P-384' });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
};

describe('PrivateKey', () => {
  it('survives PKCS#8 PEM, facts section 5', async () => {
    const key = await PrivateKey.generate();
    const pem = key.exportPem();
    expect(pem).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
    const back = PrivateKey.fromPem(pem);
    expect(back.fingerprint).toBe(key.fingerprint);
    expect(back.matches(key.publicKeyDer)).toBe(true);
    expect(back.matches((await PrivateKey.generate()).publicKeyDer)).toBe(false);
  });

  it('signs so that OpenSSL verifies', async () => {
    const key = await PrivateKey.generate();
    const data = Buffer.from('to be signed');
    const publicKey = createPublicKey({ key: Buffer.from(key.publicKeyDer), format: 'der', type: 'spki' });
    expect(verify('sha256', data, publicKey, key.sign(data))).toBe(true);
    expect(verify('sha256', Buffer.from('another'), publicKey, key.sign(data))).toBe(false);
  });

  it('shows nothing secret in a log, a template, JSON or a clone', async () => {
    const key = await PrivateKey.generate();
    // PKCS#8 of P-256: the 32 bytes of the secret stand at 36, which base64 keeps aligned.
    const base64 = key.exportPem().split('\n').slice(1, -2).join('');
    const secret = Buffer.from(base64, 'base64').subarray(36, 68);
    const secrets = [secret.toString('base64').slice(0, 42), secret.toString('hex')];
    expect(base64).toContain(secrets[0]);
    const shown = [
      inspect(key, { depth: 9, showHidden: true }),
      inspect({ deep: { key } }, { showHidden: true, depth: 9 }),
      JSON.stringify({ key }),
      `${key}`,
      inspect(structuredClone({ key }), { depth: 9 }),
      JSON.stringify(Object.entries(key)),
    ].join('\n');
    for (const secret of secrets) expect(shown).not.toContain(secret);
    expect(shown).toContain(`PrivateKey(P-256, public sha256:${key.fingerprint.slice(0, 16)})`);
  });

  it.each([
    ['an RSA key', () => pemOf('rsa')],
    ['a P-384 key', () => pemOf('p384')],
    ['no PEM', () => 'not a key'],
    ['a number', () => 7 as unknown as string],
    ['a broken key', () => '-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n'],
  ])('refuses %s without repeating it', (_, pem) => {
    const text = pem();
    expect(refusal(() => PrivateKey.fromPem(text))).toBe('ERR_IDENTITY_KEY keyPem');
    try {
      PrivateKey.fromPem(text);
    } catch (error) {
      expect(inspect(error, { showHidden: true, depth: 9 })).not.toContain('c2VjcmV0');
    }
  });
});
