import { Http2Connection, type Http2Options, type Http2Role, type Http2Sink } from '../http2/index.ts';
import { type Clock, systemClock } from '../identity/index.ts';
import { type NumberRange, resolveNumbers } from './number-option.ts';

/** What both ends of HBONE may set. */
export interface TunnelOptions {
  /** TLS handshake; then, anew, the peer's SETTINGS (unless `http2.settingsTimeoutMs` says otherwise). Default 10,000. */
  readonly handshakeTimeoutMs?: number;
  /** Until a CONNECT is answered: by the server (a client gives up) or by the `tunnel` listener (a server says 503). Default 30,000. */
  readonly answerTimeoutMs?: number;
  /** How long `drain` waits for open streams before it cuts them. Default 5,000, as ztunnel. */
  readonly drainTimeoutMs?: number;
  /** What one tunnel holds for a peer that does not read as fast; streams wait beyond it. Default 256 KiB. */
  readonly sendBufferBytes?: number;
  /** What is asked for in answers, window updates and resets beyond that before the tunnel is cut. Default 256 KiB. */
  readonly controlBufferBytes?: number;
  /** `readableHighWaterMark` and `writableHighWaterMark` of each stream. Unread bytes go up to the stream's window. Default 64 KiB. */
  readonly streamBufferBytes?: number;
  /** Limits of HTTP/2: windows, frames, keepalive, floods. */
  readonly http2?: Http2Options;
  /** Time, for tests. Default: timers of Node, a clock that nobody sets. */
  readonly clock?: Clock;
}

/** {@link TunnelOptions} with every default filled in. */
export type ResolvedTunnelOptions = { readonly [K in keyof TunnelOptions]-?: NonNullable<TunnelOptions[K]> };

/** The longest delay that Node's timers hold. */
export const MOST_MS = 2 ** 31 - 1;

const KIB = 1024;

const ranges = {
  handshakeTimeoutMs: [10_000, 1, MOST_MS],
  answerTimeoutMs: [30_000, 1, MOST_MS],
  drainTimeoutMs: [5_000, 0, MOST_MS],
  sendBufferBytes: [256 * KIB, 64 * KIB, 2 ** 30],
  controlBufferBytes: [256 * KIB, 16 * KIB, 2 ** 30],
  streamBufferBytes: [64 * KIB, 1, 2 ** 30],
} as const satisfies Record<string, NumberRange>;

/** Intervals must not see an administrator, or NTP, set the time of day. */
const steadyClock: Clock = { ...systemClock, now: () => performance.now() };

/** @throws {InvalidInputError} `ERR_HBONE_INVALID`, `ERR_HTTP2_INVALID`; `field` is `options.<name>` */
export function resolveTunnelOptions(op: string, role: Http2Role, options: TunnelOptions): ResolvedTunnelOptions {
  const numbers = resolveNumbers(op, options, ranges);
  const http2 = { settingsTimeoutMs: numbers.handshakeTimeoutMs, ...options.http2 };
  // Its options are checked where a connection is made. One that is never started finds a mistake now, and not in every dial.
  new Http2Connection(role, {} as Http2Sink<unknown>, http2);
  return { ...numbers, http2, clock: options.clock ?? steadyClock };
}
