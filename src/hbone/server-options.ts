import type { ExpectedPeer } from '../identity/index.ts';
import type { Credentials } from './credentials.ts';
import { invalidInput } from './hbone-error.ts';
import { type NumberRange, resolveNumbers } from './number-option.ts';
import { type ResolvedTunnelOptions, resolveTunnelOptions, type TunnelOptions } from './tunnel-options.ts';

/** What an {@link HboneServer} may be told. */
export interface HboneServerOptions extends TunnelOptions {
  /** Who we are. */
  readonly credentials: Credentials;
  /** Who may make a tunnel at all. Default: every workload of our own trust domain (facts section 1.6). */
  readonly peers?: ExpectedPeer | undefined;
  /** Connections, those in their handshake included; more are closed at once. Default 10,000. */
  readonly maxConnections?: number;
}

/** The same with every default filled in. */
export interface ResolvedServerOptions extends ResolvedTunnelOptions {
  readonly credentials: Credentials;
  readonly peers: ExpectedPeer | undefined;
  readonly maxConnections: number;
}

const ranges = { maxConnections: [10_000, 1, 2 ** 30] } as const satisfies Record<string, NumberRange>;

/** @throws {InvalidInputError} `ERR_HBONE_INVALID`, `ERR_HTTP2_INVALID`; `field` is `options.<name>` */
export function resolveServerOptions(op: string, options: HboneServerOptions): ResolvedServerOptions {
  if (options.credentials === undefined) throw invalidInput(op, 'options.credentials', 'a server shows a certificate');
  return {
    ...resolveTunnelOptions(op, 'server', options),
    ...resolveNumbers(op, options, ranges),
    credentials: options.credentials,
    peers: options.peers,
  };
}
