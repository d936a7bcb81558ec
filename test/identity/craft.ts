import { Certificate } from '../../src/identity/certificate.ts';
import {
  authorityExtensions,
  authorityName,
  EMPTY_NAME,
  extension,
  keyIdentifier,
  leafExtensions,
  signCertificate,
} from '../../src/identity/certificate-writer.ts';
import { der, derNamedBits, derOid, derSequence } from '../../src/identity/der-writer.ts';
import * as oids from '../../src/identity/oids.ts';
import { PrivateKey } from '../../src/identity/private-key.ts';
import type { SpiffeId } from '../../src/identity/spiffe-id.ts';

export const NOW = Date.UTC(2030, 0, 1);
export const HOUR = 3_600_000;

/** A certificate with its key, so that more can be signed with it. */
export interface Made {
  readonly certificate: Certificate;
  readonly key: PrivateKey;
}

export interface Recipe {
  readonly issuer?: Made;
  readonly subject?: string;
  readonly extensions?: (own: Uint8Array, issuers: Uint8Array) => readonly Uint8Array[];
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  readonly key?: PrivateKey;
}

let serial = 1;

/** Makes any certificate, sound or not: self-signed without an issuer. */
export async function craft(recipe: Recipe): Promise<Made> {
  const key = recipe.key ?? (await PrivateKey.generate());
  const subject = recipe.subject === undefined ? EMPTY_NAME : authorityName('test', recipe.subject);
  const own = keyIdentifier(key.publicKeyDer);
  const issuers = recipe.issuer ? keyIdentifier(recipe.issuer.key.publicKeyDer) : own;
  const bytes = signCertificate(
    {
      serialNumber: Buffer.of(serial++),
      issuer: recipe.issuer?.certificate.subject ?? subject,
      subject,
      notBeforeMs: recipe.notBeforeMs ?? NOW - HOUR,
      notAfterMs: recipe.notAfterMs ?? NOW + HOUR,
      publicKeyDer: key.publicKeyDer,
      extensions: (recipe.extensions ?? (() => []))(own, issuers),
    },
    recipe.issuer?.key ?? key,
  );
  return { certificate: new Certificate(bytes), key };
}

export function craftCa(subject: string, issuer?: Made, pathLength = 3, more: Partial<Recipe> = {}): Promise<Made> {
  const extensions = (own: Uint8Array, issuers: Uint8Array) => authorityExtensions(pathLength, own, issuers);
  return craft({ subject, extensions, ...(issuer ? { issuer } : {}), ...more });
}

export function craftLeaf(issuer: Made, identity: string, more: Partial<Recipe> = {}): Promise<Made> {
  return craft({ issuer, extensions: (_, issuers) => leafExtensions(identity as SpiffeId, issuers), ...more });
}

export const keyUsage = (bits: number): Uint8Array => extension(oids.ID_CE_KEY_USAGE, true, derNamedBits(bits));

export const extendedKeyUsage = (...purposes: readonly string[]): Uint8Array =>
  extension(oids.ID_CE_EXT_KEY_USAGE, false, derSequence(...purposes.map(derOid)));

/** A subjectAltName of names by their context tag: 6 is a URI, 2 a DNS name. */
export const altNames = (...names: readonly (readonly [tag: number, text: string])[]): Uint8Array =>
  extension(
    oids.ID_CE_SUBJECT_ALT_NAME,
    true,
    derSequence(...names.map(([tag, text]) => der(0x80 | tag, Buffer.from(text, 'latin1')))),
  );

/** The `code` of the error that `fn` throws, with its field: `ERR_IDENTITY_EXPIRED chain[0]`; `nothing thrown` otherwise. */
export function refusal(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    const { code, field } = error as { code?: string; field?: string };
    return field === undefined ? `${code}` : `${code} ${field}`;
  }
  return 'nothing thrown';
}
