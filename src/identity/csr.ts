import { importPublicKey, readUriNames, verifySignature } from './certificate.ts';
import { ECDSA_SHA256_ALGORITHM, EMPTY_NAME, subjectAltName } from './certificate-writer.ts';
import { DerReader, TAG_BOOLEAN, TAG_OCTET_STRING, TAG_SEQUENCE, TAG_SET } from './der-reader.ts';
import { der, derBitsOfBytes, derOid, derSequence, derSetOfOne, derUnsigned } from './der-writer.ts';
import { IdentityError, quoted, refuseInput } from './errors.ts';
import { ID_CE_SUBJECT_ALT_NAME, ID_EC_PUBLIC_KEY, ID_EXTENSION_REQUEST, ID_PRIME256V1 } from './oids.ts';
import { decodePem, encodePem } from './pem.ts';
import type { PrivateKey } from './private-key.ts';
import { parseSpiffeId, type SpiffeId, tryParseSpiffeId, type WorkloadIdentity } from './spiffe-id.ts';

/** The `csr` label of RFC 7468 section 7. */
export const PEM_CERTIFICATE_REQUEST = 'CERTIFICATE REQUEST';

/** The most bytes of DER that are read as a certificate request. */
export const CSR_MAX_BYTES = 16 << 10;

const CONTEXT_0 = 0xa0;
const op = 'identity.readCsr';

/** What a certificate request asks for, after its signature proved that the asker holds the key. */
export interface CertificateRequest {
  readonly identity: WorkloadIdentity;
  /** SubjectPublicKeyInfo of the asker's P-256 key, DER. */
  readonly publicKeyDer: Uint8Array;
}

/**
 * Writes a PKCS#10 request (RFC 2986) as ztunnel sends it (facts section 5): empty subject, one critical SAN with the URI,
 * ECDSA with SHA-256. Gives PEM.
 *
 * @throws {InvalidInputError} `ERR_IDENTITY_SPIFFE_ID`.
 */
export function createCsr(options: { readonly identity: SpiffeId; readonly key: PrivateKey }): string {
  const { id } = parseSpiffeId(options.identity);
  const attribute = derSequence(derOid(ID_EXTENSION_REQUEST), derSetOfOne(derSequence(subjectAltName(id))));
  const info = derSequence(derUnsigned(Buffer.of(0)), EMPTY_NAME, options.key.publicKeyDer, der(CONTEXT_0, attribute));
  const request = derSequence(info, ECDSA_SHA256_ALGORITHM, derBitsOfBytes(options.key.sign(info)));
  return encodePem(PEM_CERTIFICATE_REQUEST, request);
}

/**
 * Reads a PKCS#10 request in PEM or DER, and checks that its signature was made with the key it brings. Its subject and
 * every extension but the SAN are passed over: what a leaf says is the CA's to decide. Whether the asker *may* have that
 * identity is the caller's to decide, before it issues.
 *
 * @throws {InvalidInputError} `ERR_IDENTITY_PEM`; `ERR_IDENTITY_CSR` for a request that is malformed, not of a P-256 key,
 *   badly signed, or that does not name exactly one URI that is an Istio identity.
 */
export function readCsr(csr: string | Uint8Array): CertificateRequest {
  const blocks = typeof csr === 'string' ? decodePem(PEM_CERTIFICATE_REQUEST, csr, 'csr') : [csr];
  const bytes = blocks[0];
  if (bytes === undefined || blocks.length > 1) fault('csr', `expected one request, found ${blocks.length}`);
  if (bytes.length > CSR_MAX_BYTES) fault('csr', `${bytes.length} bytes, at most ${CSR_MAX_BYTES}`);
  try {
    return readRequest(bytes);
  } catch (error) {
    // The reader of DER speaks of certificates' faults; to the sender of a request they are all one: bad input.
    if (error instanceof IdentityError && error.code === 'ERR_IDENTITY_MALFORMED')
      refuseInput({ code: 'ERR_IDENTITY_CSR', op, field: error.field, message: 'malformed', cause: error });
    throw error;
  }
}

function readRequest(bytes: Uint8Array): CertificateRequest {
  const outer = new DerReader(bytes, 'csr');
  const request = outer.enter(TAG_SEQUENCE, 'certificationRequest');
  outer.finish();
  const signed = request.whole(TAG_SEQUENCE, 'certificationRequestInfo');
  const algorithm = request.enter(TAG_SEQUENCE, 'signatureAlgorithm').oid('algorithm');
  const signature = request.bytesOfBits('signature');
  request.finish();

  const info = new DerReader(signed, 'csr').enter(TAG_SEQUENCE, 'certificationRequestInfo');
  if (info.smallInteger('version') !== 0) fault('csr.version', 'not version 1');
  info.skip('subject');
  const publicKeyDer = info.whole(TAG_SEQUENCE, 'subjectPublicKeyInfo');
  const uris = info.tag === CONTEXT_0 ? requestedUris(info.enter(CONTEXT_0, 'attributes')) : [];
  info.finish();

  checkP256(publicKeyDer);
  if (!verifySignature(algorithm, signed, signature, () => importPublicKey(publicKeyDer)))
    fault('csr.signature', 'not signed with the key in it');
  const [uri, ...more] = uris;
  if (uri === undefined || more.length > 0)
    fault('csr.subjectAltName', `expected one name, a URI; found ${uris.length}`);
  const identity = tryParseSpiffeId(uri);
  if (identity === undefined) fault('csr.subjectAltName', `${quoted(uri)} is no Istio identity`);
  return { identity, publicKeyDer };
}

function checkP256(publicKeyDer: Uint8Array): void {
  const algorithm = new DerReader(publicKeyDer, 'csr.publicKey')
    .enter(TAG_SEQUENCE, 'subjectPublicKeyInfo')
    .enter(TAG_SEQUENCE, 'algorithm');
  if (algorithm.oid('algorithm') !== ID_EC_PUBLIC_KEY || algorithm.oid('parameters') !== ID_PRIME256V1)
    fault('csr.publicKey', 'not a P-256 key');
}

/** The URIs of the one subjectAltName among the requested extensions; a name of another kind beside them is a fault. */
function requestedUris(attributes: DerReader): string[] {
  let uris: string[] | undefined;
  while (!attributes.done) {
    const attribute = attributes.enter(TAG_SEQUENCE, 'attribute');
    if (attribute.oid('type') !== ID_EXTENSION_REQUEST) continue;
    const extensions = attribute.enter(TAG_SET, 'values').enter(TAG_SEQUENCE, 'extensions');
    while (!extensions.done) {
      const extension = extensions.enter(TAG_SEQUENCE, 'extension');
      const id = extension.oid('extnID');
      if (extension.tag === TAG_BOOLEAN) extension.boolean('critical');
      const value = extension.content(TAG_OCTET_STRING, 'extnValue');
      if (id !== ID_CE_SUBJECT_ALT_NAME) continue;
      if (uris !== undefined) fault('csr.subjectAltName', 'there twice');
      uris = readUriNames(new DerReader(value, 'csr.subjectAltName'), true);
    }
  }
  return uris ?? [];
}

function fault(field: string, message: string): never {
  refuseInput({ code: 'ERR_IDENTITY_CSR', op, field, message });
}
