/** Frame types (RFC 9113 section 6). */
export const FRAME_DATA = 0x0;
export const FRAME_HEADERS = 0x1;
export const FRAME_PRIORITY = 0x2;
export const FRAME_RST_STREAM = 0x3;
export const FRAME_SETTINGS = 0x4;
export const FRAME_PUSH_PROMISE = 0x5;
export const FRAME_PING = 0x6;
export const FRAME_GOAWAY = 0x7;
export const FRAME_WINDOW_UPDATE = 0x8;
export const FRAME_CONTINUATION = 0x9;

/** Flags. END_STREAM and ACK share a bit, on different frame types. */
export const FLAG_END_STREAM = 0x1;
export const FLAG_ACK = 0x1;
export const FLAG_END_HEADERS = 0x4;
export const FLAG_PADDED = 0x8;
export const FLAG_PRIORITY = 0x20;

/** Length (3), type (1), flags (1), reserved bit and stream id (4), big endian (RFC 9113 section 4.1). */
export const FRAME_HEADER_BYTES = 9;
/** The frame size every endpoint accepts, and the largest one a peer can announce (RFC 9113 section 4.2). */
export const MIN_MAX_FRAME_BYTES = 16_384;
export const MAX_MAX_FRAME_BYTES = 16_777_215;
/** The largest stream id, window and window increment: 31 bits. */
export const MAX_31_BITS = 0x7fff_ffff;
/** The window of every stream and of the connection before SETTINGS and WINDOW_UPDATE (RFC 9113 section 6.9.2). */
export const DEFAULT_WINDOW_BYTES = 65_535;

/** What a client says first (RFC 9113 section 3.4). */
export const CLIENT_PREFACE: Buffer = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** Writes the nine bytes of a frame header at `offset`. Sizes and ids are the caller's to check. */
export function writeFrameHeader(
  buffer: Buffer,
  offset: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): void {
  buffer[offset] = length >>> 16;
  buffer[offset + 1] = length >>> 8;
  buffer[offset + 2] = length;
  buffer[offset + 3] = type;
  buffer[offset + 4] = flags;
  writeUint32(buffer, offset + 5, streamId);
}

/** Big endian, without the range checks of `Buffer.writeUInt32BE`, which cost more than the store. */
export function writeUint32(buffer: Buffer, offset: number, value: number): void {
  buffer[offset] = value >>> 24;
  buffer[offset + 1] = value >>> 16;
  buffer[offset + 2] = value >>> 8;
  buffer[offset + 3] = value;
}

/** Big endian, unsigned. */
export function readUint32(buffer: Buffer, offset: number): number {
  return (
    ((buffer[offset]! << 24) | (buffer[offset + 1]! << 16) | (buffer[offset + 2]! << 8) | buffer[offset + 3]!) >>> 0
  );
}

/** Big endian, the reserved high bit left out, as in stream ids and increments. */
export function readUint31(buffer: Buffer, offset: number): number {
  return (
    ((buffer[offset]! & 0x7f) << 24) | (buffer[offset + 1]! << 16) | (buffer[offset + 2]! << 8) | buffer[offset + 3]!
  );
}
