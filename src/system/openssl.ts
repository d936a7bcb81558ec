import { type Address, native } from './native.ts';

/**
 * The OpenSSL that every official Node binary carries and exports. Handles are {@link Address}es; 0 is NULL. Who owns what is said by
 * the functions' own manual pages; the objects above this file (`engine/tls-context.ts`, `engine/tls-leg.ts`) are their only callers.
 */
function bind() {
  return {
    // Contexts
    TLS_method: native<() => Address>('uintptr_t TLS_method()'),
    SSL_CTX_new: native<(method: Address) => Address>('uintptr_t SSL_CTX_new(uintptr_t)'),
    SSL_CTX_free: native<(ctx: Address) => void>('void SSL_CTX_free(uintptr_t)'),
    SSL_CTX_ctrl: native<(ctx: Address, command: number, larg: number, parg: Address) => number>(
      'long SSL_CTX_ctrl(uintptr_t, int, long, uintptr_t)',
    ),
    SSL_CTX_ctrl_text: native<(ctx: Address, command: number, larg: number, parg: string) => number>(
      'long SSL_CTX_ctrl(uintptr_t, int, long, const char*)',
    ),
    SSL_CTX_set_options: native<(ctx: Address, options: number) => number>(
      'uint64_t SSL_CTX_set_options(uintptr_t, uint64_t)',
    ),
    SSL_CTX_set_ciphersuites: native<(ctx: Address, list: string) => number>(
      'int SSL_CTX_set_ciphersuites(uintptr_t, const char*)',
    ),
    SSL_CTX_set_num_tickets: native<(ctx: Address, count: number) => number>(
      'int SSL_CTX_set_num_tickets(uintptr_t, uint64_t)',
    ),
    SSL_CTX_set_default_read_buffer_len: native<(ctx: Address, bytes: number) => void>(
      'void SSL_CTX_set_default_read_buffer_len(uintptr_t, uint64_t)',
    ),
    SSL_CTX_set_alpn_protos: native<(ctx: Address, list: Uint8Array, length: number) => number>(
      'int SSL_CTX_set_alpn_protos(uintptr_t, const void*, unsigned int)',
    ),
    SSL_CTX_set_alpn_select_cb: native<(ctx: Address, callback: Address, argument: Address) => void>(
      'void SSL_CTX_set_alpn_select_cb(uintptr_t, uintptr_t, uintptr_t)',
    ),
    SSL_select_next_proto: native<
      (
        out: Address,
        outLength: Address,
        server: Address,
        serverLength: number,
        client: Address,
        clientLength: number,
      ) => number
    >('int SSL_select_next_proto(uintptr_t, uintptr_t, uintptr_t, unsigned int, uintptr_t, unsigned int)'),
    SSL_CTX_set_verify: native<(ctx: Address, mode: number, callback: Address) => void>(
      'void SSL_CTX_set_verify(uintptr_t, int, uintptr_t)',
    ),
    SSL_CTX_use_certificate: native<(ctx: Address, x509: Address) => number>(
      'int SSL_CTX_use_certificate(uintptr_t, uintptr_t)',
    ),
    SSL_CTX_use_PrivateKey: native<(ctx: Address, key: Address) => number>(
      'int SSL_CTX_use_PrivateKey(uintptr_t, uintptr_t)',
    ),
    SSL_CTX_check_private_key: native<(ctx: Address) => number>('int SSL_CTX_check_private_key(uintptr_t)'),
    SSL_CTX_get_cert_store: native<(ctx: Address) => Address>('uintptr_t SSL_CTX_get_cert_store(uintptr_t)'),
    X509_STORE_add_cert: native<(store: Address, x509: Address) => number>(
      'int X509_STORE_add_cert(uintptr_t, uintptr_t)',
    ),

    // PEM in memory
    BIO_new_mem_buf: native<(data: Uint8Array, length: number) => Address>(
      'uintptr_t BIO_new_mem_buf(const void*, int)',
    ),
    BIO_free: native<(bio: Address) => number>('int BIO_free(uintptr_t)'),
    PEM_read_bio_X509: native<(bio: Address, x: 0, callback: 0, passphrase: Address) => Address>(
      'uintptr_t PEM_read_bio_X509(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
    ),
    /** Without callback and passphrase (a C string), OpenSSL would ask the terminal for one. */
    PEM_read_bio_PrivateKey: native<(bio: Address, x: 0, callback: 0, passphrase: Address) => Address>(
      'uintptr_t PEM_read_bio_PrivateKey(uintptr_t, uintptr_t, uintptr_t, uintptr_t)',
    ),
    X509_free: native<(x509: Address) => void>('void X509_free(uintptr_t)'),
    EVP_PKEY_free: native<(key: Address) => void>('void EVP_PKEY_free(uintptr_t)'),

    // Connections
    SSL_new: native<(ctx: Address) => Address>('uintptr_t SSL_new(uintptr_t)'),
    SSL_free: native<(ssl: Address) => void>('void SSL_free(uintptr_t)'),
    SSL_set_accept_state: native<(ssl: Address) => void>('void SSL_set_accept_state(uintptr_t)'),
    SSL_set_connect_state: native<(ssl: Address) => void>('void SSL_set_connect_state(uintptr_t)'),
    SSL_set_bio: native<(ssl: Address, read: Address, write: Address) => void>(
      'void SSL_set_bio(uintptr_t, uintptr_t, uintptr_t)',
    ),
    SSL_do_handshake: native<(ssl: Address) => number>('int SSL_do_handshake(uintptr_t)'),
    SSL_read: native<(ssl: Address, to: Address, length: number) => number>('int SSL_read(uintptr_t, uintptr_t, int)'),
    SSL_write: native<(ssl: Address, from: Address, length: number) => number>(
      'int SSL_write(uintptr_t, uintptr_t, int)',
    ),
    SSL_free_buffers: native<(ssl: Address) => number>('int SSL_free_buffers(uintptr_t)'),
    SSL_has_pending: native<(ssl: Address) => number>('int SSL_has_pending(uintptr_t)'),
    SSL_shutdown: native<(ssl: Address) => number>('int SSL_shutdown(uintptr_t)'),
    SSL_get_error: native<(ssl: Address, result: number) => number>('int SSL_get_error(uintptr_t, int)'),
    SSL_get_version: native<(ssl: Address) => string>('const char* SSL_get_version(uintptr_t)'),
    SSL_ctrl: native<(ssl: Address, command: number, larg: number, parg: Address) => number>(
      'long SSL_ctrl(uintptr_t, int, long, uintptr_t)',
    ),
    SSL_group_to_name: native<(ssl: Address, id: number) => string | null>(
      'const char* SSL_group_to_name(uintptr_t, int)',
    ),
    SSL_get_current_cipher: native<(ssl: Address) => Address>('uintptr_t SSL_get_current_cipher(uintptr_t)'),
    SSL_CIPHER_get_name: native<(cipher: Address) => string>('const char* SSL_CIPHER_get_name(uintptr_t)'),

    // The peer's certificate, inside the verify callback
    X509_STORE_CTX_get_error_depth: native<(ctx: Address) => number>('int X509_STORE_CTX_get_error_depth(uintptr_t)'),
    X509_STORE_CTX_get_error: native<(ctx: Address) => number>('int X509_STORE_CTX_get_error(uintptr_t)'),
    X509_STORE_CTX_set_error: native<(ctx: Address, error: number) => void>(
      'void X509_STORE_CTX_set_error(uintptr_t, int)',
    ),
    X509_STORE_CTX_get_current_cert: native<(ctx: Address) => Address>(
      'uintptr_t X509_STORE_CTX_get_current_cert(uintptr_t)',
    ),
    X509_verify_cert_error_string: native<(error: number) => string>('const char* X509_verify_cert_error_string(long)'),
    /** With `out` 0: the length in bytes. With a pointer to a pointer: writes DER there. */
    i2d_X509: native<(x509: Address, out: BigUint64Array | null) => number>('int i2d_X509(uintptr_t, void*)'),

    // BIOs
    BIO_new_socket: native<(fd: number, close: number) => Address>('uintptr_t BIO_new_socket(int, int)'),
    BIO_new_bio_pair: native<
      (first: BigUint64Array, firstBytes: number, second: BigUint64Array, secondBytes: number) => number
    >('int BIO_new_bio_pair(void*, uint64_t, void*, uint64_t)'),
    BIO_nread0: native<(bio: Address, at: Address) => number>('int BIO_nread0(uintptr_t, uintptr_t)'),
    BIO_nread: native<(bio: Address, at: Address, length: number) => number>(
      'int BIO_nread(uintptr_t, uintptr_t, int)',
    ),
    BIO_ctrl_get_write_guarantee: native<(bio: Address) => number>('uint64_t BIO_ctrl_get_write_guarantee(uintptr_t)'),

    // Errors
    ERR_clear_error: native<() => void>('void ERR_clear_error()'),
    ERR_get_error: native<() => number>('unsigned long ERR_get_error()'),
    ERR_reason_error_string: native<(error: number) => string | null>(
      'const char* ERR_reason_error_string(unsigned long)',
    ),
  };
}

export type OpenSsl = ReturnType<typeof bind>;

let bound: OpenSsl | undefined;

/** Bound at the first call. @throws {UnsupportedPlatformError} `ERR_SYSTEM_UNSUPPORTED` where Node's OpenSSL is not exported */
export function openssl(): OpenSsl {
  bound ??= bind();
  return bound;
}

// <openssl/ssl.h>
export const SSL_CTRL_MODE = 33;
export const SSL_CTRL_SET_READ_AHEAD = 41;
export const SSL_CTRL_SET_SESS_CACHE_MODE = 44;
export const SSL_CTRL_CHAIN_CERT = 89;
export const SSL_CTRL_SET_GROUPS_LIST = 92;
export const SSL_CTRL_SET_MIN_PROTO_VERSION = 123;
export const SSL_CTRL_GET_NEGOTIATED_GROUP = 134;
export const SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2;
// Bits 32 and 33: sums, since JavaScript's bitwise operators end at 32. Unknown to OpenSSL before 3.2, which passes them over.
export const SSL_OP_NO_TX_CERTIFICATE_COMPRESSION = 2 ** 32;
export const SSL_OP_NO_RX_CERTIFICATE_COMPRESSION = 2 ** 33;
export const SSL_SESS_CACHE_OFF = 0;
export const SSL_VERIFY_PEER = 1;
export const SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2;
export const SSL_ERROR_NONE = 0;
export const SSL_ERROR_SSL = 1;
export const SSL_ERROR_WANT_READ = 2;
export const SSL_ERROR_WANT_WRITE = 3;
export const SSL_ERROR_SYSCALL = 5;
export const SSL_ERROR_ZERO_RETURN = 6;
export const SSL_TLSEXT_ERR_OK = 0;
export const SSL_TLSEXT_ERR_ALERT_FATAL = 2;
export const TLS1_2_VERSION = 0x0303;
export const TLS1_3_VERSION = 0x0304;
// <openssl/err.h>, <openssl/pemerr.h>
export const ERR_LIB_PEM = 9;
export const PEM_R_NO_START_LINE = 108;
// <openssl/x509_vfy.h>
export const X509_V_OK = 0;
export const X509_V_ERR_APPLICATION_VERIFICATION = 50;
