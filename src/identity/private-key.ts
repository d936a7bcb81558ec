import { createHash, createPrivateKey, createPublicKey, generateKeyPair, type KeyObject, sign } from 'node:crypto';
import { inspect, promisify } from 'node:util';
import { refuseInput } from './errors.ts';

const generate = promisify(generateKeyPair);

/**
 * A P-256 private key that does not leak by accident: `util.inspect`, `JSON.stringify`, `String()` and `structuredClone`
 * show at most the fingerprint of its public half. The secret leaves it by {@link PrivateKey.exportPem} alone, so that
 * one search finds every place that holds it.
 */
export class PrivateKey {
  readonly #key: KeyObject;
  readonly #publicKeyDer: Buffer;

  private constructor(key: KeyObject) {
    this.#key = key;
    this.#publicKeyDer = createPublicKey(key).export({ type: 'spki', format: 'der' });
  }

  /** A fresh key, from OpenSSL's generator, made off the main thread. */
  static async generate(): Promise<PrivateKey> {
    return new PrivateKey((await generate('ec', { namedCurve: 'P-256' })).privateKey);
  }

  /**
   * Reads one unencrypted PEM key: PKCS#8 as Istio writes it, or SEC1.
   *
   * @throws {InvalidInputError} `ERR_IDENTITY_KEY` when it is not a P-256 key; nothing of the text is in the error.
   */
  static fromPem(pem: string): PrivateKey {
    const op = 'identity.readKey';
    let key: KeyObject;
    try {
      key = createPrivateKey({ key: pem, format: 'pem' });
    } catch {
      refuseInput({ code: 'ERR_IDENTITY_KEY', op, field: 'keyPem', message: 'not an unencrypted PEM private key' });
    }
    if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
      refuseInput({ code: 'ERR_IDENTITY_KEY', op, field: 'keyPem', message: 'not a P-256 key' });
    return new PrivateKey(key);
  }

  /** The public half: SubjectPublicKeyInfo, DER. */
  get publicKeyDer(): Uint8Array {
    return this.#publicKeyDer;
  }

  /** SHA-256 of {@link PrivateKey.publicKeyDer}, 64 hex digits: what a log may show. */
  get fingerprint(): string {
    return createHash('sha256').update(this.#publicKeyDer).digest('hex');
  }

  /** True when this is the private half of `publicKeyDer` (SubjectPublicKeyInfo, DER). */
  matches(publicKeyDer: Uint8Array): boolean {
    return this.#publicKeyDer.equals(publicKeyDer);
  }

  /** ECDSA with SHA-256 over `data`; DER-encoded, as X.509 and PKCS#10 carry it. */
  sign(data: Uint8Array): Uint8Array {
    return sign('sha256', data, this.#key);
  }

  /** The secret itself: PKCS#8 PEM, not encrypted. The caller now owns a copy that nobody else will erase. */
  exportPem(): string {
    return this.#key.export({ type: 'pkcs8', format: 'pem' }) as string;
  }

  toString(): string {
    return `PrivateKey(P-256, public sha256:${this.fingerprint.slice(0, 16)})`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}
