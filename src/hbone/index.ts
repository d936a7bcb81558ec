/**
 * HBONE for people who write proxies: TCP connections through mutual TLS tunnels, as Istio's ambient mesh carries them, given
 * as ordinary Duplex streams. Over `node:tls` and `ambient-kit/http2`; needs neither root nor native code.
 *
 * ```ts
 * import { HboneClient, HboneServer, relay } from 'ambient-kit/hbone';
 *
 * // Inbound: whoever has a certificate of our trust domain may reach what runs here.
 * await using server = new HboneServer({ credentials: () => store.get(httpbin) });
 * server.on('tunnel', (request) => {
 *   const upstream = net.connect({ host: request.host, port: request.port, allowHalfOpen: true });
 *   upstream.once('error', () => request.settled || request.reject(503));
 *   upstream.once('connect', () => relay(upstream, request.accept()).catch(console.error));
 * });
 * await server.listen({ port: 15008 });
 *
 * // Outbound: a stream per connection, many of them in one tunnel.
 * await using client = new HboneClient({ credentials: () => store.get(sleep) });
 * const stream = await client.connect({ authority: '10.0.0.9:80', peerIdentity: httpbin });
 * stream.end('GET / HTTP/1.0\r\n\r\n');
 * ```
 *
 * @module hbone
 */

export { type Authority, parseAuthority } from './authority.ts';
export { type Baggage, formatBaggage, parseBaggage, type WorkloadType } from './baggage.ts';
export { type ConnectOptions, HboneClient } from './client.ts';
export type { HboneClientOptions } from './client-options.ts';
export type { HeadersInput, MeshHeaders } from './connect-headers.ts';
export type { Credentials } from './credentials.ts';
export { type Destination, type Dial, dialTcp, HBONE_PORT } from './destination.ts';
export { formatForwarded, parseForwarded } from './forwarded.ts';
export { HboneError, type HboneErrorCode, type HboneErrorInit } from './hbone-error.ts';
export type { HboneStream } from './hbone-stream.ts';
export { type Relayed, relay } from './relay.ts';
export type { AnswerHeaders, HboneRequest } from './request.ts';
export { HboneServer, type HboneServerEvents, type ListenOptions } from './server.ts';
export type { HboneServerOptions } from './server-options.ts';
export {
  formatTraceParent,
  makeTraceParent,
  parseTraceParent,
  type RandomBytes,
  type TraceParent,
} from './traceparent.ts';
export type { TunnelOptions } from './tunnel-options.ts';
