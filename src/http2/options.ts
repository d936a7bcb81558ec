import { DEFAULT_WINDOW_BYTES, MAX_31_BITS, MAX_MAX_FRAME_BYTES, MIN_MAX_FRAME_BYTES } from './frame.ts';
import { invalidInput } from './http2-error.ts';

/** Which end of the connection we are. Clients open streams, servers answer them. */
export type Http2Role = 'client' | 'server';

/** Limits and sizes of one connection. All are per connection; rates refill evenly, their burst is one second's worth. */
export interface Http2Options {
  /** Streams the peer may have open at once: announced, and enforced by REFUSED_STREAM. Server only. Default 200. */
  readonly maxConcurrentStreams?: number;
  /** Streams we open before the server has said how many it takes. Client only. Default 100, as ztunnel assumes. */
  readonly assumedPeerMaxStreams?: number;
  /** SETTINGS_INITIAL_WINDOW_SIZE: what the peer may send on a stream ahead of `consume`. Default 4 MiB. */
  readonly initialWindowBytes?: number;
  /** Window of the connection, raised by WINDOW_UPDATE at the start; 65,535 at least. Default 16 MiB. */
  readonly connectionWindowBytes?: number;
  /** SETTINGS_MAX_FRAME_SIZE, 16,384 to 16,777,215. Default 1 MiB. A frame is never collected, so this costs no memory. */
  readonly maxFrameBytes?: number;
  /**
   * SETTINGS_MAX_HEADER_LIST_SIZE. A larger list resets its stream with ENHANCE_YOUR_CALM; a header block of more than
   * twice this many bytes ends the connection. Default 16 KiB for a client, 64 KiB for a server.
   */
  readonly maxHeaderListBytes?: number;
  /** SETTINGS_HEADER_TABLE_SIZE: the table for decoding. Default 4096. */
  readonly headerTableBytes?: number;
  /** Most bytes of table used for encoding, when the peer allows as much. Default 4096. */
  readonly encoderTableBytes?: number;
  /** Unconsumed DATA over all streams above which connection credit is withheld. Default 64 MiB. */
  readonly maxBufferedBytes?: number;
  /** Size of the buffer that collects control frames. Default 4096. */
  readonly controlBufferBytes?: number;
  /** PING this long after the start and after every answer; 0 never. Default 10,000. */
  readonly keepaliveIntervalMs?: number;
  /** No PONG, and nothing else either, for this long after a PING ends the connection. Default 20,000. */
  readonly keepaliveTimeoutMs?: number;
  /** From the start to the peer's SETTINGS and its acknowledgement of ours. Default 20,000. */
  readonly settingsTimeoutMs?: number;
  /** SETTINGS frames a second. Default 100. */
  readonly maxSettingsPerSecond?: number;
  /** Parameters in one SETTINGS frame. Default 32. */
  readonly maxSettingsEntries?: number;
  /** PING frames a second. Default 1000. */
  readonly maxPingsPerSecond?: number;
  /** DATA frames a second that carry nothing and end nothing. Default 1000. */
  readonly maxEmptyDataPerSecond?: number;
  /**
   * Streams a second that were work for nothing: reset by the peer before we answered ("rapid reset"), refused for the
   * stream limit, or reset by us for an error of the peer. Default 500.
   */
  readonly maxFailedStreamsPerSecond?: number;
  /** WINDOW_UPDATE frames a second, on top of one for every KiB of DATA sent. Default 10,000. */
  readonly maxWindowUpdatesPerSecond?: number;
  /** Frames a second that have no effect: PRIORITY, unknown types, anything for streams that are gone. Default 1000. */
  readonly maxIgnoredFramesPerSecond?: number;
  /** CONTINUATION frames in one header block. Default 32. */
  readonly maxContinuationFrames?: number;
  /** Ids of streams we reset that are remembered, so that the peer's frames already under way are let pass. Default 1024. */
  readonly maxRememberedResets?: number;
  /** Header names sent without indexing, as their values do not repeat. Default `traceparent`, `tracestate`, `forwarded`. */
  readonly unindexedHeaders?: readonly string[];
  /** Header names sent never-indexed, as their values are secret. Default `authorization`, `proxy-authorization`. */
  readonly neverIndexedHeaders?: readonly string[];
}

/** {@link Http2Options} with every default filled in. */
export type ResolvedHttp2Options = { readonly [K in keyof Http2Options]-?: NonNullable<Http2Options[K]> };

const KIB = 1024;
const MIB = 1024 * KIB;

// [default, least, most]
const NUMBERS = {
  maxConcurrentStreams: [200, 0, MAX_31_BITS],
  assumedPeerMaxStreams: [100, 0, MAX_31_BITS],
  initialWindowBytes: [4 * MIB, 0, MAX_31_BITS],
  connectionWindowBytes: [16 * MIB, DEFAULT_WINDOW_BYTES, MAX_31_BITS],
  maxFrameBytes: [MIB, MIN_MAX_FRAME_BYTES, MAX_MAX_FRAME_BYTES],
  maxHeaderListBytes: [64 * KIB, 256, MAX_31_BITS],
  headerTableBytes: [4 * KIB, 0, 16 * MIB],
  encoderTableBytes: [4 * KIB, 0, 16 * MIB],
  maxBufferedBytes: [64 * MIB, 0, Number.MAX_SAFE_INTEGER],
  controlBufferBytes: [4 * KIB, 256, 16 * MIB],
  keepaliveIntervalMs: [10_000, 0, Number.MAX_SAFE_INTEGER],
  keepaliveTimeoutMs: [20_000, 1, Number.MAX_SAFE_INTEGER],
  settingsTimeoutMs: [20_000, 1, Number.MAX_SAFE_INTEGER],
  maxSettingsPerSecond: [100, 1, Number.MAX_SAFE_INTEGER],
  maxSettingsEntries: [32, 1, 1_000],
  maxPingsPerSecond: [1000, 1, Number.MAX_SAFE_INTEGER],
  maxEmptyDataPerSecond: [1000, 1, Number.MAX_SAFE_INTEGER],
  maxFailedStreamsPerSecond: [500, 1, Number.MAX_SAFE_INTEGER],
  maxWindowUpdatesPerSecond: [10_000, 1, Number.MAX_SAFE_INTEGER],
  maxIgnoredFramesPerSecond: [1000, 1, Number.MAX_SAFE_INTEGER],
  maxContinuationFrames: [32, 0, Number.MAX_SAFE_INTEGER],
  maxRememberedResets: [1024, 1, 1_000_000],
} as const;

type NumberOption = keyof typeof NUMBERS;

/** Fills in the defaults. Throws `ERR_HTTP2_INVALID` with the option's name as `field`. */
export function resolveHttp2Options(role: Http2Role, options: Http2Options = {}): ResolvedHttp2Options {
  const resolved: Record<string, unknown> = {
    unindexedHeaders: options.unindexedHeaders ?? ['traceparent', 'tracestate', 'forwarded'],
    neverIndexedHeaders: options.neverIndexedHeaders ?? ['authorization', 'proxy-authorization'],
  };
  for (const name of Object.keys(NUMBERS) as NumberOption[]) {
    const [standard, least, most] = NUMBERS[name];
    const value = options[name] ?? (name === 'maxHeaderListBytes' && role === 'client' ? 16 * KIB : standard);
    if (!Number.isSafeInteger(value) || value < least || value > most) {
      throw invalidInput('http2.options', `options.${name}`, `must be a whole number from ${least} to ${most}`);
    }
    resolved[name] = value;
  }
  return resolved as unknown as ResolvedHttp2Options;
}
