import { constants } from 'node:crypto';
import type { Duplex } from 'node:stream';
import {
  connect,
  createSecureContext,
  createServer,
  type SecureContext,
  type SecureContextOptions,
  type Server,
  type TLSSocket,
} from 'node:tls';
import {
  type ExpectedPeer,
  IdentityError,
  peerIdentity,
  type WorkloadCertificate,
  type WorkloadIdentity,
} from '../identity/index.ts';
import { HboneError } from './hbone-error.ts';

/** A connection whose peer has proved who it is. Nothing of what it carries has been read yet. */
export interface Authenticated {
  readonly socket: TLSSocket;
  readonly peer: WorkloadIdentity;
}

// Facts section 1.5.
const CIPHER_SUITES = 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256';
const GROUPS = 'X25519:P-256:P-384';
const ALPN_PROTOCOLS = ['h2'];

// By certificate: parsed once, and let go together with it.
const clientContexts = new WeakMap<WorkloadCertificate, SecureContext>();
const idleServers = new WeakMap<WorkloadCertificate, Server>();

/**
 * The client's half of mutual TLS 1.3 over `raw`, which is destroyed where it fails or `signal` is aborted: no SNI, no host
 * name check, no resumption; the peer is whom its certificate's SPIFFE id says (facts sections 1.5 and 1.6).
 *
 * @throws {HboneError} `ERR_HBONE_TLS`, `ERR_HBONE_PEER`; `signal.reason`
 */
export async function authenticateServer(
  raw: Duplex,
  certificate: WorkloadCertificate,
  expected: ExpectedPeer,
  signal: AbortSignal,
): Promise<Authenticated> {
  const op = 'hbone.connect';
  const secureContext = contextOf(certificate);
  return handshake(op, raw, expected, signal, (done, fail) => {
    const socket = connect({
      socket: raw,
      secureContext,
      ALPNProtocols: ALPN_PROTOCOLS,
      rejectUnauthorized: true,
      checkServerIdentity: () => undefined,
    });
    socket.once('secureConnect', () => done(socket));
    socket.once('error', (error) => fail(error, socket));
    socket.once('close', () => fail(undefined, socket));
  });
}

/**
 * The server's half over `raw`, which is destroyed where it fails or `signal` is aborted. A client certificate is a must.
 *
 * @throws {HboneError} `ERR_HBONE_TLS`, `ERR_HBONE_PEER`; `signal.reason`
 */
export async function authenticateClient(
  raw: Duplex,
  certificate: WorkloadCertificate,
  expected: ExpectedPeer,
  signal: AbortSignal,
): Promise<Authenticated> {
  const op = 'hbone.accept';
  // Node's way to do the server's half, its checks included, over a connection that somebody else has accepted, is a
  // tls.Server that never listens. One a handshake at a time: nothing else would tell which of them its events are about.
  const server = idleServers.get(certificate) ?? createServer(serverOptions(certificate));
  idleServers.delete(certificate);
  try {
    return await handshake(op, raw, expected, signal, (done, fail) => {
      server.once('secureConnection', done);
      server.once('tlsClientError', fail);
      // Where TLS knows the reason, it tells that a moment later.
      raw.once('close', () => setImmediate(fail, undefined, undefined));
      server.emit('connection', raw);
    });
  } finally {
    server.removeAllListeners('secureConnection').removeAllListeners('tlsClientError');
    // After a failure its events may still come: for nobody.
    server.on('tlsClientError', ignore);
    idleServers.set(certificate, server);
  }
}

function handshake(
  op: string,
  raw: Duplex,
  expected: ExpectedPeer,
  signal: AbortSignal,
  begin: (done: (socket: TLSSocket) => void, fail: (error: unknown, socket: TLSSocket | undefined) => void) => void,
): Promise<Authenticated> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown, socket: TLSSocket | undefined): void => {
      signal.removeEventListener('abort', onAbort);
      reject(failure(op, error, socket));
      // Whatever else they have to say about their end is of no interest.
      socket?.on('error', ignore).destroy();
      raw.on('error', ignore).destroy();
    };
    const onAbort = (): void => fail(new Aborted(signal.reason), undefined);
    const done = (socket: TLSSocket): void => {
      signal.removeEventListener('abort', onAbort);
      try {
        resolve({ socket, peer: identify(socket, expected) });
      } catch (error) {
        fail(error, socket);
      }
    };
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    else begin(done, fail);
  });
}

/** Keeps a caller's own reason apart from what TLS says. */
class Aborted {
  readonly reason: unknown;
  constructor(reason: unknown) {
    this.reason = reason;
  }
}

/** Chain, validity and key usage are OpenSSL's findings by now; what is left is whom the leaf names. */
function identify(socket: TLSSocket, expected: ExpectedPeer): WorkloadIdentity {
  if (!socket.authorized) throw new Error(`${socket.authorizationError ?? 'no certificate'}`);
  return peerIdentity({ leaf: socket.getPeerCertificate().raw, expected });
}

function failure(op: string, error: unknown, socket: TLSSocket | undefined): unknown {
  if (error instanceof Aborted) return error.reason;
  const cause = error instanceof Error ? error : new Error('the peer closed the connection during the handshake');
  // Node says what OpenSSL has found wrong with the chain here, and closes the connection without a reason.
  const verdict = socket?.authorizationError ?? undefined;
  if (verdict === undefined && !(cause instanceof IdentityError)) {
    return new HboneError({ code: 'ERR_HBONE_TLS', op, message: cause.message, cause });
  }
  const message = `the peer is not accepted: ${verdict ?? cause.message}`;
  return new HboneError({ code: 'ERR_HBONE_PEER', op, message, cause });
}

function contextOf(certificate: WorkloadCertificate): SecureContext {
  let context = clientContexts.get(certificate);
  if (context === undefined) {
    context = createSecureContext(contextOptions(certificate));
    clientContexts.set(certificate, context);
  }
  return context;
}

function serverOptions(certificate: WorkloadCertificate) {
  return {
    ...contextOptions(certificate),
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ALPN_PROTOCOLS,
    // The caller counts the time, and aborts.
    handshakeTimeout: 2 ** 31 - 1,
  };
}

function contextOptions(certificate: WorkloadCertificate): SecureContextOptions {
  return {
    key: certificate.key!.exportPem(),
    cert: certificate.chainPem,
    ca: certificate.rootsPem,
    minVersion: 'TLSv1.3',
    ciphers: CIPHER_SUITES,
    ecdhCurve: GROUPS,
    // No tickets that carry a session: with Node's cache unused, none can be resumed.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

function ignore(): void {}
