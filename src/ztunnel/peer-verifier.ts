import type { PeerVerifier } from '../engine/index.ts';
import { type ExpectedPeer, peerIdentity } from '../identity/index.ts';

/** Facts section 1.6: which names the certificate must carry, once OpenSSL has found chain, times and usage good. */
export function verifierFor(expected: ExpectedPeer): PeerVerifier {
  return { verifyPeer: (leafDer) => peerIdentity({ leaf: leafDer, expected, severalIds: 'first' }).id };
}
