import { libc } from '../system/index.ts';
import { describeThrown } from './describe-thrown.ts';
import type { EngineMemory } from './engine-memory.ts';
import type { PipePool } from './pipe-pool.ts';
import type { Deferred, Reactor } from './reactor.ts';
import { RELAY_FAILED, RELAY_MORE, RelayDirection } from './relay-direction.ts';
import { describeErrno, isConnected, type LegOwner, TcpLeg } from './tcp-leg.ts';
import { type Expiring, Timer } from './timer-queue.ts';

/** Who wants to know how a relayed connection goes. */
export interface RelayObserver {
  /** Over: `failure` is undefined after a clean end in both directions. Once. */
  onRelayClosed(relay: TcpRelay, failure: string | undefined): void;
}

export interface TcpRelayInit {
  readonly reactor: Reactor;
  readonly memory: EngineMemory;
  readonly pipes: PipePool;
  /** Accepted from the client; the relay's from here on, which closes both descriptors where its constructor throws. */
  readonly downstreamFd: number;
  /** Connecting to the target; the relay's from here on. */
  readonly upstreamFd: number;
  readonly observer: RelayObserver;
  /** Limit for the connect. Default 10,000 ms. */
  readonly connectMs?: number;
}

/** Two TCP connections joined, byte for byte: FIN for FIN and RST for RST, each direction by itself. */
export class TcpRelay implements LegOwner, Deferred, Expiring {
  readonly #reactor: Reactor;
  readonly #observer: RelayObserver;
  readonly #downstream: TcpLeg;
  readonly #upstream: TcpLeg;
  readonly #upwards: RelayDirection;
  readonly #downwards: RelayDirection;
  readonly #deadline = new Timer(this);
  #closed = false;
  deferred = false;

  constructor(init: TcpRelayInit) {
    const { reactor, memory, pipes } = init;
    this.#reactor = reactor;
    this.#observer = init.observer;
    try {
      this.#downstream = new TcpLeg(reactor, memory, init.downstreamFd, this, false);
    } catch (error) {
      libc().close(init.upstreamFd);
      throw error;
    }
    try {
      this.#upstream = new TcpLeg(reactor, memory, init.upstreamFd, this, !isConnected(memory, init.upstreamFd));
    } catch (error) {
      this.#downstream.close();
      throw error;
    }
    this.#upwards = new RelayDirection(this.#downstream, this.#upstream, memory, pipes);
    this.#downwards = new RelayDirection(this.#upstream, this.#downstream, memory, pipes);
    if (this.#upstream.connecting) reactor.timers(init.connectMs ?? 10_000).arm(this.#deadline, reactor.nowMs);
  }

  /** Bytes from the client to the target. */
  get bytesUp(): number {
    return this.#upwards.bytes;
  }

  /** Bytes from the target to the client. */
  get bytesDown(): number {
    return this.#downwards.bytes;
  }

  onLegConnected(): void {
    this.#deadline.disarm();
    this.#pump();
  }

  onLegReadable(): void {
    if (!this.#upstream.connecting) this.#pump();
  }

  onLegDrained(): void {
    this.#pump();
  }

  onLegWritable(): void {
    if (!this.#upstream.connecting) this.#pump();
  }

  onLegFailed(leg: TcpLeg, reason: number): void {
    this.abort(`${leg.connecting ? 'connect' : 'io'}: ${describeErrno(reason)}`);
  }

  onLegThrown(_leg: TcpLeg, error: unknown): void {
    this.onThrown(error);
  }

  onDeferred(): void {
    this.#pump();
  }

  onExpired(): void {
    this.abort('connect: connection timed out');
  }

  onThrown(error: unknown): void {
    this.abort(describeThrown(error));
  }

  /** Ends both connections with RST. */
  abort(failure: string): void {
    if (this.#closed) return;
    this.#downstream.abort();
    this.#upstream.abort();
    this.#end(failure);
  }

  #pump(): void {
    if (this.#closed) return;
    const up = this.#upwards.pump();
    if (up === RELAY_FAILED || this.#closed) return;
    const down = this.#downwards.pump();
    if (down === RELAY_FAILED || this.#closed) return;
    if (up === RELAY_MORE || down === RELAY_MORE) this.#reactor.defer(this);
    if (!this.#upwards.finished || !this.#downwards.finished) return;
    if (this.#upstream.pendingBytes > 0 || this.#downstream.pendingBytes > 0) return;
    this.#downstream.close();
    this.#upstream.close();
    this.#end(undefined);
  }

  #end(failure: string | undefined): void {
    this.#closed = true;
    this.#deadline.disarm();
    this.#upwards.close();
    this.#downwards.close();
    this.#observer.onRelayClosed(this, failure);
  }
}
