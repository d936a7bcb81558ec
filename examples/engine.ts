// An HBONE pair in one reactor over loopback: an application's bytes go through a client tunnel, mTLS and a server tunnel to an
// echo server and back. Prints who met whom, how the bytes went and how it ended. Needs no root.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import * as engine from '../src/engine/index.ts';
import { CertificateAuthority, formatSpiffeId, peerIdentity } from '../src/identity/index.ts';
import { localAddress, openConnecting, openListener } from '../src/socket/index.ts';

const host = '127.0.0.1';
const echo = createServer((socket) => socket.pipe(socket)).listen(0, host);
await once(echo, 'listening');

const ca = await CertificateAuthority.create({ trustDomain: 'cluster.local' });
async function contextOf(serviceAccount: string): Promise<engine.TlsContext> {
  const identity = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount });
  const { chainPem, rootsPem, key } = await ca.issue({ identity });
  return new engine.TlsContext({ chainPem, rootsPem, keyPem: key!.exportPem() });
}
const [sleep, httpbin] = [await contextOf('sleep'), await contextOf('httpbin')];
const verifier: engine.PeerVerifier = {
  verifyPeer: (leaf) => peerIdentity({ leaf, expected: { trustDomain: 'cluster.local' } }).id,
};

const [reactor, memory] = [new engine.Reactor(), new engine.EngineMemory()];
const listen = (onConnection: (fd: number) => void): engine.TcpListener =>
  new engine.TcpListener(reactor, openListener({ host, port: 0 }).release(), { onConnection });
const dial = (port: number): number => openConnecting({ host, port }).release();

// The server's end: every CONNECT is joined with the echo server, whatever it asks for.
const inbound = listen((fd) => {
  const owner: engine.TunnelOwner = {
    onTunnelReady: (tunnel) => console.log(`server: ${tunnel.peerIdentity} by ${tunnel.description}`),
    onTunnelCapacity: () => {},
    onTunnelClosed: (_tunnel, failure) => console.log(`server: the tunnel ended, ${failure ?? 'in order'}`),
    onTunnelRequest(tunnel, http2Stream, request, endStream) {
      console.log(`server: ${request.method} ${request.authority} ${JSON.stringify(request.headers)}`);
      const stream = new engine.TunnelStream(reactor, memory, {
        onTargetConnected: (stream) => stream.accept([]),
        onStreamClosed: () => {},
      });
      tunnel.adopt(stream, http2Stream, endStream);
      stream.attach(dial((echo.address() as AddressInfo).port), true);
    },
  };
  new engine.HboneTunnel({ reactor, memory, role: 'server', fd, context: httpbin, verifier, owner });
});

// The client's end: every connection becomes a stream of a pooled tunnel.
const pool = new engine.TunnelPool(reactor, memory);
const hbonePort = localAddress(inbound.fd).port;
const outbound = listen((fd) => {
  const stream = new engine.TunnelStream(reactor, memory, {
    onAnswer: (stream, status) => console.log(`client: ${status} from ${stream.tunnel?.peerIdentity}`),
    onStreamClosed(stream, failure) {
      console.log(`client: ${stream.bytesToTunnel} bytes up, ${stream.bytesFromTunnel} down, ${failure ?? 'in order'}`);
      pool.drain();
    },
  });
  stream.attach(fd, false);
  const route = { key: 'sleep → httpbin', context: sleep, verifier, dial: () => dial(hbonePort) };
  pool.open(route, stream, '10.96.0.105:80', [['baggage', 'k8s.pod.name=sleep']]);
});

// In a proxy the reactor has a thread of its own, and `reactor.run()`; here it takes turns with Node's sockets.
let turning = true;
(function turn() {
  if (!turning) return;
  reactor.turn(0);
  setImmediate(turn);
})();

const application = connect({ host, port: localAddress(outbound.fd).port, allowHalfOpen: true });
application.end('through the mesh');
for await (const chunk of application) console.log(`application: heard "${chunk}"`);
await new Promise((done) => setTimeout(done, 50));

turning = false;
for (const end of [outbound, inbound, sleep, httpbin, reactor, echo]) end.close();
