import { InvalidInputError } from '../errors/index.ts';
import type { ZtunnelOptions } from './ztunnel-options.ts';

/** As long as a timer goes. */
const MAX_MS = 0x7fff_ffff;
const MAX_WINDOW_BYTES = 0x7fff_ffff;
const MAX_BUSY_POLL_MS = 1;
const MODES: readonly string[] = ['node', 'dedicated', 'shared'];

/**
 * Looks at what would otherwise be found out in a data-plane thread, at the first connection.
 *
 * @throws {InvalidInputError} `ERR_ZTUNNEL_CONFIG` with `field`
 */
export function checkZtunnelOptions(options: ZtunnelOptions): void {
  if (options.nodeName === '') throw invalid('nodeName', 'is empty');
  const { mode = 'node' } = options;
  if (!MODES.includes(mode)) throw invalid('mode', `${JSON.stringify(mode)} is none of ${MODES.join(', ')}`);
  if (options.podsFile !== undefined && mode !== 'shared')
    throw invalid('podsFile', `is for shared mode, not for ${mode}`);
  if (options.workload !== undefined && mode !== 'dedicated') {
    throw invalid('workload', `is for dedicated mode, not for ${mode}`);
  }
  whole('maxPods', options.maxPods, 1, 100_000);
  whole('podDrainDeadlineMs', options.podDrainDeadlineMs, 0, MAX_MS);
  whole('podRegistryWaitMs', options.podRegistryWaitMs, 0, MAX_MS);
  whole('threads', options.threads, 1, 64);
  whole('certificateTtlMs', options.certificateTtlMs, 1, Number.MAX_SAFE_INTEGER);
  whole('maxStreamsPerTunnel', options.maxStreamsPerTunnel, 1, 65_535);
  whole('tunnelIdleMs', options.tunnelIdleMs, 0, MAX_MS);
  whole('packetMark', options.packetMark, 0, 0xffff_ffff);
  whole('drainDeadlineMs', options.drainDeadlineMs, 0, MAX_MS);
  whole('startTimeoutMs', options.startTimeoutMs, 1, MAX_MS);
  const { busyPollMs = 0, http2 = {} } = options;
  if (!(busyPollMs >= 0 && busyPollMs <= MAX_BUSY_POLL_MS)) {
    throw invalid('busyPollMs', `expected a number from 0 to ${MAX_BUSY_POLL_MS}, got ${busyPollMs}`);
  }
  // RFC 9113 sections 6.5.2 and 6.9.1; a stream without a window would never move.
  whole('http2.initialWindowBytes', http2.initialWindowBytes, 1, MAX_WINDOW_BYTES);
  whole('http2.connectionWindowBytes', http2.connectionWindowBytes, 65_535, MAX_WINDOW_BYTES);
  whole('http2.maxFrameBytes', http2.maxFrameBytes, 16_384, 0xff_ffff);
}

function whole(field: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= min && value <= max)) return;
  throw invalid(field, `expected a whole number from ${min} to ${max}, got ${value}`);
}

function invalid(field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_ZTUNNEL_CONFIG', op: 'ztunnel.start', field, message });
}
