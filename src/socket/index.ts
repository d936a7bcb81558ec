/**
 * Sockets as a transparent proxy needs them: in a chosen network namespace, with a mark, listening for connections to addresses that
 * are not ours, connecting from the client's own address, and able to say where the client meant to go.
 *
 * ```ts
 * import { openNamespace } from 'ambient-kit/netns';
 * import { connect, listen, originalDestination } from 'ambient-kit/socket';
 *
 * const pod = openNamespace('pod-a');
 * const server = await listen({ namespace: pod, host: '::', port: 15001, transparent: true, mark: 0x539, allowHalfOpen: true });
 * server.on('connection', async (client) => {
 *   const { ip, port } = originalDestination(client);             // REDIRECT or TPROXY, IPv4 or IPv6
 *   const source = { ip: client.remoteAddress! };
 *   const upstream = await connect({ namespace: pod, host: ip, port, source, transparent: true, mark: 0x539 });
 *   client.pipe(upstream).pipe(client);
 * });
 * ```
 *
 * {@link listen} and {@link connect} give ordinary `net.Server` and `net.Socket`; {@link openListener} and {@link openConnecting} give
 * bare descriptors, synchronously, for an event loop of one's own.
 *
 * @module socket
 */

export { localAddress, originalDestination, peerAddress, type SocketLike } from './addresses.ts';
export { type ConnectOptions, connect } from './connect.ts';
export { type ListenOptions, listen } from './listen.ts';
export { openConnecting, openListener } from './open-socket.ts';
export type { ConnectingOptions, KeepAlive, ListenerOptions, SocketOptions } from './options.ts';
export { SocketError } from './socket-error.ts';
