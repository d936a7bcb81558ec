import { formatSocketAddress } from '../ip/index.ts';
import { type AccessLogLevel, JsonLine, known, PlainLine } from './log-line.ts';
import { formatTimestamp } from './timestamp.ts';

/** One end of a connection. What is not known is left out, and then not written; `''` counts as not known. */
export interface AccessLogPeer {
  readonly ip: string;
  readonly port: number;
  /** The pod's name, or else its canonical service. */
  readonly workload?: string | undefined;
  readonly namespace?: string | undefined;
  /** SPIFFE id with its `spiffe://`; written only where `ConnectionRecord.mutualTls` says that it was verified. */
  readonly identity?: string | undefined;
  readonly cluster?: string | undefined;
}

/** The end that is connected to: its address is the one on the wire, so port 15008 for HBONE. */
export interface AccessLogDestination extends AccessLogPeer {
  /** `:authority` of the tunnel. */
  readonly hboneAddress?: string | undefined;
  /** Host name of the service. */
  readonly service?: string | undefined;
}

interface ConnectionRecord {
  /** Milliseconds since the epoch; the fraction gives the microseconds. */
  readonly timeMs: number;
  /** `outbound` where the proxied workload is the source. */
  readonly direction: 'inbound' | 'outbound';
  readonly source: AccessLogPeer;
  readonly destination: AccessLogDestination;
}

/** A connection began: debug. */
export interface ConnectionOpenedRecord extends ConnectionRecord {
  readonly event: 'opened';
  readonly mutualTls: boolean;
}

/** A connection ended: info, or error when it ended with one. */
export interface ConnectionCompleteRecord extends ConnectionRecord {
  readonly event: 'complete';
  readonly mutualTls: boolean;
  /** Bytes that the proxied workload sent: requests outbound, answers inbound. */
  readonly sentBytes: number;
  /** Bytes that the proxied workload received. */
  readonly receivedBytes: number;
  /** Written in whole milliseconds, rounded down. */
  readonly durationMs: number;
  readonly error?: string | undefined;
}

/** A connection that was refused before anything was known about its ends: warn, addresses and direction only. */
export interface ConnectionFailedRecord extends ConnectionRecord {
  readonly event: 'failed';
  readonly error: string;
}

export type AccessLogRecord = ConnectionOpenedRecord | ConnectionCompleteRecord | ConnectionFailedRecord;
export type AccessLogFormat = 'plain' | 'json';

/** `error` of a connection that ended because the proxy drains. */
export const CLOSED_BY_DRAIN = 'connection closed due to connection drain';
/** `error` of an open connection that a new policy no longer allows. */
export const CLOSED_BY_POLICY_CHANGE = 'connection closed due to policy change';

/** `error` of a connection that was refused; `reason` is the one of an `ambient-kit/rbac` decision. */
export function closedByPolicy(reason: string): string {
  return `connection closed due to policy rejection: ${reason}`;
}

/** Default for the longest value that is written whole, in UTF-16 units; the rest becomes `…`. */
export const DEFAULT_MAX_VALUE_LENGTH = 2048;

export function accessLogLevel(record: AccessLogRecord): AccessLogLevel {
  if (record.event === 'opened') return 'debug';
  if (record.event === 'failed') return 'warn';
  return known(record.error) ? 'error' : 'info';
}

/**
 * One line of the access log, without its newline (facts section 8.3): time, level, scope and message between tabs, then
 * `key=value` with quoted strings; or a JSON object with the same keys in the same order. Pure.
 * @throws `InvalidInputError` ERR_TELEMETRY_TIME for a `timeMs` that is no time
 */
export function formatAccessLog(
  record: AccessLogRecord,
  format: AccessLogFormat = 'plain',
  maxValueLength: number = DEFAULT_MAX_VALUE_LENGTH,
): string {
  const line = format === 'json' ? new JsonLine(maxValueLength) : new PlainLine(maxValueLength);
  const { source, destination } = record;
  line.begin(formatTimestamp(record.timeMs), accessLogLevel(record), MESSAGES[record.event]);
  if (record.event === 'failed') {
    line.address('src.addr', formatSocketAddress(source.ip, source.port));
    line.address('dst.addr', formatSocketAddress(destination.ip, destination.port));
    line.text('direction', record.direction);
    line.text('error', record.error);
    return line.end();
  }
  line.address('src.addr', formatSocketAddress(source.ip, source.port));
  line.text('src.workload', source.workload);
  line.text('src.namespace', source.namespace);
  if (record.mutualTls) line.text('src.identity', source.identity);
  line.text('src.cluster', source.cluster);
  line.address('dst.addr', formatSocketAddress(destination.ip, destination.port));
  line.address('dst.hbone_addr', destination.hboneAddress);
  line.text('dst.service', destination.service);
  line.text('dst.workload', destination.workload);
  line.text('dst.namespace', destination.namespace);
  if (record.mutualTls) line.text('dst.identity', destination.identity);
  line.text('dst.cluster', destination.cluster);
  line.text('direction', record.direction);
  if (record.event === 'complete') {
    line.number('bytes_sent', record.sentBytes);
    line.number('bytes_recv', record.receivedBytes);
    line.text('duration', `${Math.floor(record.durationMs)}ms`);
    line.text('error', record.error);
  }
  return line.end();
}

const MESSAGES = { opened: 'connection opened', complete: 'connection complete', failed: 'connection failed' } as const;
