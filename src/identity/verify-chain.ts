import {
  type Certificate,
  type CertificateInput,
  KEY_USAGE_DIGITAL_SIGNATURE,
  KEY_USAGE_KEY_CERT_SIGN,
  readCertificates,
} from './certificate.ts';
import { count, IdentityError, refuseInput } from './errors.ts';
import { ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH } from './oids.ts';
import { type ExpectedPeer, peerIdentity } from './peer-identity.ts';
import type { WorkloadIdentity } from './spiffe-id.ts';

/** What {@link verifyChain} is asked. */
export interface VerifyChainOptions {
  /** What the peer sent, the leaf first; the order of the rest does not matter. PEM text, DER values or parsed. */
  readonly chain: string | readonly CertificateInput[];
  /** The trust anchors. Hand in parsed ones (`readCertificates`) where this is called often. */
  readonly roots: string | readonly CertificateInput[];
  /** What the peer is: `client` must be fit for clientAuth, `server` for serverAuth. */
  readonly purpose: 'client' | 'server';
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly expected: ExpectedPeer;
  /** As for {@link peerIdentity}. Default `refuse`. */
  readonly severalIds?: 'refuse' | 'first';
  /** The most certificates taken from the peer. Default 8. */
  readonly maxChainCertificates?: number;
  /** The most signatures checked before the search for a path is given up. Default 32. */
  readonly maxSignatureChecks?: number;
}

const op = 'identity.verifyChain';

/**
 * Decides whether a peer's certificate chain is to be believed, and whom it names. Pure and synchronous; some 0.2 ms for a
 * leaf, one intermediate and parsed roots. Checked on the leaf first, cheapest first: validity, that it is no CA, key usage,
 * extended key usage, critical extensions, its SPIFFE SAN; then a path to a root through the given intermediates (RFC 5280
 * section 6.1 without policies): names, signatures by SHA-2 or Ed25519, validity of every certificate on it including the
 * root, basicConstraints, pathLenConstraint, keyCertSign, and an extended key usage where an intermediate has one. Host
 * names play no part. Name constraints are not evaluated: a CA that carries them is refused.
 *
 * @returns the identity: the first URI SAN of the leaf that is one.
 * @throws {IdentityError} `ERR_IDENTITY_…` naming the check, with the certificate as `field`: `chain[0]` is the leaf. When
 *   several paths were tried, the failure is that of the one that got farthest.
 * @throws {InvalidInputError} `ERR_IDENTITY_PEM`, `ERR_IDENTITY_INVALID` for input that cannot be read at all.
 */
export function verifyChain(options: VerifyChainOptions): WorkloadIdentity {
  const { now, purpose } = options;
  const maxChain = count(options.maxChainCertificates ?? 8, 'maxChainCertificates', op);
  const maxChecks = count(options.maxSignatureChecks ?? 32, 'maxSignatureChecks', op);
  if (!Number.isFinite(now)) invalid('now', 'expected milliseconds since 1970');
  if (purpose !== 'client' && purpose !== 'server') invalid('purpose', 'expected client or server');
  const chain = readCertificates(options.chain, 'chain', maxChain);
  const roots = readCertificates(options.roots, 'roots');
  const leaf = chain[0];
  if (leaf === undefined) invalid('chain', 'no certificate');
  if (roots.length === 0) invalid('roots', 'no trust anchor');

  const usage = purpose === 'client' ? ID_KP_CLIENT_AUTH : ID_KP_SERVER_AUTH;
  const fault = leafFault(leaf, now, usage);
  if (fault !== undefined) throw fault;
  const identity = peerIdentity({ leaf, expected: options.expected, severalIds: options.severalIds ?? 'refuse' });
  new PathSearch(chain, roots, now, usage, maxChecks).run();
  return identity;
}

/** What is wrong with a leaf on its own; `undefined` when nothing is. */
function leafFault(leaf: Certificate, now: number, usage: string): IdentityError | undefined {
  const at = 'chain[0]';
  if (leaf.basicConstraints?.ca) return error('ERR_IDENTITY_LEAF_IS_CA', at, 'a CA certificate where a leaf belongs');
  if (leaf.keyUsage !== undefined && !(leaf.keyUsage & KEY_USAGE_DIGITAL_SIGNATURE))
    return error('ERR_IDENTITY_KEY_USAGE', at, 'its key usage lacks digitalSignature');
  return commonFault(leaf, now, usage, at);
}

/** What is wrong with `issuer` as the CA above a path that already holds `below` intermediates that are not self-issued. */
function issuerFault(issuer: Certificate, below: number, now: number, usage: string, at: string) {
  if (!issuer.basicConstraints?.ca) return error('ERR_IDENTITY_NOT_A_CA', at, 'signs certificates and is not a CA');
  const { pathLength } = issuer.basicConstraints;
  if (pathLength !== undefined && below > pathLength)
    return error('ERR_IDENTITY_PATH_LENGTH', at, `allows ${pathLength} intermediates below it, ${below} are there`);
  if (issuer.keyUsage !== undefined && !(issuer.keyUsage & KEY_USAGE_KEY_CERT_SIGN))
    return error('ERR_IDENTITY_KEY_USAGE', at, 'its key usage lacks keyCertSign');
  return commonFault(issuer, now, usage, at);
}

function commonFault(certificate: Certificate, now: number, usage: string, at: string): IdentityError | undefined {
  if (now < certificate.notBeforeMs)
    return error('ERR_IDENTITY_NOT_YET_VALID', at, `valid from ${iso(certificate.notBeforeMs)}, now ${iso(now)}`);
  if (now > certificate.notAfterMs)
    return error('ERR_IDENTITY_EXPIRED', at, `valid until ${iso(certificate.notAfterMs)}, now ${iso(now)}`);
  if (certificate.extendedKeyUsage !== undefined && !certificate.extendedKeyUsage.includes(usage)) {
    const name = usage === ID_KP_CLIENT_AUTH ? 'clientAuth' : 'serverAuth';
    return error('ERR_IDENTITY_EXTENDED_KEY_USAGE', at, `its extended key usage lacks ${name}`);
  }
  if (certificate.unhandledExtensions.length > 0)
    return error('ERR_IDENTITY_EXTENSION', at, `restricted by ${certificate.unhandledExtensions.join(', ')}`);
  return undefined;
}

/**
 * Depth-first search for a path from the leaf to a root. A peer chooses the certificates, so both the depth (each is used
 * once) and the number of signatures checked are bounded.
 */
class PathSearch {
  readonly #chain: readonly Certificate[];
  readonly #roots: readonly Certificate[];
  readonly #now: number;
  readonly #usage: string;
  readonly #used: boolean[];
  #checksLeft: number;
  #fault: IdentityError | undefined;
  #faultDepth = -1;

  constructor(
    chain: readonly Certificate[],
    roots: readonly Certificate[],
    now: number,
    usage: string,
    maxChecks: number,
  ) {
    this.#chain = chain;
    this.#roots = roots;
    this.#now = now;
    this.#usage = usage;
    this.#used = chain.map(() => false);
    this.#checksLeft = maxChecks;
  }

  run(): void {
    this.#used[0] = true;
    if (this.#reachesRoot(0, 0, 0)) return;
    throw this.#fault ?? error('ERR_IDENTITY_UNKNOWN_ISSUER', 'chain[0]', 'no path to a root');
  }

  /** Whether a path goes on from `chain[at]`, with `below` intermediates that are not self-issued up to and including it. */
  #reachesRoot(at: number, below: number, depth: number): boolean {
    const certificate = this.#chain[at]!;
    let named = false;
    for (let next = 0; next < this.#roots.length; next++) {
      const root = this.#roots[next]!;
      if (!certificate.namesAsIssuer(root)) continue;
      named = true;
      if (this.#links(at, root, below, `roots[${next}]`, depth)) return true;
    }
    for (let next = 1; next < this.#chain.length; next++) {
      const issuer = this.#chain[next]!;
      if (this.#used[next] || !certificate.namesAsIssuer(issuer)) continue;
      named = true;
      if (!this.#links(at, issuer, below, `chain[${next}]`, depth)) continue;
      this.#used[next] = true;
      // RFC 5280 section 4.2.1.9: self-issued certificates do not count towards a path length.
      if (this.#reachesRoot(next, issuer.selfIssued ? below : below + 1, depth + 1)) return true;
      this.#used[next] = false;
    }
    if (!named)
      this.#note(error('ERR_IDENTITY_UNKNOWN_ISSUER', `chain[${at}]`, 'its issuer is neither sent nor a root'), depth);
    return false;
  }

  #links(at: number, issuer: Certificate, below: number, issuerField: string, depth: number): boolean {
    const certificate = this.#chain[at]!;
    const fault =
      issuerFault(issuer, below, this.#now, this.#usage, issuerField) ??
      this.#signatureFault(certificate, issuer, `chain[${at}]`, issuerField);
    if (fault === undefined) return true;
    this.#note(fault, depth);
    return false;
  }

  #signatureFault(certificate: Certificate, issuer: Certificate, at: string, issuerField: string) {
    if (!certificate.signatureAlgorithmTaken)
      return error(
        'ERR_IDENTITY_SIGNATURE_ALGORITHM',
        at,
        `signed with ${certificate.signatureAlgorithm}, which is not taken`,
      );
    if (this.#checksLeft-- <= 0)
      throw error('ERR_IDENTITY_SIGNATURE_CHECKS', at, 'too many paths to try: maxSignatureChecks');
    if (!certificate.signedBy(issuer)) return error('ERR_IDENTITY_SIGNATURE', at, `not signed by ${issuerField}`);
    return undefined;
  }

  #note(fault: IdentityError, depth: number): void {
    if (depth <= this.#faultDepth) return;
    this.#fault = fault;
    this.#faultDepth = depth;
  }
}

function iso(ms: number): string {
  return Number.isNaN(new Date(ms).getTime()) ? `${ms}` : new Date(ms).toISOString();
}

function error(code: string, field: string, message: string): IdentityError {
  return new IdentityError({ code, op, field, message });
}

function invalid(field: string, message: string): never {
  refuseInput({ code: 'ERR_IDENTITY_INVALID', op, field, message });
}
