import type { AddressInfo } from 'node:net';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  EngineMemory,
  HboneTunnel,
  type PeerVerifier,
  TcpListener,
  TlsContext,
  type TlsCredentials,
} from '../../src/engine/index.ts';
import { ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH } from '../../src/identity/oids.ts';
import { openConnecting, openListener } from '../../src/socket/index.ts';
import { altNames, extendedKeyUsage, HOUR } from '../identity/craft.ts';
import { authority, credentials, HTTPBIN, ofTrustDomain, pem, SLEEP } from './credentials.ts';
import { localPort } from './sockets.ts';
import { openDescriptors, TurningReactor } from './turning.ts';

const mesh = await authority('mesh');
const elsewhere = await authority('elsewhere');
const ours = await credentials(mesh, HTTPBIN);
const memory = new EngineMemory();

const past = { notBeforeMs: Date.now() - 3 * HOUR, notAfterMs: Date.now() - 2 * HOUR };
const future = { notBeforeMs: Date.now() + 2 * HOUR, notAfterMs: Date.now() + 3 * HOUR };
const san = altNames([6, SLEEP]);

/** Certificates that must not pass, what our side says of them, and the alert that the peer gets (RFC 8446 section 6.2). */
const refused: [
  what: string,
  role: 'either' | 'client' | 'server',
  shown: TlsCredentials,
  says: RegExp,
  alert: RegExp,
][] = [
  ['an expired one', 'either', await credentials(mesh, SLEEP, past), /expired.*certificate 0/, /CERTIFICATE_EXPIRED/],
  ['one not valid yet', 'either', await credentials(mesh, SLEEP, future), /not yet valid/, /BAD_CERTIFICATE/],
  [
    'one of an authority that is not ours',
    'either',
    await credentials(elsewhere, SLEEP),
    /get (?:local )?issuer/,
    /UNKNOWN_CA/,
  ],
  [
    'one of a foreign trust domain',
    'either',
    await credentials(mesh, 'spiffe://other.domain/ns/default/sa/sleep'),
    /other\.domain|trust domain/,
    /HANDSHAKE_FAILURE/,
  ],
  [
    'one for servers, shown by a client',
    'client',
    await credentials(mesh, SLEEP, { extensions: () => [extendedKeyUsage(ID_KP_SERVER_AUTH), san] }),
    /(?:unsuitable|unsupported) certificate purpose/,
    /UNSUPPORTED_CERTIFICATE/,
  ],
  [
    'one for clients, shown by a server',
    'server',
    await credentials(mesh, SLEEP, { extensions: () => [extendedKeyUsage(ID_KP_CLIENT_AUTH), san] }),
    /(?:unsuitable|unsupported) certificate purpose/,
    /UNSUPPORTED_CERTIFICATE/,
  ],
  [
    'one without any name',
    'either',
    await credentials(mesh, SLEEP, { extensions: () => [extendedKeyUsage(ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH)] }),
    /SPIFFE|no URI/i,
    /HANDSHAKE_FAILURE/,
  ],
  [
    'one with a DNS name only',
    'either',
    await credentials(mesh, SLEEP, { extensions: () => [altNames([2, 'sleep.default.svc'])] }),
    /SPIFFE|no URI/i,
    /HANDSHAKE_FAILURE/,
  ],
  [
    'one with a URI that is no Istio identity',
    'either',
    await credentials(mesh, SLEEP, { extensions: () => [altNames([6, 'spiffe://cluster.local/sleep'])] }),
    /SPIFFE|no URI/i,
    /HANDSHAKE_FAILURE/,
  ],
];

let descriptors: number;
let reactor: TurningReactor;
beforeEach(() => {
  descriptors = openDescriptors();
  reactor = new TurningReactor();
});
afterEach(async () => {
  reactor[Symbol.dispose]();
  for (let wait = 0; wait < 100 && openDescriptors() > descriptors; wait++)
    await new Promise((done) => setTimeout(done, 5));
  expect(openDescriptors()).toBe(descriptors);
});

/** What one engine-side tunnel lived to see. */
class Story {
  readonly events: string[] = [];
  readonly #over = Promise.withResolvers<string | undefined>();

  readonly owner = {
    onTunnelReady: (tunnel: HboneTunnel) => {
      this.events.push(`ready ${tunnel.peerIdentity} ${tunnel.description}`);
    },
    onTunnelRequest: (tunnel: HboneTunnel) => {
      this.events.push('request');
      tunnel.close();
    },
    onTunnelCapacity: () => {
      this.events.push('settings');
    },
    onTunnelClosed: (tunnel: HboneTunnel, failure: string | undefined) => {
      this.events.push(`closed, peer ${tunnel.peerIdentity}`);
      this.#over.resolve(failure);
    },
  };

  get failure(): Promise<string | undefined> {
    return this.#over.promise;
  }
}

interface Side {
  readonly credentials?: TlsCredentials;
  readonly verifier?: PeerVerifier;
}

/** The engine as server: gives the port, and the story of the first tunnel. */
function serve({ credentials = ours, verifier = ofTrustDomain('cluster.local') }: Side = {}) {
  const story = new Story();
  const context = new TlsContext(credentials);
  const fd = openListener({ host: '127.0.0.1', port: 0 }).release();
  const listener = new TcpListener(reactor, fd, {
    onConnection: (fd) => {
      new HboneTunnel({ reactor, memory, role: 'server', fd, context, verifier, owner: story.owner });
      listener.close();
      context.close();
    },
  });
  return { port: localPort(fd), story };
}

/** The engine as client. */
function dial(port: number, { credentials = ours, verifier = ofTrustDomain('cluster.local') }: Side = {}): Story {
  const story = new Story();
  const context = new TlsContext(credentials);
  const fd = openConnecting({ host: '127.0.0.1', port }).release();
  new HboneTunnel({ reactor, memory, role: 'client', fd, context, verifier, owner: story.owner });
  context.close();
  return story;
}

const forNode = (shown: TlsCredentials) => ({ cert: shown.chainPem, key: shown.keyPem, ca: pem(mesh.root) });

/** Preface, SETTINGS and a CONNECT of stream 1: what would be acted upon at once if it were looked at. */
const EARLY = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  Buffer.from('000000 04 00 00000000'.replaceAll(' ', ''), 'hex'),
  // :method CONNECT, :authority "a:1", both literal without indexing
  Buffer.from('00000e 01 04 00000001 02 07 434f4e4e454354 01 03 613a31'.replaceAll(' ', ''), 'hex'),
]);

/** Resolves with the code of the error that a Node peer gets. */
function errorCode(socket: TLSSocket): Promise<string> {
  return new Promise((resolve) => {
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('close', () => resolve('closed without an error'));
    socket.resume();
  });
}

/** A Node client that says what it has to say as soon as it believes in the connection, which in TLS 1.3 is before it is believed. */
function hasty(port: number, shown: TlsCredentials | undefined, alpn = ['h2']): TLSSocket {
  const socket = connect({
    port,
    host: '127.0.0.1',
    ...(shown === undefined ? { ca: pem(mesh.root) } : forNode(shown)),
    ...(alpn.length === 0 ? {} : { ALPNProtocols: alpn }),
    checkServerIdentity: () => undefined,
  });
  socket.on('secureConnect', () => socket.write(EARLY));
  return socket;
}

describe('facts 1.6: a server judges its client before the first byte', () => {
  it.each(refused.filter(([, role]) => role !== 'server'))('refuses %s', async (_what, _role, shown, says, alert) => {
    const { port, story } = serve();
    expect(await errorCode(hasty(port, shown))).toMatch(alert);
    expect(await story.failure).toMatch(says);
    expect(story.events).toEqual(['closed, peer undefined']);
  });

  it('refuses a client that shows none', async () => {
    const { port, story } = serve();
    expect(await errorCode(hasty(port, undefined))).toMatch(/CERTIFICATE_REQUIRED/);
    expect(await story.failure).toMatch(/peer did not return a certificate/);
    expect(story.events).toEqual(['closed, peer undefined']);
  });

  it('reads on once the client is accepted, what came with its certificate included', async () => {
    const { port, story } = serve();
    const socket = hasty(port, await credentials(mesh, SLEEP));
    await story.failure;
    expect(story.events[0]).toMatch(new RegExp(`^ready ${SLEEP} TLSv1.3 TLS_AES_256_GCM_SHA384 `));
    expect(story.events.slice(1, 3)).toEqual(['settings', 'request']);
    socket.destroy();
  });

  it('facts 1.5: takes a client without ALPN, and none that offers something else', async () => {
    const sleep = await credentials(mesh, SLEEP);
    const without = serve();
    const quiet = hasty(without.port, sleep, []);
    await without.story.failure;
    expect(without.story.events).toContain('request');
    expect(quiet.alpnProtocol).toBe(false);
    quiet.destroy();

    const other = serve();
    expect(await errorCode(hasty(other.port, sleep, ['http/1.1']))).toMatch(/NO_APPLICATION_PROTOCOL/);
    await other.story.failure;
    expect(other.story.events).toEqual(['closed, peer undefined']);

    const several = serve();
    const socket = hasty(several.port, sleep, ['http/1.1', 'h2']);
    await several.story.failure;
    expect(socket.alpnProtocol).toBe('h2');
    socket.destroy();
  });

  it('facts 1.5: speaks TLS 1.3 and nothing older', async () => {
    const { port, story } = serve();
    const socket = connect({ port, host: '127.0.0.1', ...forNode(ours), maxVersion: 'TLSv1.2' });
    expect(await errorCode(socket)).toMatch(/PROTOCOL_VERSION/);
    expect(await story.failure).toMatch(/unsupported protocol/);
  });
});

describe('facts 1.6: a client judges its server before it says anything', () => {
  /** A Node server; resolves with the error that its handshake ended in, or the first bytes of a client. */
  async function nodeServer(shown: TlsCredentials, options: { ALPNProtocols?: string[] } = { ALPNProtocols: ['h2'] }) {
    const heard = Promise.withResolvers<string>();
    const server = createServer({ ...forNode(shown), ...options, requestCert: true, rejectUnauthorized: false });
    server.on('tlsClientError', (error: NodeJS.ErrnoException) => heard.resolve(error.code ?? error.message));
    server.on('secureConnection', (socket) => {
      socket.on('error', (error: NodeJS.ErrnoException) => heard.resolve(error.code ?? error.message));
      socket.once('data', (data: Buffer) => {
        const name = socket.getPeerCertificate().subjectaltname;
        heard.resolve(`${data.toString('latin1', 0, 14)} from ${name} by ${socket.alpnProtocol}`);
        socket.end();
      });
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    return { server, port: (server.address() as AddressInfo).port, heard: heard.promise };
  }

  it.each(refused.filter(([, role]) => role !== 'client'))('refuses %s', async (_what, _role, shown, says, alert) => {
    const { server, port, heard } = await nodeServer(shown);
    const story = dial(port);
    expect(await heard).toMatch(alert);
    expect(await story.failure).toMatch(says);
    expect(story.events).toEqual(['closed, peer undefined']);
    server.close();
  });

  it('facts 1.2: shows its own certificate and offers h2', async () => {
    const { server, port, heard } = await nodeServer(await credentials(mesh, SLEEP));
    const story = dial(port);
    expect(await heard).toBe(`PRI * HTTP/2.0 from URI:${HTTPBIN} by h2`);
    expect(story.events[0]).toMatch(new RegExp(`^ready ${SLEEP} TLSv1.3 `));
    expect(await story.failure).toBe('the peer closed the tunnel');
    server.close();
  });

  it('facts 1.5: does not mind a server without ALPN', async () => {
    const { server, port, heard } = await nodeServer(await credentials(mesh, SLEEP), {});
    const story = dial(port);
    expect(await heard).toMatch(/^PRI/);
    await story.failure;
    server.close();
  });
});

describe('the verifier', () => {
  it('sees the leaf, and what it throws is the reason', async () => {
    const leaves: string[] = [];
    const verifier: PeerVerifier = {
      verifyPeer(der) {
        leaves.push(Buffer.from(der).toString('base64'));
        throw new Error('not today');
      },
    };
    const { port, story } = serve({ verifier });
    const shown = await credentials(mesh, SLEEP);
    expect(await errorCode(hasty(port, shown))).toMatch(/HANDSHAKE_FAILURE/);
    expect(await story.failure).toBe('tls: not today');
    const shownPem = /-----BEGIN CERTIFICATE-----\n([^-]*)-----/.exec(shown.chainPem)![1]!;
    expect(leaves).toEqual([shownPem.replaceAll('\n', '')]);
  });

  it('may close the very tunnel that it is asked about: nothing is freed under the handshake', async () => {
    const tunnels: HboneTunnel[] = [];
    const story = new Story();
    const context = new TlsContext(ours);
    const fd = openListener({ host: '127.0.0.1', port: 0 }).release();
    const verifier: PeerVerifier = {
      verifyPeer() {
        tunnels[0]!.close('closed by the verifier');
        tunnels[0]!.close('closed again');
        return SLEEP;
      },
    };
    const listener = new TcpListener(reactor, fd, {
      onConnection: (fd) => {
        tunnels.push(new HboneTunnel({ reactor, memory, role: 'server', fd, context, verifier, owner: story.owner }));
      },
    });
    const code = errorCode(hasty(localPort(fd), await credentials(mesh, SLEEP)));
    expect(await story.failure).toBe('closed again');
    expect(story.events).toEqual(['closed, peer undefined']);
    await code;
    listener.close();
    context.close();
  });
});
