/** A client of HBONE made of Node's own TLS and HTTP/2: an implementation that shares nothing with the one under test. */
import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
  type IncomingHttpHeaders,
} from 'node:http2';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { type CertificateAuthority, formatSpiffeId, parseSpiffeId } from '../../src/identity/index.ts';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { connect } from '../../src/socket/index.ts';
import { identityOf } from './mesh.ts';

export interface HboneTarget {
  readonly namespace: NetworkNamespace;
  readonly ip: string;
  readonly port?: number;
}

/** What Node's TLS needs to be a workload: a certificate for `identity`, and the roots of the same authority. */
export async function credentialsOf(authority: CertificateAuthority, identity = identityOf('sleep')) {
  const { trustDomain, namespace, serviceAccount } = parseSpiffeId(identity);
  const issued = await authority.issue({ identity: formatSpiffeId({ trustDomain, namespace, serviceAccount }) });
  return { cert: issued.chainPem, key: issued.key!.exportPem(), ca: issued.rootsPem };
}

/** A TLS connection to port 15008, whatever comes of it. @throws the error of the handshake */
export async function handshake(target: HboneTarget, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = await connect({ namespace: target.namespace, host: target.ip, port: target.port ?? 15008 });
  const tls = connectTls({
    socket,
    ALPNProtocols: ['h2'],
    // The name in the certificate is a URI: facts section 1.6 says what is checked instead.
    checkServerIdentity: () => undefined,
    ...options,
  });
  try {
    await once(tls, 'secureConnect');
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return tls;
}

/** The error that ends a connection whose handshake the server refuses: TLS 1.3 tells a client only after its own last message. */
export async function refusal(target: HboneTarget, options: ConnectionOptions): Promise<string> {
  try {
    const tls = await handshake(target, options);
    // once() rejects with an 'error' that comes before.
    await once(tls.resume(), 'close');
    return 'closed';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly stream: ClientHttp2Stream;
}

export class HboneClient implements Disposable {
  readonly tls: TLSSocket;
  readonly session: ClientHttp2Session;

  private constructor(tls: TLSSocket) {
    this.tls = tls;
    this.session = connectHttp2('https://hbone', { createConnection: () => tls });
    this.session.on('error', () => {});
  }

  static async connect(target: HboneTarget, options: ConnectionOptions): Promise<HboneClient> {
    return new HboneClient(await handshake(target, options));
  }

  /** Sends a request, a CONNECT unless `headers` say otherwise, and waits for its answer. */
  async request(authority: string, headers: Record<string, string> = {}): Promise<Answer> {
    const stream = this.session.request(
      { ':method': 'CONNECT', ':authority': authority, ...headers },
      { endStream: false },
    );
    stream.on('error', () => {});
    const [answer] = (await once(stream, 'response')) as [IncomingHttpHeaders & { ':status'?: number }];
    return { status: answer[constants.HTTP2_HEADER_STATUS] as unknown as number, headers: answer, stream };
  }

  [Symbol.dispose](): void {
    this.session.destroy();
    this.tls.destroy();
  }
}
