import { messageOf } from '../errors/index.ts';
import { type Address, NativeMemory, openssl, X509_V_ERR_APPLICATION_VERIFICATION } from '../system/index.ts';

/** Decides about a peer whose chain, validity and key usage OpenSSL has already found good. */
export interface PeerVerifier {
  /**
   * @param leafDer - the peer's certificate, DER; valid during the call only
   * @returns the identity to know the peer by (a SPIFFE id)
   * @throws to refuse: the message becomes the reason of the failed handshake
   */
  verifyPeer(leafDer: Buffer): string;
}

/** What came of one handshake's verification. */
export interface PeerVerdict {
  identity: string | undefined;
  refusal: string | undefined;
}

const LARGEST_LEAF_BYTES = 64 << 10;

let verifier: PeerVerifier | undefined;
let verdict: PeerVerdict | undefined;
let scratch: NativeMemory | undefined;

/**
 * Says who judges the certificate that the next handshake step of this thread may meet. OpenSSL calls back from inside
 * `SSL_do_handshake`, synchronously, so there is at most one at a time; {@link verifyCurrentPeer} is that callback.
 */
export function judgeNextPeerBy(by: PeerVerifier, into: PeerVerdict): void {
  verifier = by;
  verdict = into;
}

/**
 * OpenSSL's verify callback (SSL_CTX_set_verify(3)): called for each certificate of the chain, the leaf (depth 0) last.
 * Refusing here, and not after the handshake, is what gives the peer a TLS alert and keeps its first byte from being read.
 */
export function verifyCurrentPeer(preverified: number, store: Address): number {
  const ssl = openssl();
  if (verdict === undefined || verifier === undefined) return 0;
  if (preverified !== 1) {
    const depth = ssl.X509_STORE_CTX_get_error_depth(store);
    verdict.refusal = `${ssl.X509_verify_cert_error_string(ssl.X509_STORE_CTX_get_error(store))} (certificate ${depth} of the chain)`;
    return 0;
  }
  if (ssl.X509_STORE_CTX_get_error_depth(store) > 0) return 1;
  try {
    verdict.identity = verifier.verifyPeer(leafDer(ssl.X509_STORE_CTX_get_current_cert(store)));
    return 1;
  } catch (error) {
    // An exception must not unwind through OpenSSL's C frames.
    verdict.refusal = messageOf(error);
    ssl.X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
  }
}

function leafDer(x509: Address): Buffer {
  const ssl = openssl();
  const length = ssl.i2d_X509(x509, null);
  if (length <= 0 || length > LARGEST_LEAF_BYTES) throw new Error(`the leaf certificate has ${length} bytes`);
  scratch ??= new NativeMemory(LARGEST_LEAF_BYTES);
  ssl.i2d_X509(x509, new BigUint64Array([BigInt(scratch.address)]));
  return scratch.buffer.subarray(0, length);
}
