import { InvalidInputError } from '../errors/index.ts';

let cachedSecond = Number.NaN;
let cachedPrefix = '';

/**
 * `2026-01-01T00:00:00.000000Z`: UTC with microseconds.
 * @param timeMs - milliseconds since the epoch, years 1970 to 9999; its fraction gives the microseconds
 * @throws `InvalidInputError` ERR_TELEMETRY_TIME
 */
export function formatTimestamp(timeMs: number): string {
  if (!(timeMs >= 0 && timeMs < 253_402_300_800_000)) {
    throw new InvalidInputError({
      code: 'ERR_TELEMETRY_TIME',
      op: 'telemetry.format',
      field: 'timeMs',
      message: 'expected milliseconds since the epoch, between the years 1970 and 9999',
    });
  }
  let second = Math.floor(timeMs / 1000);
  // Rounded, not cut: 0.001 has no exact binary form, and 12.001 ms must not read 12.000.
  let microseconds = Math.round((timeMs - second * 1000) * 1000);
  if (microseconds === 1_000_000) {
    second++;
    microseconds = 0;
  }
  // Lines come many to a second, and the calendar is the dear part.
  if (second !== cachedSecond) {
    cachedPrefix = new Date(second * 1000).toISOString().slice(0, 20);
    cachedSecond = second;
  }
  return `${cachedPrefix}${String(microseconds).padStart(6, '0')}Z`;
}
