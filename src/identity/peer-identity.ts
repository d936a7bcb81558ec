import { Certificate, type CertificateInput } from './certificate.ts';
import { quoted, refuse, refuseInput } from './errors.ts';
import { type SpiffeId, tryParseSpiffeId, type WorkloadIdentity } from './spiffe-id.ts';

/** Whom the leaf must name. */
export type ExpectedPeer =
  /** The inbound rule (facts section 1.6): any workload of this trust domain, which is the one of our own certificate. */
  | { readonly trustDomain: string }
  /** The outbound rule (facts section 1.6): one of these. An empty list accepts nobody. */
  | { readonly oneOf: readonly SpiffeId[] };

/** What {@link peerIdentity} is asked. */
export interface PeerIdentityOptions {
  readonly leaf: CertificateInput;
  readonly expected: ExpectedPeer;
  /**
   * A leaf with several different Istio identities. `refuse` (the default): X509-SVID section 2 allows one URI only, and
   * the one that was checked and the one that authorization later sees must not be two. `first`: as the real ztunnel,
   * where any of them may match and the first one is the peer's identity.
   */
  readonly severalIds?: 'refuse' | 'first';
}

/**
 * Matches the names of a leaf with what is expected, and nothing else: for a TLS stack that has verified the chain itself
 * (`socket.authorized` of `node:tls`, whose server side does not always hand out the intermediates). Otherwise
 * {@link verifyChain}, which calls this.
 *
 * @returns the identity: the first URI SAN of the leaf that is one.
 * @throws {IdentityError} `ERR_IDENTITY_NO_SPIFFE_ID`, `ERR_IDENTITY_SEVERAL_SPIFFE_IDS`, `ERR_IDENTITY_TRUST_DOMAIN`,
 *   `ERR_IDENTITY_UNEXPECTED_PEER`, `ERR_IDENTITY_MALFORMED`; `field` is `chain[0]`.
 * @throws {InvalidInputError} `ERR_IDENTITY_INVALID` when `expected` names no rule.
 */
export function peerIdentity(options: PeerIdentityOptions): WorkloadIdentity {
  const { expected } = options;
  const leaf = options.leaf instanceof Certificate ? options.leaf : new Certificate(options.leaf, 'chain[0]');
  const identities: WorkloadIdentity[] = [];
  for (const uri of leaf.uriNames) {
    const identity = tryParseSpiffeId(uri);
    if (identity !== undefined) identities.push(identity);
  }
  const first = identities[0];
  if (first === undefined) {
    const found = leaf.uriNames.length === 0 ? 'no URI among its names' : `only ${quoted(leaf.uriNames.join(' '))}`;
    fail('ERR_IDENTITY_NO_SPIFFE_ID', found);
  }
  const other = identities.find(({ id }) => id !== first.id);
  if (other !== undefined && options.severalIds !== 'first')
    fail('ERR_IDENTITY_SEVERAL_SPIFFE_IDS', `names ${quoted(first.id)} and ${quoted(other.id)}`);
  if ('trustDomain' in expected) {
    const { trustDomain } = expected;
    if (!identities.some((identity) => identity.trustDomain === trustDomain))
      fail('ERR_IDENTITY_TRUST_DOMAIN', `${quoted(first.id)} is not of the trust domain ${quoted(`${trustDomain}`)}`);
  } else if (Array.isArray(expected.oneOf)) {
    if (!identities.some(({ id }) => expected.oneOf.includes(id)))
      fail('ERR_IDENTITY_UNEXPECTED_PEER', `is ${quoted(first.id)}, expected ${listed(expected.oneOf)}`);
  } else {
    const message = 'expected { trustDomain } or { oneOf }';
    refuseInput({ code: 'ERR_IDENTITY_INVALID', op: 'identity.peerIdentity', field: 'expected', message });
  }
  return first;
}

function listed(ids: readonly SpiffeId[]): string {
  if (ids.length === 0) return 'nobody';
  return ids.length > 4 ? `${ids.slice(0, 4).join(', ')} and ${ids.length - 4} more` : ids.join(', ');
}

function fail(code: string, message: string): never {
  refuse({ code, op: 'identity.peerIdentity', field: 'chain[0]', message });
}
