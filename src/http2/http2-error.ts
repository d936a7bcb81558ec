import { AmbientError, InvalidInputError } from '../errors/index.ts';
import {
  COMPRESSION_ERROR,
  ENHANCE_YOUR_CALM,
  FLOW_CONTROL_ERROR,
  FRAME_SIZE_ERROR,
  NO_ERROR,
  STREAM_CLOSED,
} from './error-code.ts';

/** Every `code` that an {@link Http2Error} may have. */
export type Http2ErrorCode =
  | 'ERR_HTTP2_PROTOCOL'
  | 'ERR_HTTP2_FLOW_CONTROL'
  | 'ERR_HTTP2_FRAME_SIZE'
  | 'ERR_HTTP2_COMPRESSION'
  | 'ERR_HTTP2_STREAM_CLOSED'
  | 'ERR_HTTP2_CALM'
  | 'ERR_HTTP2_PEER_GOAWAY'
  | 'ERR_HTTP2_KEEPALIVE_TIMEOUT'
  | 'ERR_HTTP2_SETTINGS_TIMEOUT'
  | 'ERR_HTTP2_CLOSED'
  | 'ERR_HTTP2_GOING_AWAY'
  | 'ERR_HTTP2_TOO_MANY_STREAMS'
  | 'ERR_HTTP2_STREAM_IDS_EXHAUSTED'
  | 'ERR_HTTP2_HEADERS_TOO_LARGE'
  | 'ERR_HTTP2_STATE'
  | 'ERR_HTTP2_CAPACITY';

/**
 * What ended a connection (given to `onClosed`), or why a call was refused (thrown). A call that throws has changed
 * nothing.
 */
export class Http2Error extends AmbientError {
  override readonly name: string = 'Http2Error';
  /** The RFC 9113 section 7 code that belongs to it: the one we sent in GOAWAY, or the peer's for `ERR_HTTP2_PEER_GOAWAY`. */
  readonly errorCode: number;

  constructor(code: Http2ErrorCode, op: string, message: string, errorCode: number = NO_ERROR) {
    super({ code, op, message });
    this.errorCode = errorCode;
  }
}

/** The error of a connection that we end because of what the peer did: the RFC's code decides the string code. */
export function violation(errorCode: number, message: string): Http2Error {
  return new Http2Error(violationCode(errorCode), 'http2.receive', message, errorCode);
}

function violationCode(errorCode: number): Http2ErrorCode {
  switch (errorCode) {
    case FLOW_CONTROL_ERROR:
      return 'ERR_HTTP2_FLOW_CONTROL';
    case FRAME_SIZE_ERROR:
      return 'ERR_HTTP2_FRAME_SIZE';
    case COMPRESSION_ERROR:
      return 'ERR_HTTP2_COMPRESSION';
    case STREAM_CLOSED:
      return 'ERR_HTTP2_STREAM_CLOSED';
    case ENHANCE_YOUR_CALM:
      return 'ERR_HTTP2_CALM';
    default:
      return 'ERR_HTTP2_PROTOCOL';
  }
}

/** A compression error in a header block: always the end of the connection (RFC 9113 section 4.3). */
export function compressionError(message: string): Http2Error {
  return violation(COMPRESSION_ERROR, message);
}

/** Bad input of our own caller: `ERR_HTTP2_INVALID` with the path of the field. */
export function invalidInput(op: string, field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_HTTP2_INVALID', op, field, message });
}
