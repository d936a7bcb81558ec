import {
  type Address,
  ERR_LIB_PEM,
  type NativeCallback,
  NativeMemory,
  nativeCallback,
  type OpenSsl,
  openssl,
  PEM_R_NO_START_LINE,
  SSL_CTRL_CHAIN_CERT,
  SSL_CTRL_MODE,
  SSL_CTRL_SET_GROUPS_LIST,
  SSL_CTRL_SET_MIN_PROTO_VERSION,
  SSL_CTRL_SET_READ_AHEAD,
  SSL_CTRL_SET_SESS_CACHE_MODE,
  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
  SSL_OP_NO_RX_CERTIFICATE_COMPRESSION,
  SSL_OP_NO_TX_CERTIFICATE_COMPRESSION,
  SSL_SESS_CACHE_OFF,
  SSL_TLSEXT_ERR_ALERT_FATAL,
  SSL_TLSEXT_ERR_OK,
  SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
  SSL_VERIFY_PEER,
  TLS1_3_VERSION,
} from '../system/index.ts';
import { EngineError } from './engine-error.ts';
import { opensslReason } from './openssl-reason.ts';
import { verifyCurrentPeer } from './peer-verification.ts';

/** What a workload shows to its peers, and whom it trusts. PEM, as UTF-8 text. */
export interface TlsCredentials {
  /** Leaf first, then intermediates; without the root. */
  readonly chainPem: string;
  /** PKCS#8. Copied into OpenSSL; never kept, logged or put into an error here. */
  readonly keyPem: string;
  readonly rootsPem: string;
}

// Facts section 1.5: TLS 1.3 only, these suites, groups without the post-quantum hybrid in the default set.
const CIPHER_SUITES = 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256';
const GROUPS = 'X25519:P-256:P-384';
const ALPN_H2 = Buffer.from('\x02h2', 'latin1');
const OPENSSL_NPN_NEGOTIATED = 1;
// Two records: OpenSSL shifts what it has read ahead forward at each record, so a longer buffer costs more copying than it saves reads.
const READ_BUFFER_BYTES = 34 << 10;

/**
 * One workload's side of mTLS: an `SSL_CTX` for both roles. Connections made from it keep it alive inside OpenSSL, so closing it
 * (after a rotation, say) leaves them untouched.
 */
export class TlsContext {
  readonly #ssl: OpenSsl = openssl();
  #ctx: Address;

  /** @throws {EngineError} `ERR_ENGINE_CREDENTIALS` when a PEM does not parse or key and certificate do not belong together */
  constructor(credentials: TlsCredentials) {
    const ssl = this.#ssl;
    this.#ctx = ssl.SSL_CTX_new(ssl.TLS_method());
    if (this.#ctx === 0) throw new EngineError({ code: 'ERR_ENGINE_TLS', op: 'engine.tls', message: opensslReason() });
    try {
      this.#configure();
      this.#useCredentials(credentials);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** For `SSL_new`. @throws {EngineError} `ERR_ENGINE_CLOSED` */
  get address(): Address {
    if (this.#ctx === 0) {
      throw new EngineError({ code: 'ERR_ENGINE_CLOSED', op: 'engine.tls', message: 'the TLS context is closed' });
    }
    return this.#ctx;
  }

  close(): void {
    if (this.#ctx === 0) return;
    this.#ssl.SSL_CTX_free(this.#ctx);
    this.#ctx = 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #configure(): void {
    const ssl = this.#ssl;
    const ctx = this.#ctx;
    ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION, 0);
    ssl.SSL_CTX_set_ciphersuites(ctx, CIPHER_SUITES);
    ssl.SSL_CTX_ctrl_text(ctx, SSL_CTRL_SET_GROUPS_LIST, 0, GROUPS);
    ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, 0);
    // A ticket could only resume a session whose peer was checked under older rules; ztunnel never resumes either.
    ssl.SSL_CTX_set_num_tickets(ctx, 0);
    // OpenSSL 3.5 would compress our chain anew for each handshake (RFC 8879), which costs more than all of its cryptography.
    ssl.SSL_CTX_set_options(ctx, SSL_OP_NO_TX_CERTIFICATE_COMPRESSION + SSL_OP_NO_RX_CERTIFICATE_COMPRESSION);
    ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_MODE, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, 0);
    ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_READ_AHEAD, 1, 0);
    ssl.SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER_BYTES);
    ssl.SSL_CTX_set_alpn_protos(ctx, ALPN_H2, ALPN_H2.length);
    ssl.SSL_CTX_set_alpn_select_cb(ctx, callbacks().selectAlpn.address, 0);
    ssl.SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, callbacks().verify.address);
  }

  #useCredentials(credentials: TlsCredentials): void {
    const ssl = this.#ssl;
    const ctx = this.#ctx;
    let first = true;
    eachCertificate(ssl, credentials.chainPem, 'chainPem', (x509) => {
      // SSL_CTRL_CHAIN_CERT with larg 1 takes its own reference (SSL_CTX_add1_chain_cert).
      const taken = first
        ? ssl.SSL_CTX_use_certificate(ctx, x509)
        : ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_CHAIN_CERT, 1, x509);
      first = false;
      if (taken !== 1) throw refused('chainPem', opensslReason());
    });
    eachCertificate(ssl, credentials.rootsPem, 'rootsPem', (x509) => {
      if (ssl.X509_STORE_add_cert(ssl.SSL_CTX_get_cert_store(ctx), x509) !== 1)
        throw refused('rootsPem', opensslReason());
    });
    withPem(ssl, credentials.keyPem, (bio) => {
      const key = ssl.PEM_read_bio_PrivateKey(bio, 0, 0, noPassphrase());
      if (key === 0) throw refused('keyPem', 'not an unencrypted private key in PEM');
      const taken = ssl.SSL_CTX_use_PrivateKey(ctx, key);
      ssl.EVP_PKEY_free(key);
      if (taken !== 1 || ssl.SSL_CTX_check_private_key(ctx) !== 1)
        throw refused('keyPem', 'does not belong to the leaf');
    });
    ssl.ERR_clear_error();
  }
}

interface Callbacks {
  readonly selectAlpn: NativeCallback;
  readonly verify: NativeCallback;
}

let registered: Callbacks | undefined;

/** Once a thread and for its whole life: contexts, and connections that outlive them, hold these pointers. */
function callbacks(): Callbacks {
  registered ??= {
    selectAlpn: nativeCallback(
      'int select_alpn(uintptr_t ssl, uintptr_t out, uintptr_t outlen, uintptr_t in, unsigned int inlen, uintptr_t arg)',
      selectAlpn,
    ),
    verify: nativeCallback('int verify_peer(int ok, uintptr_t store)', verifyCurrentPeer),
  };
  return registered;
}

// OpenSSL keeps a pointer into the list that was chosen from, so ours lives as long as the thread.
let offered: NativeMemory | undefined;

/** RFC 7301 section 3.2: a client that offers protocols, but not ours, is refused; one that offers none is accepted (facts section 1.5). */
function selectAlpn(_connection: Address, out: Address, outLength: Address, list: Address, length: number): number {
  if (offered === undefined) {
    offered = new NativeMemory(128);
    ALPN_H2.copy(offered.buffer);
  }
  const chosen = openssl().SSL_select_next_proto(out, outLength, offered.address, ALPN_H2.length, list, length);
  return chosen === OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

function eachCertificate(ssl: OpenSsl, pem: string, field: keyof TlsCredentials, use: (x509: Address) => void): void {
  let count = 0;
  withPem(ssl, pem, (bio) => {
    ssl.ERR_clear_error();
    const read = () => ssl.PEM_read_bio_X509(bio, 0, 0, noPassphrase());
    for (let x509 = read(); x509 !== 0; x509 = read()) {
      try {
        use(x509);
      } finally {
        ssl.X509_free(x509);
      }
      count++;
    }
    // A chain that breaks off in the middle must not pass for a shorter one.
    if (!endOfPem(ssl.ERR_get_error())) throw refused(field, `certificate ${count + 1} does not parse`);
  });
  if (count === 0) throw refused(field, 'holds no certificate in PEM');
}

/** How reading PEM ends when everything has been read: ERR_GET_LIB and ERR_GET_REASON of <openssl/err.h>. */
function endOfPem(error: number): boolean {
  return ((error >>> 23) & 0xff) === ERR_LIB_PEM && (error & 0x7fffff) === PEM_R_NO_START_LINE;
}

let empty: NativeMemory | undefined;

/** An empty C string, for a passphrase: instead of none, for which OpenSSL would ask the terminal. */
function noPassphrase(): Address {
  empty ??= new NativeMemory(128);
  return empty.address;
}

function withPem(ssl: OpenSsl, pem: string, read: (bio: Address) => void): void {
  // A NUL behind it, since an empty buffer has no address.
  const data = Buffer.alloc(Buffer.byteLength(pem, 'utf8') + 1);
  data.write(pem, 'utf8');
  const bio = ssl.BIO_new_mem_buf(data, data.length - 1);
  try {
    read(bio);
  } finally {
    ssl.BIO_free(bio);
    data.fill(0);
  }
}

function refused(field: keyof TlsCredentials, message: string): EngineError {
  return new EngineError({ code: 'ERR_ENGINE_CREDENTIALS', op: 'engine.tls', field, message });
}
