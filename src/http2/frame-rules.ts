import { ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, PROTOCOL_ERROR } from './error-code.ts';
import {
  FLAG_ACK,
  FLAG_PADDED,
  FRAME_CONTINUATION,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_PING,
  FRAME_PRIORITY,
  FRAME_PUSH_PROMISE,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  FRAME_WINDOW_UPDATE,
} from './frame.ts';
import { SETTING_BYTES } from './settings.ts';

/** Why a frame ends the connection. */
export interface FrameFault {
  readonly errorCode: number;
  readonly message: string;
}

const protocol = (message: string): FrameFault => ({ errorCode: PROTOCOL_ERROR, message });
const size = (message: string): FrameFault => ({ errorCode: FRAME_SIZE_ERROR, message });
const calm = (message: string): FrameFault => ({ errorCode: ENHANCE_YOUR_CALM, message });

export const BAD_PREFACE: FrameFault = protocol('the client preface is missing');
export const NOT_SETTINGS_FIRST: FrameFault = protocol('the first frame is not SETTINGS');
export const FRAME_TOO_LARGE: FrameFault = size('frame larger than announced');
export const BLOCK_INTERRUPTED: FrameFault = protocol('a header block is interrupted by another frame');
export const NO_BLOCK: FrameFault = protocol('CONTINUATION without HEADERS');
export const BLOCK_TOO_LARGE: FrameFault = calm('header block is too large');
export const TOO_MANY_CONTINUATIONS: FrameFault = calm('too many CONTINUATION frames in one header block');
export const TOO_MANY_SETTINGS: FrameFault = calm('too many settings in one frame');
export const PADDING_TOO_LONG: FrameFault = protocol('the padding is longer than the frame');
export const PRIORITY_CUT_OFF: FrameFault = size('HEADERS is shorter than its priority fields');

const PUSHED = protocol('PUSH_PROMISE, which nobody here allowed');
const ON_STREAM_0 = protocol('a frame of a stream on stream 0');
const NOT_ON_STREAM_0 = protocol('a frame of the connection on a stream');
const PAD_LENGTH_MISSING = size('a padded frame without a pad length');
const RST_SIZE = size('RST_STREAM is not 4 bytes');
const SETTINGS_SIZE = size('SETTINGS is no multiple of 6 bytes');
const SETTINGS_ACK_SIZE = size('SETTINGS ACK has content');
const PING_SIZE = size('PING is not 8 bytes');
const GOAWAY_SIZE = size('GOAWAY is shorter than 8 bytes');
const WINDOW_UPDATE_SIZE = size('WINDOW_UPDATE is not 4 bytes');

/** What RFC 9113 section 6 forbids of a frame whatever the streams are; undefined for a frame that may go on. */
export function frameFault(type: number, flags: number, length: number, streamId: number): FrameFault | undefined {
  switch (type) {
    case FRAME_DATA:
    case FRAME_HEADERS:
      if (streamId === 0) return ON_STREAM_0;
      return (flags & FLAG_PADDED) !== 0 && length === 0 ? PAD_LENGTH_MISSING : undefined;
    case FRAME_CONTINUATION:
    case FRAME_PRIORITY:
      return streamId === 0 ? ON_STREAM_0 : undefined;
    case FRAME_RST_STREAM:
      if (streamId === 0) return ON_STREAM_0;
      return length !== 4 ? RST_SIZE : undefined;
    case FRAME_SETTINGS:
      if (streamId !== 0) return NOT_ON_STREAM_0;
      if (length % SETTING_BYTES !== 0) return SETTINGS_SIZE;
      return (flags & FLAG_ACK) !== 0 && length !== 0 ? SETTINGS_ACK_SIZE : undefined;
    case FRAME_PUSH_PROMISE:
      return PUSHED;
    case FRAME_PING:
      if (streamId !== 0) return NOT_ON_STREAM_0;
      return length !== 8 ? PING_SIZE : undefined;
    case FRAME_GOAWAY:
      if (streamId !== 0) return NOT_ON_STREAM_0;
      return length < 8 ? GOAWAY_SIZE : undefined;
    case FRAME_WINDOW_UPDATE:
      return length !== 4 ? WINDOW_UPDATE_SIZE : undefined;
    default:
      return undefined;
  }
}
