import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type EngineError, TlsContext, type TlsCredentials } from '../../src/engine/index.ts';
import { authority, credentials, HTTPBIN, SLEEP } from './credentials.ts';

const ca = await authority('tls-context');
const good = await credentials(ca, SLEEP);
const other = await credentials(ca, HTTPBIN);

function refusal(spoiled: Partial<TlsCredentials>): EngineError {
  try {
    new TlsContext({ ...good, ...spoiled }).close();
  } catch (error) {
    return error as EngineError;
  }
  throw new Error('was accepted');
}

/** The lines of a PEM between its markers. */
const secrets = (pem: string) => pem.split('\n').filter((line) => line.length > 20 && !line.startsWith('-----'));

describe('TlsContext', () => {
  it('takes a chain, its key and several roots, and is closed once', () => {
    const context = new TlsContext({ ...good, rootsPem: good.rootsPem + other.rootsPem });
    expect(context.address).toBeGreaterThan(0);
    context.close();
    context.close();
    expect(() => context.address).toThrow(expect.objectContaining({ name: 'EngineError', code: 'ERR_ENGINE_CLOSED' }));
  });

  it('takes text around the certificates, as bundles have it', () => {
    new TlsContext({ ...good, rootsPem: `# the mesh\n${good.rootsPem}\n# end\n` }).close();
  });

  const encrypted = createPrivateKey(good.keyPem).export({
    type: 'pkcs8',
    format: 'pem',
    cipher: 'aes-256-cbc',
    passphrase: 'secret',
  }) as string;
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  // The second certificate is damaged in its middle, and cut off before its end.
  const damaged = good.chainPem.replace(/(BEGIN CERTIFICATE[\s\S]*BEGIN CERTIFICATE-----\n.{20})./, '$1!');
  const cut = good.chainPem.slice(0, -60);

  it.each<[what: string, spoiled: Partial<TlsCredentials>, field: string, message: RegExp]>([
    ['an empty chain', { chainPem: '' }, 'chainPem', /no certificate/],
    ['a chain that is no PEM', { chainPem: 'hello' }, 'chainPem', /no certificate/],
    ['a key for a chain', { chainPem: good.keyPem }, 'chainPem', /no certificate/],
    ['a chain whose second certificate is damaged', { chainPem: damaged }, 'chainPem', /certificate 2 does not parse/],
    ['a chain that breaks off', { chainPem: cut }, 'chainPem', /certificate 2 does not parse/],
    ['no roots', { rootsPem: '' }, 'rootsPem', /no certificate/],
    ['damaged roots', { rootsPem: good.rootsPem.replace(/\n.{10}/, '\n!!!!!!!!!!') }, 'rootsPem', /does not parse/],
    ['no key', { keyPem: '' }, 'keyPem', /not an unencrypted private key/],
    ['a certificate for a key', { keyPem: good.chainPem }, 'keyPem', /not an unencrypted private key/],
    [
      'a damaged key',
      { keyPem: good.keyPem.replace(/\n.{30}/, '\n!!!!!!') },
      'keyPem',
      /not an unencrypted private key/,
    ],
    ['an encrypted key, without asking anybody', { keyPem: encrypted }, 'keyPem', /not an unencrypted private key/],
    ['the key of another', { keyPem: other.keyPem }, 'keyPem', /does not belong to the leaf/],
    ['a key of another kind', { keyPem: rsa as string }, 'keyPem', /does not belong to the leaf/],
  ])('refuses %s, by name and without quoting it', (_what, spoiled, field, message) => {
    const error = refusal(spoiled);
    expect(error).toMatchObject({ name: 'EngineError', code: 'ERR_ENGINE_CREDENTIALS', op: 'engine.tls', field });
    expect(error.message).toMatch(message);
    const shown = `${error.message} ${error.stack} ${JSON.stringify(error)}`;
    for (const pem of [...Object.values(good), ...Object.values(spoiled)]) {
      for (const secret of secrets(pem)) expect(shown).not.toContain(secret);
    }
  });
});
