import type { Credentials } from './credentials.ts';
import { type Dial, dialTcp } from './destination.ts';
import { invalidInput } from './hbone-error.ts';
import { type NumberRange, resolveNumbers } from './number-option.ts';
import { MOST_MS, type ResolvedTunnelOptions, resolveTunnelOptions, type TunnelOptions } from './tunnel-options.ts';

/** What an {@link HboneClient} may be told. */
export interface HboneClientOptions extends TunnelOptions {
  /** Who we are, unless `connect` is told otherwise. */
  readonly credentials: Credentials;
  /** How connections are made. Default: TCP by `node:net`. */
  readonly dial?: Dial;
  /** How long `dial` may take. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** Streams on one tunnel before another is dialled. Default 100, as ztunnel. */
  readonly maxStreamsPerTunnel?: number;
  /** Tunnels, those that are being dialled included. Default 10,000. */
  readonly maxTunnels?: number;
  /** Connections that wait for a tunnel. Default 10,000. */
  readonly maxWaiting?: number;
  /** Life of a tunnel without streams. Default 300,000, as ztunnel. */
  readonly idleTimeoutMs?: number;
}

/** The same with every default filled in. */
export interface ResolvedClientOptions extends ResolvedTunnelOptions {
  readonly credentials: Credentials;
  readonly dial: Dial;
  readonly connectTimeoutMs: number;
  readonly maxStreamsPerTunnel: number;
  readonly maxTunnels: number;
  readonly maxWaiting: number;
  readonly idleTimeoutMs: number;
}

const ranges = {
  connectTimeoutMs: [10_000, 1, MOST_MS],
  maxStreamsPerTunnel: [100, 1, 2 ** 30],
  maxTunnels: [10_000, 1, 2 ** 30],
  maxWaiting: [10_000, 0, 2 ** 30],
  idleTimeoutMs: [300_000, 1, MOST_MS],
} as const satisfies Record<string, NumberRange>;

/** @throws {InvalidInputError} `ERR_HBONE_INVALID`, `ERR_HTTP2_INVALID`; `field` is `options.<name>` */
export function resolveClientOptions(op: string, options: HboneClientOptions): ResolvedClientOptions {
  if (options.credentials === undefined) throw invalidInput(op, 'options.credentials', 'a client shows a certificate');
  return {
    ...resolveTunnelOptions(op, 'client', options),
    ...resolveNumbers(op, options, ranges),
    credentials: options.credentials,
    dial: options.dial ?? dialTcp,
  };
}
