import type { PeerVerifier, TlsCredentials } from '../../src/engine/index.ts';
import { peerIdentity } from '../../src/identity/index.ts';
import { encodePem } from '../../src/identity/pem.ts';
import { craftCa, craftLeaf, HOUR, type Made, type Recipe } from '../identity/craft.ts';

/** A root and an intermediate, as istiod has them. Their clock is the machine's: OpenSSL knows no other. */
export interface Authority {
  readonly root: Made;
  readonly issuer: Made;
}

export const pem = ({ certificate }: Made): string => encodePem('CERTIFICATE', certificate.der);

const lately = () => ({ notBeforeMs: Date.now() - HOUR, notAfterMs: Date.now() + HOUR });

export async function authority(name: string): Promise<Authority> {
  const root = await craftCa(`${name} root`, undefined, 3, lately());
  return { root, issuer: await craftCa(`${name} issuer`, root, 0, lately()) };
}

/** What a workload of this authority shows, sound unless `more` spoils it. */
export async function credentials(
  from: Authority,
  identity: string,
  more: Partial<Recipe> = {},
  roots: readonly Authority[] = [from],
): Promise<TlsCredentials> {
  const leaf = await craftLeaf(from.issuer, identity, { ...lately(), ...more });
  return {
    chainPem: pem(leaf) + pem(from.issuer),
    keyPem: leaf.key.exportPem(),
    rootsPem: roots.map(({ root }) => pem(root)).join(''),
  };
}

export const SLEEP = 'spiffe://cluster.local/ns/default/sa/sleep';
export const HTTPBIN = 'spiffe://cluster.local/ns/default/sa/httpbin';

/** Facts section 1.6, inbound: any workload of our own trust domain. */
export const ofTrustDomain = (trustDomain: string): PeerVerifier => ({
  verifyPeer: (leaf) => peerIdentity({ leaf, expected: { trustDomain }, severalIds: 'first' }).id,
});
