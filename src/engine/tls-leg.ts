import {
  type Address,
  EAGAIN,
  errno,
  errnoName,
  type Libc,
  libc,
  MSG_NOSIGNAL,
  NativeMemory,
  type OpenSsl,
  openssl,
  releasePages,
  SSL_CTRL_GET_NEGOTIATED_GROUP,
  SSL_ERROR_SYSCALL,
  SSL_ERROR_WANT_READ,
  SSL_ERROR_WANT_WRITE,
  SSL_ERROR_ZERO_RETURN,
  tcpClosed,
} from '../system/index.ts';
import { EngineError } from './engine-error.ts';
import { opensslReason } from './openssl-reason.ts';
import { judgeNextPeerBy, type PeerVerdict, type PeerVerifier } from './peer-verification.ts';
import type { TlsContext } from './tls-context.ts';

/** The call did what it could; epoll will say when there is more. */
export const TLS_AGAIN = 0;
/** The call is done: handshake complete, or everything flushed. */
export const TLS_DONE = 1;
/** The peer ended the session properly (close_notify). Reading only. */
export const TLS_EOF = -1;
/** The session is broken: see {@link TlsLeg.failure}. */
export const TLS_FAILED = -2;

/** Ciphertext not yet taken by the socket. One frame of {@link TLS_WRITE_MOST} bytes with its records fits twice. */
const OUTPUT_RING_BYTES = 640 << 10;
/** The most plaintext to write at once, and to ask {@link TlsLeg.room} for. */
export const TLS_WRITE_MOST = 256 << 10;

// One thread, one scratch: the two pointers that BIO_new_bio_pair and BIO_nread0 give back.
let pointers: NativeMemory | undefined;

/**
 * TLS over one connected, non-blocking socket. Reads ciphertext straight from the socket (read-ahead, two records), writes it into a ring
 * that {@link flush} sends from, without a copy in between: OpenSSL's own socket BIO would make one `send` for each 16 KiB record.
 *
 * Owns the `SSL` object; the descriptor stays its owner's, who closes it after this leg.
 */
export class TlsLeg {
  readonly #ssl: OpenSsl = openssl();
  readonly #libc: Libc = libc();
  readonly #fd: number;
  readonly #pointers: NativeMemory;
  readonly #verifier: PeerVerifier;
  readonly #verdict: PeerVerdict = { identity: undefined, refusal: undefined };
  #connection: Address;
  #ringIn: Address = 0;
  #ringOut: Address = 0;
  /** Where the ring's memory ends; 0 until its first bytes told where it begins. */
  #ringEnd: Address = 0;
  /** False where the ring is known to be empty, which saves asking OpenSSL. */
  #ringMayHold = false;
  /** Whether OpenSSL has its record buffers, some 50 KiB, and has used them since the last {@link tidy} or {@link rest}. */
  #buffers: 'none' | 'used' | 'unused' = 'none';
  #failure: string | undefined;
  #established = false;
  /** True inside SSL_do_handshake, which calls the verifier: nothing may be freed under it. */
  #shakingHands = false;
  #closeAsked = false;
  /** The end that {@link read} met behind bytes that it gave first. */
  #end: typeof TLS_EOF | typeof TLS_FAILED | undefined;
  /** After {@link read}: true when OpenSSL holds nothing more, so that only the socket can bring more. */
  drained = true;

  /** @throws {EngineError} `ERR_ENGINE_TLS` when OpenSSL has no memory for it */
  constructor(fd: number, context: TlsContext, role: 'client' | 'server', verifier: PeerVerifier) {
    pointers ??= new NativeMemory(128);
    this.#fd = fd;
    this.#pointers = pointers;
    this.#verifier = verifier;
    const ssl = this.#ssl;
    this.#connection = ssl.SSL_new(context.address);
    if (this.#connection === 0) throw this.#refused();
    const ends = new BigUint64Array(2);
    if (ssl.BIO_new_bio_pair(ends, OUTPUT_RING_BYTES, ends.subarray(1), 4096) !== 1) {
      ssl.SSL_free(this.#connection);
      throw this.#refused();
    }
    this.#ringIn = Number(ends[0]);
    this.#ringOut = Number(ends[1]);
    // SSL_set_bio takes both BIOs over; the far end of the pair stays ours.
    ssl.SSL_set_bio(this.#connection, ssl.BIO_new_socket(fd, 0), this.#ringIn);
    if (role === 'server') ssl.SSL_set_accept_state(this.#connection);
    else ssl.SSL_set_connect_state(this.#connection);
  }

  /** True once the handshake is done and the peer is accepted. */
  get established(): boolean {
    return this.#established;
  }

  /** The peer as the verifier named it; undefined before {@link established}. */
  get peerIdentity(): string | undefined {
    return this.#established ? this.#verdict.identity : undefined;
  }

  /** True while the verifier is asked: {@link close} then takes effect when it has answered, and the descriptor must stay open too. */
  get busy(): boolean {
    return this.#shakingHands;
  }

  /** Why the last call gave {@link TLS_FAILED}, for a person. */
  get failure(): string {
    return this.#failure ?? 'no failure';
  }

  /** `TLSv1.3 TLS_AES_128_GCM_SHA256 X25519`; empty before the handshake and after {@link close}. */
  describe(): string {
    if (this.#connection === 0 || !this.#established) return '';
    const ssl = this.#ssl;
    const cipher = ssl.SSL_CIPHER_get_name(ssl.SSL_get_current_cipher(this.#connection));
    const group = ssl.SSL_group_to_name(
      this.#connection,
      ssl.SSL_ctrl(this.#connection, SSL_CTRL_GET_NEGOTIATED_GROUP, 0, 0),
    );
    return `${ssl.SSL_get_version(this.#connection)} ${cipher} ${group ?? 'unknown group'}`;
  }

  /** One step. {@link TLS_DONE} once the peer's certificate is checked and both sides finished; nothing of it was read before. */
  handshake(): typeof TLS_AGAIN | typeof TLS_DONE | typeof TLS_FAILED {
    if (this.#connection === 0) return TLS_FAILED;
    const ssl = this.#ssl;
    judgeNextPeerBy(this.#verifier, this.#verdict);
    ssl.ERR_clear_error();
    this.#shakingHands = true;
    this.#ringMayHold = true;
    const result = ssl.SSL_do_handshake(this.#connection);
    this.#shakingHands = false;
    if (this.#closeAsked) {
      this.close();
      return this.#fail('closed during the handshake');
    }
    if (result === 1) {
      if (this.#verdict.identity === undefined) return this.#fail('the peer showed no certificate');
      this.#established = true;
      this.#buffers = 'used';
    } else {
      const reason = ssl.SSL_get_error(this.#connection, result);
      if (reason !== SSL_ERROR_WANT_READ && reason !== SSL_ERROR_WANT_WRITE) {
        const failed = this.#fail(this.#verdict.refusal ?? this.#describeError(reason));
        this.flush();
        return failed;
      }
    }
    if (this.flush() === TLS_FAILED) return TLS_FAILED;
    return this.#established ? TLS_DONE : TLS_AGAIN;
  }

  /**
   * Decrypts up to `length` bytes to `to`.
   *
   * @returns the number of bytes, or {@link TLS_AGAIN}, {@link TLS_EOF}, {@link TLS_FAILED}
   */
  read(to: Address, length: number): number {
    if (this.#connection === 0) return TLS_FAILED;
    if (this.#end !== undefined) return this.#end;
    const ssl = this.#ssl;
    ssl.ERR_clear_error();
    this.drained = true;
    this.#buffers = 'used';
    let total = 0;
    // A record holds at most 16 KiB, and SSL_read gives one at a time.
    while (length - total >= 16384) {
      const count = ssl.SSL_read(this.#connection, to + total, length - total);
      if (count <= 0) {
        // An alert, or the answer to a KeyUpdate. One that comes with data is answered with the next write (RFC 8446 section 4.6.3).
        this.#ringMayHold = true;
        const end = this.#readEnd(count);
        if (total === 0 || end === TLS_AGAIN) return total || end;
        // The bytes first; what ended the session was read off the socket with them, and nothing would announce it again.
        this.#end = end;
        this.drained = false;
        return total;
      }
      total += count;
      // A short record with nothing behind it: the socket is drained, as far as can be known without another system call.
      if (count < 16384 && ssl.SSL_has_pending(this.#connection) === 0) return total;
    }
    this.drained = false;
    return total;
  }

  /** Bytes of ciphertext that still fit; a frame of `n` bytes needs {@link tlsBytes}`(n)`. */
  room(): number {
    if (this.#connection === 0) return 0;
    return this.#ringMayHold ? this.#ssl.BIO_ctrl_get_write_guarantee(this.#ringIn) : OUTPUT_RING_BYTES;
  }

  /** Encrypts `length` bytes (at most {@link TLS_WRITE_MOST}) into the ring; false: no room, or broken. Nothing is sent before {@link flush}. */
  write(from: Address, length: number): boolean {
    if (this.#connection === 0) return false;
    this.#ssl.ERR_clear_error();
    this.#ringMayHold = true;
    this.#buffers = 'used';
    const count = this.#ssl.SSL_write(this.#connection, from, length);
    if (count === length) return true;
    const reason = this.#ssl.SSL_get_error(this.#connection, count);
    this.#fail(reason === SSL_ERROR_WANT_WRITE ? 'the peer does not read' : this.#describeError(reason));
    return false;
  }

  /** Sends what the ring holds. {@link TLS_AGAIN}: the socket is full, call again when it is writable. */
  flush(): typeof TLS_AGAIN | typeof TLS_DONE | typeof TLS_FAILED {
    if (this.#connection === 0) return TLS_FAILED;
    const at = this.#pointers;
    while (this.#ringMayHold) {
      const length = this.#ssl.BIO_nread0(this.#ringOut, at.address);
      if (length <= 0) break;
      const from = at.buffer.readUInt32LE(0) + at.buffer.readUInt32LE(4) * 0x1_0000_0000;
      const sent = this.#libc.send(this.#fd, from, length, MSG_NOSIGNAL);
      if (sent < 0) {
        const reason = errno();
        return reason === EAGAIN || !tcpClosed(this.#fd) ? TLS_AGAIN : this.#fail(`send: ${errnoName(reason)}`);
      }
      this.#ssl.BIO_nread(this.#ringOut, at.address, sent);
      // OpenSSL fills a new ring from its first byte on.
      if (this.#ringEnd === 0) this.#ringEnd = from + OUTPUT_RING_BYTES;
      // What goes on at the ring's beginning lies behind its end: everything else has been sent.
      if (sent === length && from + length < this.#ringEnd) break;
    }
    this.#ringMayHold = false;
    return TLS_DONE;
  }

  /** To be called now and then: {@link rest}s where nothing was read or written since the last call. */
  tidy(): void {
    if (this.#buffers === 'used') this.#buffers = 'unused';
    else this.rest();
  }

  /**
   * Gives memory back until it is needed again: OpenSSL's record buffers, unless part of a record is in them, and the ring's pages, unless
   * something is in it. OpenSSL by itself would do so behind every record, and allocate for the next.
   */
  rest(): void {
    if (this.#connection === 0 || this.#shakingHands || this.#buffers === 'none') return;
    if (!this.#ringMayHold && this.#ringEnd !== 0) releasePages(this.#ringEnd - OUTPUT_RING_BYTES, OUTPUT_RING_BYTES);
    this.#buffers = this.#ssl.SSL_free_buffers(this.#connection) === 1 ? 'none' : 'unused';
  }

  /** Frees everything of OpenSSL's; an established session says close_notify first, as far as the socket takes it. */
  close(): void {
    if (this.#connection === 0) return;
    if (this.#shakingHands) {
      this.#closeAsked = true;
      return;
    }
    if (this.#established && this.#failure === undefined) {
      this.#ssl.ERR_clear_error();
      this.#ringMayHold = true;
      this.#ssl.SSL_shutdown(this.#connection);
      this.flush();
    }
    this.#ssl.SSL_free(this.#connection);
    this.#ssl.BIO_free(this.#ringOut);
    this.#ssl.ERR_clear_error();
    this.#connection = 0;
    this.#ringIn = 0;
    this.#ringOut = 0;
  }

  #readEnd(result: number): typeof TLS_AGAIN | typeof TLS_EOF | typeof TLS_FAILED {
    const reason = this.#ssl.SSL_get_error(this.#connection, result);
    if (reason === SSL_ERROR_WANT_READ || reason === SSL_ERROR_WANT_WRITE) return TLS_AGAIN;
    if (reason === SSL_ERROR_ZERO_RETURN) return TLS_EOF;
    return this.#fail(this.#describeError(reason));
  }

  #describeError(reason: number): string {
    if (reason !== SSL_ERROR_SYSCALL) return opensslReason();
    const code = errno();
    return code === 0 ? 'the peer closed the connection' : errnoName(code);
  }

  #fail(failure: string): typeof TLS_FAILED {
    this.#failure ??= failure;
    return TLS_FAILED;
  }

  #refused(): EngineError {
    return new EngineError({ code: 'ERR_ENGINE_TLS', op: 'engine.tls', message: opensslReason() });
  }
}

/** Ciphertext bytes that `plaintext` bytes become: TLS 1.3 adds 22 to each record of up to 16 KiB (RFC 8446 section 5.2). */
export function tlsBytes(plaintext: number): number {
  return plaintext + 22 * (1 + (plaintext >>> 14));
}
