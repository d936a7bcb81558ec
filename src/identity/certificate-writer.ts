import { createHash } from 'node:crypto';
import {
  KEY_USAGE_CRL_SIGN,
  KEY_USAGE_DIGITAL_SIGNATURE,
  KEY_USAGE_KEY_CERT_SIGN,
  KEY_USAGE_KEY_ENCIPHERMENT,
} from './certificate.ts';
import { DerReader, TAG_SEQUENCE } from './der-reader.ts';
import {
  der,
  derBitsOfBytes,
  derNamedBits,
  derOctetString,
  derOid,
  derSequence,
  derSetOfOne,
  derTime,
  derTrue,
  derUnsigned,
  derUtf8String,
} from './der-writer.ts';
import {
  ECDSA_WITH_SHA256,
  ID_AT_COMMON_NAME,
  ID_AT_ORGANIZATION,
  ID_CE_AUTHORITY_KEY_IDENTIFIER,
  ID_CE_BASIC_CONSTRAINTS,
  ID_CE_EXT_KEY_USAGE,
  ID_CE_KEY_USAGE,
  ID_CE_SUBJECT_ALT_NAME,
  ID_CE_SUBJECT_KEY_IDENTIFIER,
  ID_KP_CLIENT_AUTH,
  ID_KP_SERVER_AUTH,
} from './oids.ts';
import type { PrivateKey } from './private-key.ts';
import type { SpiffeId } from './spiffe-id.ts';

/** The Name with no parts: the subject of a workload certificate, whose identity is its SAN alone. */
export const EMPTY_NAME: Uint8Array = derSequence();

/** ecdsa-with-SHA256 as an AlgorithmIdentifier: without parameters (RFC 5758 section 3.2). */
export const ECDSA_SHA256_ALGORITHM: Uint8Array = derSequence(derOid(ECDSA_WITH_SHA256));

/** What goes into a certificate; byte fields are whole DER elements. */
export interface CertificateContents {
  /** Big-endian magnitude; written as a positive INTEGER. */
  readonly serialNumber: Uint8Array;
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** Milliseconds since 1970, cut to whole seconds. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly publicKeyDer: Uint8Array;
  readonly extensions: readonly Uint8Array[];
}

/** Writes a version 3 certificate (RFC 5280 section 4.1) and signs it with `key`: ECDSA, SHA-256. Gives DER. */
export function signCertificate(contents: CertificateContents, key: PrivateKey): Uint8Array {
  const tbs = derSequence(
    der(0xa0, derUnsigned(Buffer.of(2))),
    derUnsigned(contents.serialNumber),
    ECDSA_SHA256_ALGORITHM,
    contents.issuer,
    derSequence(derTime(contents.notBeforeMs), derTime(contents.notAfterMs)),
    contents.subject,
    contents.publicKeyDer,
    der(0xa3, derSequence(...contents.extensions)),
  );
  return derSequence(tbs, ECDSA_SHA256_ALGORITHM, derBitsOfBytes(key.sign(tbs)));
}

/** The extensions of a workload's leaf, as Istio issues them. */
export function leafExtensions(identity: SpiffeId, issuerKeyIdentifier: Uint8Array): Uint8Array[] {
  return [
    extension(ID_CE_KEY_USAGE, true, derNamedBits(KEY_USAGE_DIGITAL_SIGNATURE | KEY_USAGE_KEY_ENCIPHERMENT)),
    extension(ID_CE_EXT_KEY_USAGE, false, derSequence(derOid(ID_KP_SERVER_AUTH), derOid(ID_KP_CLIENT_AUTH))),
    extension(ID_CE_BASIC_CONSTRAINTS, true, derSequence()),
    authorityKeyIdentifier(issuerKeyIdentifier),
    subjectAltName(identity),
  ];
}

/** The extensions of a CA below which at most `pathLength` further CAs may stand. */
export function authorityExtensions(
  pathLength: number,
  keyIdentifier: Uint8Array,
  issuerKeyIdentifier: Uint8Array,
): Uint8Array[] {
  return [
    extension(ID_CE_KEY_USAGE, true, derNamedBits(KEY_USAGE_KEY_CERT_SIGN | KEY_USAGE_CRL_SIGN)),
    extension(ID_CE_BASIC_CONSTRAINTS, true, derSequence(derTrue(), derUnsigned(Buffer.of(pathLength)))),
    extension(ID_CE_SUBJECT_KEY_IDENTIFIER, false, derOctetString(keyIdentifier)),
    authorityKeyIdentifier(issuerKeyIdentifier),
  ];
}

/** A subjectAltName of one URI; critical, since the subject beside it is empty (RFC 5280 section 4.2.1.6). */
export function subjectAltName(identity: SpiffeId): Uint8Array {
  return extension(ID_CE_SUBJECT_ALT_NAME, true, derSequence(der(0x86, Buffer.from(identity, 'latin1'))));
}

/** One Extension; `value` is the DER that extnValue wraps. */
export function extension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
  const wrapped = derOctetString(value);
  return critical ? derSequence(derOid(id), derTrue(), wrapped) : derSequence(derOid(id), wrapped);
}

/** The Name `O=organization, CN=commonName`. */
export function authorityName(organization: string, commonName: string): Uint8Array {
  return derSequence(
    derSetOfOne(derSequence(derOid(ID_AT_ORGANIZATION), derUtf8String(organization))),
    derSetOfOne(derSequence(derOid(ID_AT_COMMON_NAME), derUtf8String(commonName))),
  );
}

/** The identifier of a key: the leftmost 20 bytes of SHA-256 over its bits (RFC 7093 section 2, method 1). */
export function keyIdentifier(publicKeyDer: Uint8Array): Uint8Array {
  const spki = new DerReader(publicKeyDer, 'publicKey').enter(TAG_SEQUENCE, 'subjectPublicKeyInfo');
  spki.skip('algorithm');
  return createHash('sha256').update(spki.bytesOfBits('subjectPublicKey')).digest().subarray(0, 20);
}

function authorityKeyIdentifier(identifier: Uint8Array): Uint8Array {
  return extension(ID_CE_AUTHORITY_KEY_IDENTIFIER, false, derSequence(der(0x80, identifier)));
}
