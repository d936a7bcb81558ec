/**
 * HTTP/2 without I/O, for tunnels: CONNECT only, both roles. Bytes and the time go in, events and bytes come out; flow
 * control, stream states and every limit are inside. Payload passes as (buffer, start, end), so that it is neither copied
 * nor allocated for.
 *
 * ```ts
 * import { Http2Connection } from 'ambient-kit/http2';
 *
 * // sink: an object with write, onResponse, onData, onEnd, onReset, … (Http2Sink)
 * const connection = new Http2Connection<net.Socket>('client', sink);
 * connection.start(Date.now());
 * socket.on('data', (chunk) => {
 *   connection.receive(chunk, 0, chunk.length);
 *   connection.flush();
 * });
 * const stream = connection.open('10.96.0.105:80', [['baggage', 'k8s.pod.name=sleep']], application);
 * const room = connection.capacity(stream); // 0: onWritable will follow
 * connection.sendData(stream, buffer, 9, 9 + Math.min(room, 5), false); // bytes 0 to 8 take the frame header
 * ```
 *
 * @module http2
 */
export { Http2Connection } from './connection.ts';
export * from './error-code.ts';
export { FRAME_HEADER_BYTES } from './frame.ts';
export { traceFrames } from './frame-trace.ts';
export type { ByteSink } from './frame-writer.ts';
export type { HeaderField } from './header-field.ts';
export { HpackDecoder } from './hpack/decoder.ts';
export { HpackEncoder, type HpackEncoderOptions } from './hpack/encoder.ts';
export { Http2Error, type Http2ErrorCode } from './http2-error.ts';
export type { Http2Request } from './message-head.ts';
export type { Http2Options, Http2Role } from './options.ts';
export type { Http2Sink } from './sink.ts';
export { Http2Stream } from './stream.ts';
