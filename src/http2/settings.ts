import { FLOW_CONTROL_ERROR, NO_ERROR, PROTOCOL_ERROR } from './error-code.ts';
import { DEFAULT_WINDOW_BYTES, MAX_31_BITS, MAX_MAX_FRAME_BYTES, MIN_MAX_FRAME_BYTES, readUint32 } from './frame.ts';
import type { Http2Role, ResolvedHttp2Options } from './options.ts';

/** SETTINGS parameters (RFC 9113 section 6.5.2). */
export const SETTINGS_HEADER_TABLE_SIZE = 0x1;
export const SETTINGS_ENABLE_PUSH = 0x2;
export const SETTINGS_MAX_CONCURRENT_STREAMS = 0x3;
export const SETTINGS_INITIAL_WINDOW_SIZE = 0x4;
export const SETTINGS_MAX_FRAME_SIZE = 0x5;
export const SETTINGS_MAX_HEADER_LIST_SIZE = 0x6;

/** Bytes of one parameter: identifier (2), value (4), big endian. */
export const SETTING_BYTES = 6;

const DEFAULT_HEADER_TABLE_BYTES = 4096;

/** What the peer has announced; the RFC's initial values until it has. */
export class PeerSettings {
  headerTableBytes = DEFAULT_HEADER_TABLE_BYTES;
  /** Infinity: no limit announced. */
  maxConcurrentStreams = Number.POSITIVE_INFINITY;
  initialWindowBytes = DEFAULT_WINDOW_BYTES;
  maxFrameBytes = MIN_MAX_FRAME_BYTES;
  /** Infinity: no limit announced. */
  maxHeaderListBytes = Number.POSITIVE_INFINITY;

  /**
   * Applies the parameters in `buffer[start, end)`, a multiple of six bytes, in order. Gives NO_ERROR, or the error code
   * of the connection error (RFC 9113 section 6.5.2). Unknown parameters are ignored.
   */
  apply(role: Http2Role, buffer: Buffer, start: number, end: number): number {
    for (let at = start; at < end; at += SETTING_BYTES) {
      const value = readUint32(buffer, at + 2);
      switch ((buffer[at]! << 8) | buffer[at + 1]!) {
        case SETTINGS_HEADER_TABLE_SIZE:
          this.headerTableBytes = value;
          break;
        case SETTINGS_ENABLE_PUSH:
          // Only a client may allow push; a server that says 1 is as wrong as a 2 is (RFC 9113 section 6.5.2).
          if (value > (role === 'server' ? 1 : 0)) return PROTOCOL_ERROR;
          break;
        case SETTINGS_MAX_CONCURRENT_STREAMS:
          this.maxConcurrentStreams = value;
          break;
        case SETTINGS_INITIAL_WINDOW_SIZE:
          if (value > MAX_31_BITS) return FLOW_CONTROL_ERROR;
          this.initialWindowBytes = value;
          break;
        case SETTINGS_MAX_FRAME_SIZE:
          if (value < MIN_MAX_FRAME_BYTES || value > MAX_MAX_FRAME_BYTES) return PROTOCOL_ERROR;
          this.maxFrameBytes = value;
          break;
        case SETTINGS_MAX_HEADER_LIST_SIZE:
          this.maxHeaderListBytes = value;
          break;
      }
    }
    return NO_ERROR;
  }
}

/** Our own SETTINGS as [identifier, value] pairs, in order of identifier. */
export function ownSettings(role: Http2Role, options: ResolvedHttp2Options): [id: number, value: number][] {
  const settings: [number, number][] = [];
  if (options.headerTableBytes !== DEFAULT_HEADER_TABLE_BYTES) {
    settings.push([SETTINGS_HEADER_TABLE_SIZE, options.headerTableBytes]);
  }
  if (role === 'client') settings.push([SETTINGS_ENABLE_PUSH, 0]);
  else settings.push([SETTINGS_MAX_CONCURRENT_STREAMS, options.maxConcurrentStreams]);
  settings.push(
    [SETTINGS_INITIAL_WINDOW_SIZE, options.initialWindowBytes],
    [SETTINGS_MAX_FRAME_SIZE, options.maxFrameBytes],
    [SETTINGS_MAX_HEADER_LIST_SIZE, options.maxHeaderListBytes],
  );
  return settings;
}
