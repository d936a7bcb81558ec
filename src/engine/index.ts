/**
 * The data plane: a synchronous reactor over epoll, TLS by Node's own OpenSSL, HBONE tunnels with a pool, and a relay that splices.
 * It moves bytes; who may talk to whom is decided by its caller, in the callbacks.
 *
 * ```ts
 * import { EngineMemory, PipePool, Reactor, TcpListener, TcpRelay } from 'ambient-kit/engine';
 *
 * const reactor = new Reactor();
 * const memory = new EngineMemory();
 * const pipes = new PipePool();
 * const observer = { onRelayClosed: (relay) => console.log(relay.bytesUp, relay.bytesDown) };
 * new TcpListener(reactor, listenFd, {
 *   onConnection: (downstreamFd) =>
 *     new TcpRelay({ reactor, memory, pipes, downstreamFd, upstreamFd: dial(), observer }),
 * });
 * reactor.run(); // blocks this thread: give it a worker
 * ```
 *
 * @module engine
 */

export { EngineError } from './engine-error.ts';
export { EngineMemory } from './engine-memory.ts';
export {
  DEFAULT_TUNNEL_LIMITS,
  HboneTunnel,
  type TunnelInit,
  type TunnelLimits,
  type TunnelOwner,
} from './hbone-tunnel.ts';
export { IdleCollector, type IdleCollectorOptions } from './idle-collector.ts';
export type { PeerVerifier } from './peer-verification.ts';
export { PipePool } from './pipe-pool.ts';
export { type Deferred, type Pollable, Reactor, type ReactorOptions } from './reactor.ts';
export { ReactorPort } from './reactor-port.ts';
export {
  ReactorThread,
  type ReactorThreadData,
  type ReactorThreadObserver,
  type ReactorThreadOptions,
} from './reactor-thread.ts';
export { LEG_AGAIN, LEG_FAILED, type LegOwner, TcpLeg } from './tcp-leg.ts';
export { type ConnectionAcceptor, TcpListener } from './tcp-listener.ts';
export { type RelayObserver, TcpRelay, type TcpRelayInit } from './tcp-relay.ts';
export { type Expiring, Timer, TimerQueue } from './timer-queue.ts';
export { TlsContext, type TlsCredentials } from './tls-context.ts';
export { TunnelPool, type TunnelPoolOptions, type TunnelRoute } from './tunnel-pool.ts';
export {
  DEFAULT_STREAM_LIMITS,
  type StreamLimits,
  type StreamObserver,
  type StreamOpener,
  TunnelStream,
} from './tunnel-stream.ts';
