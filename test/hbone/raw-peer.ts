import { once } from 'node:events';
import http2, { type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import type { WorkloadCertificate } from '../../src/identity/index.ts';
import { clientCertificate } from './mesh.ts';

/** A TLS connection of a client that knows its mesh, and does with it what it likes. */
export async function rawTls(port: number, more: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port, ...tlsOptions(clientCertificate), ...more });
  await once(socket, 'secureConnect');
  return socket.on('error', () => {});
}

export function tlsOptions(certificate: WorkloadCertificate): {
  key: string;
  cert: string;
  ca: string;
  ALPNProtocols: string[];
  checkServerIdentity: () => undefined;
} {
  return {
    key: certificate.key!.exportPem(),
    cert: certificate.chainPem,
    ca: certificate.rootsPem,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
  };
}

/** Node's own HTTP/2 client: shows what is on the wire, by codes. */
export async function nodeSession(port: number): Promise<ClientHttp2Session> {
  const socket = await rawTls(port);
  const session = http2.connect('https://127.0.0.1', { createConnection: () => socket });
  session.on('error', () => {});
  return session;
}

/** A CONNECT, and its answer. */
export async function nodeConnect(
  session: ClientHttp2Session,
  authority = '127.0.0.1:80',
): Promise<{ stream: ClientHttp2Stream; status: number }> {
  const stream = session.request({ ':method': 'CONNECT', ':authority': authority });
  stream.on('error', () => {});
  const [headers] = await once(stream, 'response');
  return { stream, status: headers[':status'] };
}

export const PREFACE: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** One HTTP/2 frame (RFC 9113 section 4.1). */
export function frame(type: number, flags: number, streamId: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, payload]);
}

export const [DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE] = [0, 1, 3, 4, 6, 7, 8] as const;
export const [END_STREAM, END_HEADERS, ACK] = [1, 4, 1] as const;

/** HPACK without indexing (RFC 7541 section 6.2.2): `:method CONNECT`, `:authority 127.0.0.1:80`. */
export const CONNECT_BLOCK: Buffer = Buffer.concat([
  Buffer.from([0x02, 7]),
  Buffer.from('CONNECT'),
  Buffer.from([0x01, 12]),
  Buffer.from('127.0.0.1:80'),
]);

/** The code of the GOAWAY among frames that came, or undefined. */
export function goawayCode(bytes: Buffer): number | undefined {
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === GOAWAY) return bytes.readUInt32BE(at + 13);
  }
  return undefined;
}

/** Is one of that type among them? */
export function hasFrame(bytes: Buffer, type: number): boolean {
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === type) return true;
  }
  return false;
}

/** Everything until the end, whatever kind of end it is. */
export async function everything(socket: TLSSocket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  if (!socket.destroyed) await once(socket, 'close');
  return Buffer.concat(chunks);
}
