import { errorCodeName } from './error-code.ts';
import {
  CLIENT_PREFACE,
  FLAG_ACK,
  FLAG_END_HEADERS,
  FLAG_END_STREAM,
  FLAG_PADDED,
  FLAG_PRIORITY,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADER_BYTES,
  FRAME_HEADERS,
  FRAME_PING,
  FRAME_RST_STREAM,
  FRAME_SETTINGS,
  FRAME_WINDOW_UPDATE,
  readUint31,
  readUint32,
} from './frame.ts';
import type { HpackDecoder } from './hpack/decoder.ts';
import { SETTING_BYTES } from './settings.ts';

const TYPES = [
  'DATA',
  'HEADERS',
  'PRIORITY',
  'RST_STREAM',
  'SETTINGS',
  'PUSH_PROMISE',
  'PING',
  'GOAWAY',
  'WINDOW_UPDATE',
  'CONTINUATION',
];

const SETTINGS = [
  '',
  'HEADER_TABLE_SIZE',
  'ENABLE_PUSH',
  'MAX_CONCURRENT_STREAMS',
  'INITIAL_WINDOW_SIZE',
  'MAX_FRAME_SIZE',
  'MAX_HEADER_LIST_SIZE',
];

/**
 * The whole frames in `buffer` as one readable line each, for debugging and tests; a cut-off frame at the end becomes a
 * line that says so. A `decoder` of that direction, fed from the first byte of the connection on, adds the header fields
 * of blocks that need no CONTINUATION. Their values are shown: a trace of a tunnel holds no keys, but it holds addresses.
 *
 * ```text
 * HEADERS stream=1 END_HEADERS length=17
 * WINDOW_UPDATE stream=0 length=4 increment=16711681
 * ```
 */
export function traceFrames(buffer: Buffer, decoder?: HpackDecoder): string[] {
  const lines: string[] = [];
  let at = 0;
  if (buffer.subarray(0, CLIENT_PREFACE.length).equals(CLIENT_PREFACE)) {
    lines.push('PREFACE');
    at = CLIENT_PREFACE.length;
  }
  while (at < buffer.length) {
    const payload = at + FRAME_HEADER_BYTES;
    const length = payload <= buffer.length ? buffer.readUIntBE(at, 3) : 0;
    if (payload + length > buffer.length) {
      lines.push(`(${buffer.length - at} bytes of a frame cut off)`);
      break;
    }
    lines.push(traceFrame(buffer, at, length, decoder));
    at = payload + length;
  }
  return lines;
}

function traceFrame(buffer: Buffer, at: number, length: number, decoder: HpackDecoder | undefined): string {
  const type = buffer[at + 3]!;
  const flags = buffer[at + 4]!;
  const payload = at + FRAME_HEADER_BYTES;
  const words = [TYPES[type] ?? `UNKNOWN(0x${type.toString(16)})`, `stream=${readUint31(buffer, at + 5)}`];
  words.push(...flagNames(type, flags), `length=${length}`);
  words.push(...details(buffer.subarray(payload, payload + length), type, flags));
  if (decoder !== undefined && type === FRAME_HEADERS && (flags & FLAG_END_HEADERS) !== 0) {
    const padding = (flags & FLAG_PADDED) !== 0 ? buffer[payload]! + 1 : 0;
    const from = payload + (padding > 0 ? 1 : 0) + ((flags & FLAG_PRIORITY) !== 0 ? 5 : 0);
    const to = payload + length - (padding > 0 ? padding - 1 : 0);
    for (const [name, value] of decoder.decode(buffer, from, to)) words.push(`${name}=${JSON.stringify(value)}`);
  }
  return words.join(' ');
}

function flagNames(type: number, flags: number): string[] {
  const names: string[] = [];
  const acks = type === FRAME_SETTINGS || type === FRAME_PING;
  if ((flags & FLAG_ACK) !== 0 && acks) names.push('ACK');
  if ((flags & FLAG_END_STREAM) !== 0 && (type === FRAME_DATA || type === FRAME_HEADERS)) names.push('END_STREAM');
  if ((flags & FLAG_END_HEADERS) !== 0 && !acks && type !== FRAME_DATA) names.push('END_HEADERS');
  if ((flags & FLAG_PADDED) !== 0) names.push('PADDED');
  if ((flags & FLAG_PRIORITY) !== 0) names.push('PRIORITY');
  return names;
}

function details(payload: Buffer, type: number, flags: number): string[] {
  switch (type) {
    case FRAME_SETTINGS: {
      const settings: string[] = [];
      if ((flags & FLAG_ACK) !== 0) return settings;
      for (let at = 0; at + SETTING_BYTES <= payload.length; at += SETTING_BYTES) {
        const id = payload.readUInt16BE(at);
        settings.push(`${SETTINGS[id] ?? `0x${id.toString(16)}`}=${readUint32(payload, at + 2)}`);
      }
      return settings;
    }
    case FRAME_RST_STREAM:
      return payload.length >= 4 ? [errorCodeName(readUint32(payload, 0))] : [];
    case FRAME_WINDOW_UPDATE:
      return payload.length >= 4 ? [`increment=${readUint31(payload, 0)}`] : [];
    case FRAME_PING:
      return [payload.toString('hex')];
    case FRAME_GOAWAY:
      if (payload.length < 8) return [];
      return [
        `last=${readUint31(payload, 0)}`,
        errorCodeName(readUint32(payload, 4)),
        ...(payload.length > 8 ? [JSON.stringify(payload.toString('latin1', 8))] : []),
      ];
    default:
      return [];
  }
}
