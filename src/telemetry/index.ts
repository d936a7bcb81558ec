/**
 * What a proxy tells about its connections: the access log in the form of Istio's ztunnel, plain or JSON, field by field
 * and byte by byte, so that the tools that read the one read the other.
 *
 * ```ts
 * import { AccessLogWriter } from 'ambient-kit/telemetry';
 *
 * await using log = new AccessLogWriter({ write: (lines) => process.stdout.write(lines) });
 * log.log({
 *   event: 'complete', timeMs: Date.now(), direction: 'outbound', mutualTls: true,
 *   source: { ip: '10.1.0.5', port: 41000, workload: 'sleep', namespace: 'a' },
 *   destination: { ip: '10.1.1.7', port: 15008, hboneAddress: '10.1.1.7:8080', workload: 'httpbin', namespace: 'b' },
 *   sentBytes: 84, receivedBytes: 157, durationMs: 12.7,
 * });
 * ```
 *
 * @module telemetry
 */

export {
  type AccessLogDestination,
  type AccessLogFormat,
  type AccessLogPeer,
  type AccessLogRecord,
  accessLogLevel,
  CLOSED_BY_DRAIN,
  CLOSED_BY_POLICY_CHANGE,
  type ConnectionCompleteRecord,
  type ConnectionFailedRecord,
  type ConnectionOpenedRecord,
  closedByPolicy,
  DEFAULT_MAX_VALUE_LENGTH,
  formatAccessLog,
} from './access-log.ts';
export { AccessLogWriter, type AccessLogWriterOptions } from './access-log-writer.ts';
export { ACCESS_LOG_SCOPE, type AccessLogLevel } from './log-line.ts';
