/**
 * Workload identities as Istio has them: SPIFFE ids, P-256 keys that do not leak, certificate requests, an embedded CA,
 * the decision whether a peer's chain is to be believed, and a store that keeps certificates fresh. Pure TypeScript over
 * `node:crypto`; nothing here needs root or a network.
 *
 * ```ts
 * import { CertificateAuthority, createCertificateStore, formatSpiffeId, verifyChain } from 'ambient-kit/identity';
 *
 * const ca = await CertificateAuthority.create({ trustDomain: 'cluster.local' });
 * await using store = createCertificateStore({ issue: (identity, signal) => ca.issue({ identity, signal }) });
 *
 * const sleep = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount: 'sleep' });
 * const { chainPem, rootsPem } = await store.get(sleep);
 * const expected = { trustDomain: 'cluster.local' };
 * verifyChain({ chain: chainPem, roots: rootsPem, purpose: 'client', now: Date.now(), expected }).serviceAccount; // 'sleep'
 * ```
 *
 * @module identity
 */

export { Certificate, type CertificateInput, readCertificates } from './certificate.ts';
export {
  type AuthorityEnvironment,
  type AuthorityMaterial,
  CertificateAuthority,
  type CreateAuthorityOptions,
  type CreateIntermediateOptions,
  type IssueOptions,
} from './certificate-authority.ts';
export {
  type CertificateState,
  CertificateStore,
  type CertificateStoreOptions,
  createCertificateStore,
  type IssueFunction,
  type Rotation,
} from './certificate-store.ts';
export { type Clock, ManualClock, systemClock } from './clock.ts';
export { type CertificateRequest, createCsr, readCsr } from './csr.ts';
export { IdentityError } from './errors.ts';
export { type ExpectedPeer, type PeerIdentityOptions, peerIdentity } from './peer-identity.ts';
export { PrivateKey } from './private-key.ts';
export { DEFAULT_RENEWAL_POLICY, type RenewalPolicy } from './renewal-schedule.ts';
export {
  formatSpiffeId,
  isTrustDomain,
  parseSpiffeId,
  type SpiffeId,
  type SpiffeIdParts,
  tryParseSpiffeId,
  type WorkloadIdentity,
} from './spiffe-id.ts';
export { type VerifyChainOptions, verifyChain } from './verify-chain.ts';
export { loadWorkloadCertificate, type WorkloadCertificate } from './workload-certificate.ts';
