import { type Certificate, PEM_CERTIFICATE, readCertificates } from './certificate.ts';
import { refuse, refuseInput } from './errors.ts';
import { encodePem } from './pem.ts';
import { PrivateKey } from './private-key.ts';
import { type SpiffeId, tryParseSpiffeId } from './spiffe-id.ts';

/** What a workload proves its identity with, and whom it believes. Immutable. */
export interface WorkloadCertificate {
  readonly identity: SpiffeId;
  /** The leaf and the intermediates above it in their order, PEM: what TLS sends. The root is not in it. */
  readonly chainPem: string;
  /** The trust anchors for this workload's peers, PEM. */
  readonly rootsPem: string;
  /** The key of the leaf, where it was made here; without one where it was issued for a CSR. */
  readonly key?: PrivateKey | undefined;
  /** The times in the leaf. */
  readonly notBefore: Date;
  readonly notAfter: Date;
}

/**
 * Makes a {@link WorkloadCertificate} of PEM texts, from files or from a CA's answer: reads all of them, and checks that
 * the leaf names an identity and is the one of `keyPem`. Whether the chain leads to the roots is for {@link verifyChain}.
 *
 * @throws {InvalidInputError} `ERR_IDENTITY_PEM`, `ERR_IDENTITY_KEY`, `ERR_IDENTITY_INVALID`.
 * @throws {IdentityError} `ERR_IDENTITY_MALFORMED`, `ERR_IDENTITY_NO_SPIFFE_ID`, `ERR_IDENTITY_KEY_MISMATCH`.
 */
export function loadWorkloadCertificate(options: {
  readonly chainPem: string;
  readonly rootsPem: string;
  readonly key?: PrivateKey | string | undefined;
}): WorkloadCertificate {
  const op = 'identity.loadWorkloadCertificate';
  const chain = readCertificates(options.chainPem, 'chainPem', 16);
  const roots = readCertificates(options.rootsPem, 'rootsPem');
  const leaf = chain[0];
  if (leaf === undefined || roots.length === 0)
    refuseInput({
      code: 'ERR_IDENTITY_INVALID',
      op,
      field: leaf === undefined ? 'chainPem' : 'rootsPem',
      message: 'no certificate',
    });
  const identity = leaf.uriNames.map(tryParseSpiffeId).find((found) => found !== undefined);
  if (identity === undefined)
    refuse({
      code: 'ERR_IDENTITY_NO_SPIFFE_ID',
      op,
      field: 'chainPem[0]',
      message: 'no Istio identity among its names',
    });
  const key = typeof options.key === 'string' ? PrivateKey.fromPem(options.key) : options.key;
  if (key !== undefined && !key.matches(leaf.publicKeyDer))
    refuse({ code: 'ERR_IDENTITY_KEY_MISMATCH', op, field: 'key', message: 'not the key of the leaf' });
  return workloadCertificate(identity.id, chain, roots, key);
}

/** Puts a {@link WorkloadCertificate} together from what was read or issued: `chain[0]` is the leaf. */
export function workloadCertificate(
  identity: SpiffeId,
  chain: readonly Certificate[],
  roots: readonly Certificate[],
  key: PrivateKey | undefined,
): WorkloadCertificate {
  const leaf = chain[0]!;
  return {
    identity,
    chainPem: bundlePem(chain),
    rootsPem: bundlePem(roots),
    ...(key === undefined ? {} : { key }),
    notBefore: new Date(leaf.notBeforeMs),
    notAfter: new Date(leaf.notAfterMs),
  };
}

/** Certificates as one PEM text, in their order. */
export function bundlePem(certificates: readonly Certificate[]): string {
  return certificates.map(({ der }) => encodePem(PEM_CERTIFICATE, der)).join('');
}
