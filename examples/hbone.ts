// A proxy on either side of a mutual TLS tunnel, in one process: an HTTP server is reached through HBONE by a client that has proved who it
// is, and not by one whose identity the server's listener refuses. Needs no root.
import { once } from 'node:events';
import http from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { HboneClient, HboneError, HboneServer, relay } from '../src/hbone/index.ts';
import { CertificateAuthority, formatSpiffeId } from '../src/identity/index.ts';

const trustDomain = 'cluster.local';
const ca = await CertificateAuthority.create({ trustDomain });
const id = (serviceAccount: string) => formatSpiffeId({ trustDomain, namespace: 'default', serviceAccount });
const certificate = (name: string) => ca.issue({ identity: id(name) });

// The application: plain HTTP on loopback, ignorant of the mesh.
const httpbin = http.createServer((request, response) => response.end(`${request.method} ${request.url}: hello\n`));
await once(httpbin.listen(0, '127.0.0.1'), 'listening');
const { port } = httpbin.address() as AddressInfo;

// The proxy before it.
await using server = new HboneServer({ credentials: await certificate('httpbin') });
server.on('tunnel', (request) => {
  console.log(`server: ${request.peer.id} asks for ${request.authority}, baggage`, request.baggage);
  if (request.peer.serviceAccount !== 'sleep') return request.reject(401);
  const upstream = connect({ host: request.host, port: request.port, allowHalfOpen: true });
  upstream.once('error', () => request.settled || request.reject(503));
  upstream.once('connect', () => relay(upstream, request.accept()).catch((error) => console.log(`server: ${error}`)));
});
const { port: hbone } = await server.listen({ host: '127.0.0.1', port: 0 });

// The proxy behind the client: many streams, one tunnel.
await using client = new HboneClient({ credentials: await certificate('sleep') });
const to = { authority: `127.0.0.1:${port}`, peerIdentity: id('httpbin'), destination: { port: hbone } };
const get = async (path: string) => {
  const stream = await client.connect({ ...to, baggage: { namespace: 'default', workloadName: 'sleep' } });
  stream.end(`GET ${path} HTTP/1.0\r\n\r\n`);
  return (await text(stream)).split('\r\n\r\n')[1]?.trim();
};
console.log('client:', await Promise.all(['/one', '/two', '/three'].map(get)), 'over', client.tunnelCount, 'tunnel');

try {
  await client.connect({ ...to, credentials: await certificate('stranger') });
} catch (error) {
  if (error instanceof HboneError) console.log(`stranger: ${error.code} ${error.status}`);
}
httpbin.close();
