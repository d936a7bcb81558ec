import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { DerReader, TAG_BIT_STRING, TAG_BOOLEAN, TAG_INTEGER, TAG_OCTET_STRING, TAG_SEQUENCE } from './der-reader.ts';
import { refuseInput } from './errors.ts';
import {
  ECDSA_WITH_SHA256,
  ECDSA_WITH_SHA384,
  ECDSA_WITH_SHA512,
  ID_CE_AUTHORITY_KEY_IDENTIFIER,
  ID_CE_BASIC_CONSTRAINTS,
  ID_CE_EXT_KEY_USAGE,
  ID_CE_KEY_USAGE,
  ID_CE_SUBJECT_ALT_NAME,
  ID_CE_SUBJECT_KEY_IDENTIFIER,
  ID_ED25519,
  RSA_WITH_SHA256,
  RSA_WITH_SHA384,
  RSA_WITH_SHA512,
} from './oids.ts';
import { decodePem } from './pem.ts';

// KeyUsage bits, RFC 5280 section 4.2.1.3, as `1 << n`.
export const KEY_USAGE_DIGITAL_SIGNATURE = 1 << 0;
export const KEY_USAGE_KEY_ENCIPHERMENT = 1 << 2;
export const KEY_USAGE_KEY_CERT_SIGN = 1 << 5;
export const KEY_USAGE_CRL_SIGN = 1 << 6;

/** The most bytes of DER that are read as one certificate. */
export const CERTIFICATE_MAX_BYTES = 64 << 10;

/** The `certs` label of RFC 7468 section 5. */
export const PEM_CERTIFICATE = 'CERTIFICATE';

const ID_CE_NAME_CONSTRAINTS = '2.5.29.30';
const CONTEXT_0 = 0xa0;
const CONTEXT_1 = 0x81;
const CONTEXT_2 = 0x82;
const CONTEXT_3 = 0xa3;
const GENERAL_NAME_URI = 0x86;

/** The hash of each signature algorithm that is taken; `null` where the algorithm brings its own. MD5 and SHA-1 are not here. */
const hashOf = new Map<string, string | null>([
  [ECDSA_WITH_SHA256, 'sha256'],
  [ECDSA_WITH_SHA384, 'sha384'],
  [ECDSA_WITH_SHA512, 'sha512'],
  [RSA_WITH_SHA256, 'sha256'],
  [RSA_WITH_SHA384, 'sha384'],
  [RSA_WITH_SHA512, 'sha512'],
  [ID_ED25519, null],
]);

/** The extensions of RFC 5280 section 4.2 that path validation here looks at. */
interface Extensions {
  basicConstraints?: { readonly ca: boolean; readonly pathLength: number | undefined };
  keyUsage?: number;
  extendedKeyUsage?: readonly string[];
  uriNames: readonly string[];
  subjectKeyIdentifier?: Uint8Array;
  unhandled: readonly string[];
}

/**
 * One X.509 certificate, read and not yet believed: nothing here says who signed it. Its byte fields are views into `der`.
 * Parse once what is used often (roots, an own intermediate): the public key is imported once an object.
 */
export class Certificate {
  readonly der: Uint8Array;
  /** The signed part, tag and length included. */
  readonly tbs: Uint8Array;
  /** Big-endian magnitude, hex. */
  readonly serialNumber: string;
  /** Name, DER: compared byte for byte, as signers copy it. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** Milliseconds since 1970; both ends belong to the time it is valid (RFC 5280 section 4.1.2.5). */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeyDer: Uint8Array;
  readonly basicConstraints: { readonly ca: boolean; readonly pathLength: number | undefined } | undefined;
  /** KeyUsage bits, `KEY_USAGE_…`; `undefined` without the extension. */
  readonly keyUsage: number | undefined;
  /** Dotted OIDs; `undefined` without the extension. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  /** The uniformResourceIdentifier names of subjectAltName, in their order. */
  readonly uriNames: readonly string[];
  readonly subjectKeyIdentifier: Uint8Array | undefined;
  /** Dotted OIDs of extensions that restrict this certificate in a way this reader does not know. */
  readonly unhandledExtensions: readonly string[];
  readonly signatureAlgorithm: string;
  readonly signature: Uint8Array;
  #publicKey: KeyObject | undefined;

  /**
   * Reads exactly one DER certificate; `path` is its name in errors (`chain[0]`).
   *
   * @throws {IdentityError} `ERR_IDENTITY_MALFORMED` with the element at fault as `field`.
   */
  constructor(der: Uint8Array, path = 'certificate') {
    const outer = new DerReader(der, path);
    if (der.length > CERTIFICATE_MAX_BYTES) outer.malformed(`${der.length} bytes, at most ${CERTIFICATE_MAX_BYTES}`);
    const certificate = outer.enter(TAG_SEQUENCE, 'certificate');
    outer.finish();
    this.der = der;
    this.tbs = certificate.whole(TAG_SEQUENCE, 'tbsCertificate');
    const outerAlgorithm = certificate.whole(TAG_SEQUENCE, 'signatureAlgorithm');
    this.signature = certificate.bytesOfBits('signatureValue');
    certificate.finish();

    const tbs = new DerReader(this.tbs, path).enter(TAG_SEQUENCE, 'tbsCertificate');
    let version = 0;
    if (tbs.tag === CONTEXT_0) version = tbs.enter(CONTEXT_0, 'version').smallInteger('version');
    this.serialNumber = Buffer.from(tbs.integer('serialNumber')).toString('hex');
    const innerAlgorithm = tbs.whole(TAG_SEQUENCE, 'signature');
    // RFC 5280 section 4.1.1.2: the unsigned copy must not say anything else than the signed one.
    if (!same(innerAlgorithm, outerAlgorithm)) tbs.malformed('two different algorithms', 'signature');
    this.signatureAlgorithm = new DerReader(innerAlgorithm, path).enter(TAG_SEQUENCE, 'signature').oid('algorithm');
    this.issuer = tbs.whole(TAG_SEQUENCE, 'issuer');
    const validity = tbs.enter(TAG_SEQUENCE, 'validity');
    this.notBeforeMs = validity.time('notBefore');
    this.notAfterMs = validity.time('notAfter');
    validity.finish();
    this.subject = tbs.whole(TAG_SEQUENCE, 'subject');
    this.publicKeyDer = tbs.whole(TAG_SEQUENCE, 'subjectPublicKeyInfo');
    if (tbs.tag === CONTEXT_1) tbs.skip('issuerUniqueID');
    if (tbs.tag === CONTEXT_2) tbs.skip('subjectUniqueID');
    let extensions: Extensions = { uriNames: [], unhandled: [] };
    if (tbs.tag === CONTEXT_3) {
      if (version !== 2) tbs.malformed('extensions need version 3', 'version');
      const explicit = tbs.enter(CONTEXT_3, 'extensions');
      extensions = readExtensions(explicit.enter(TAG_SEQUENCE, 'extensions'));
      explicit.finish();
    }
    tbs.finish();
    this.basicConstraints = extensions.basicConstraints;
    this.keyUsage = extensions.keyUsage;
    this.extendedKeyUsage = extensions.extendedKeyUsage;
    this.uriNames = extensions.uriNames;
    this.subjectKeyIdentifier = extensions.subjectKeyIdentifier;
    this.unhandledExtensions = extensions.unhandled;
  }

  /** True when `this` names itself as its issuer, as roots do. */
  get selfIssued(): boolean {
    return same(this.issuer, this.subject);
  }

  /** True when `issuer` carries the name that `this` says signed it; says nothing about the signature. */
  namesAsIssuer(issuer: Certificate): boolean {
    return same(this.issuer, issuer.subject);
  }

  /** True when both are the same bytes. */
  equals(other: Certificate): boolean {
    return same(this.der, other.der);
  }

  /** True when the algorithm of the signature on this certificate is one that is taken: SHA-2 with ECDSA or RSA, or Ed25519. */
  get signatureAlgorithmTaken(): boolean {
    return hashOf.has(this.signatureAlgorithm);
  }

  /** True when the key of `issuer` made the signature on this certificate. Some 60 to 100 µs for P-256. */
  signedBy(issuer: Certificate): boolean {
    return verifySignature(this.signatureAlgorithm, this.tbs, this.signature, () => issuer.publicKey());
  }

  /** The key of this certificate; throws what OpenSSL throws when the key is not one. */
  publicKey(): KeyObject {
    this.#publicKey ??= importPublicKey(this.publicKeyDer);
    return this.#publicKey;
  }
}

/** Imports a SubjectPublicKeyInfo; OpenSSL sees to it that a point lies on its curve. */
export function importPublicKey(spki: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
}

/** True when `signature` over `data` holds under `key`; false as well for an algorithm that is not taken or a key that is none. */
export function verifySignature(
  algorithm: string,
  data: Uint8Array,
  signature: Uint8Array,
  key: () => KeyObject,
): boolean {
  const hash = hashOf.get(algorithm);
  if (hash === undefined) return false;
  try {
    return verify(hash, data, key(), signature);
  } catch {
    return false;
  }
}

/** A certificate as callers hold it: parsed, or DER. */
export type CertificateInput = Certificate | Uint8Array;

/**
 * Reads a PEM bundle, or a list of DER values or parsed certificates, in the order given.
 *
 * @throws {InvalidInputError} `ERR_IDENTITY_PEM` for text that is no PEM; `ERR_IDENTITY_INVALID` for more than `max`,
 *   or for what is no certificate at all.
 * @throws {IdentityError} `ERR_IDENTITY_MALFORMED` for a certificate that cannot be read: `chainPem[1].certificate…`.
 */
export function readCertificates(
  input: string | readonly CertificateInput[],
  field = 'certificates',
  max = 1024,
): Certificate[] {
  const items = typeof input === 'string' ? decodePem(PEM_CERTIFICATE, input, field) : input;
  if (!Array.isArray(items)) invalid(field, 'expected PEM text or a list');
  if (items.length > max) invalid(field, `${items.length} certificates, at most ${max}`);
  return items.map((item: CertificateInput, at) => {
    if (item instanceof Certificate) return item;
    if (!(item instanceof Uint8Array)) invalid(`${field}[${at}]`, 'expected DER bytes or a parsed certificate');
    return new Certificate(item, `${field}[${at}]`);
  });
}

function invalid(field: string, message: string): never {
  refuseInput({ code: 'ERR_IDENTITY_INVALID', op: 'identity.readCertificates', field, message });
}

function readExtensions(list: DerReader): Extensions {
  const seen = new Set<string>();
  const unhandled: string[] = [];
  const found: Extensions = { uriNames: [], unhandled };
  if (list.done) list.malformed('an empty list');
  while (!list.done) {
    const extension = list.enter(TAG_SEQUENCE, 'extension');
    const id = extension.oid('extnID');
    const critical = extension.tag === TAG_BOOLEAN ? extension.boolean('critical') : false;
    const bytes = extension.content(TAG_OCTET_STRING, 'extnValue');
    extension.finish();
    if (seen.has(id)) list.malformed(`the extension ${id} twice`);
    seen.add(id);
    readExtension(found, id, new DerReader(bytes, `extension ${id}`), critical, unhandled);
  }
  return found;
}

function readExtension(found: Extensions, id: string, value: DerReader, critical: boolean, unhandled: string[]): void {
  switch (id) {
    case ID_CE_BASIC_CONSTRAINTS: {
      const constraints = value.enter(TAG_SEQUENCE, 'basicConstraints');
      const ca = constraints.tag === TAG_BOOLEAN ? constraints.boolean('cA') : false;
      const pathLength = constraints.tag === TAG_INTEGER ? constraints.smallInteger('pathLenConstraint') : undefined;
      constraints.finish();
      found.basicConstraints = { ca, pathLength };
      break;
    }
    case ID_CE_KEY_USAGE:
      if (value.tag !== TAG_BIT_STRING) value.malformed('not a BIT STRING');
      found.keyUsage = value.namedBits('keyUsage');
      break;
    case ID_CE_EXT_KEY_USAGE: {
      const purposes = value.enter(TAG_SEQUENCE, 'extKeyUsage');
      const oids: string[] = [];
      while (!purposes.done) oids.push(purposes.oid('keyPurposeId'));
      found.extendedKeyUsage = oids;
      break;
    }
    case ID_CE_SUBJECT_ALT_NAME:
      found.uriNames = readUriNames(value);
      break;
    case ID_CE_SUBJECT_KEY_IDENTIFIER:
      found.subjectKeyIdentifier = value.content(TAG_OCTET_STRING, 'keyIdentifier');
      break;
    case ID_CE_AUTHORITY_KEY_IDENTIFIER:
      return;
    default:
      // A constraint on names binds whatever its critical bit says; ignoring it would widen what the issuer was given.
      if (critical || id === ID_CE_NAME_CONSTRAINTS) unhandled.push(id);
      return;
  }
  value.finish();
}

/**
 * The URIs among the GeneralNames of a subjectAltName, whose extnValue `value` reads. Names of other kinds are passed over,
 * or with `urisOnly` malformed.
 */
export function readUriNames(value: DerReader, urisOnly = false): string[] {
  const names = value.enter(TAG_SEQUENCE, 'subjectAltName');
  if (names.done) names.malformed('an empty list');
  const uris: string[] = [];
  while (!names.done)
    if (names.tag === GENERAL_NAME_URI)
      uris.push(Buffer.from(names.content(GENERAL_NAME_URI, 'uniformResourceIdentifier')).toString('latin1'));
    else if (urisOnly) names.malformed('a name that is no URI');
    else names.skip('generalName');
  return uris;
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
