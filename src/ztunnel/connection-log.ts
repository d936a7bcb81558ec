import type { Service, Workload } from '../discovery/index.ts';
import { type Reactor, Timer } from '../engine/index.ts';
import { formatSocketAddress, type SocketAddress } from '../ip/index.ts';
import { type AccessLogRecord, AccessLogWriter, type AccessLogWriterOptions } from '../telemetry/index.ts';

/** What the proxy decided about one connection, for the decision log. */
export type LoggedDecision = { readonly kind: 'hbone' | 'tcp' | 'local' | 'accept' | 'reject' } & Readonly<
  Record<string, unknown>
>;

/** The tunnel that a connection went through. */
export interface LoggedTunnel {
  readonly localIdentity: string;
  readonly peerIdentity: string;
  /** `TLSv1.3 TLS_AES_256_GCM_SHA384 X25519`. */
  readonly tls: string;
  readonly authority: string;
}

/** One connection, filled in as it becomes known, written when it ends. */
export interface ConnectionRecord {
  readonly direction: 'outbound' | 'inbound' | 'inbound-plaintext';
  readonly startedMs: number;
  readonly source: SocketAddress;
  /** Where the source meant to go: what REDIRECT or TPROXY kept. */
  readonly originalDestination: SocketAddress;
  decision: LoggedDecision | undefined;
  sourceWorkload: Workload | undefined;
  sourceIdentity: string | undefined;
  /** The address on the wire; the original destination until another is chosen. */
  destination: SocketAddress;
  destinationWorkload: Workload | undefined;
  destinationService: Service | undefined;
  destinationIdentity: string | undefined;
  hboneAddress: string | undefined;
  mutualTls: boolean;
  rbac: { readonly allowed: boolean; readonly reason: string; readonly explanation: string } | undefined;
  /** For those who want decisions. */
  tunnel: LoggedTunnel | undefined;
  dialled: SocketAddress | undefined;
  dialledFrom: string | undefined;
}

/** How it went, for {@link ConnectionLog.end}. `sent` and `received` are the proxied workload's (facts section 8.2). */
export interface ConnectionEnd {
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly failure: string | undefined;
}

export interface ConnectionLogOptions {
  readonly reactor: Reactor;
  readonly access: Pick<AccessLogWriterOptions, 'write' | 'format' | 'onError'>;
  /** Takes one line of JSON, without its newline, and never throws; undefined: no decision log. */
  readonly decisions?: ((line: string) => void) | undefined;
  /** Milliseconds since the epoch, with a fraction. */
  readonly wallClockMs: () => number;
}

/** How long a line waits for company, and lines that could not be written for the next try. */
const FLUSH_MS = 50;

/** Tells of each connection once, when it ends: a line in the access log, and an object in the decision log where one is kept. */
export class ConnectionLog {
  opened = 0;
  closed = 0;
  failed = 0;
  sentBytes = 0;
  receivedBytes = 0;
  readonly #reactor: Reactor;
  readonly #writer: AccessLogWriter;
  readonly #decisions: ((line: string) => void) | undefined;
  readonly #wallClockMs: () => number;
  readonly #flush = new Timer({ onExpired: () => this.#onFlush() });
  #flushArmed = false;

  constructor(options: ConnectionLogOptions) {
    this.#reactor = options.reactor;
    this.#decisions = options.decisions;
    this.#wallClockMs = options.wallClockMs;
    this.#writer = new AccessLogWriter({ ...options.access, nowMs: options.wallClockMs });
  }

  /** True where {@link ConnectionRecord.decision}, `rbac.explanation` and `tunnel` are written anywhere. */
  get wantsDecisions(): boolean {
    return this.#decisions !== undefined;
  }

  begin(direction: ConnectionRecord['direction'], source: SocketAddress, destination: SocketAddress): ConnectionRecord {
    this.opened++;
    return {
      direction,
      startedMs: this.#wallClockMs(),
      source,
      originalDestination: destination,
      decision: undefined,
      sourceWorkload: undefined,
      sourceIdentity: undefined,
      destination,
      destinationWorkload: undefined,
      destinationService: undefined,
      destinationIdentity: undefined,
      hboneAddress: undefined,
      mutualTls: false,
      rbac: undefined,
      tunnel: undefined,
      dialled: undefined,
      dialledFrom: undefined,
    };
  }

  end(record: ConnectionRecord, end: ConnectionEnd): void {
    this.closed++;
    if (end.failure !== undefined) this.failed++;
    this.sentBytes += end.sentBytes;
    this.receivedBytes += end.receivedBytes;
    this.#writer.log(this.#accessRecord(record, end));
    this.#decisions?.(decisionLine(record, end, this.#wallClockMs()));
    // Node's timers never run in this thread: the reactor's do.
    this.#flushLater();
  }

  #flushLater(): void {
    if (this.#flushArmed || this.#writer.queuedLines === 0) return;
    this.#flushArmed = true;
    this.#reactor.timers(FLUSH_MS).arm(this.#flush, this.#reactor.nowMs);
  }

  #onFlush(): void {
    this.#flushArmed = false;
    this.#writer.flush();
    this.#flushLater();
  }

  close(): void {
    this.#flush.disarm();
    this.#writer.flush();
  }

  #accessRecord(record: ConnectionRecord, end: ConnectionEnd): AccessLogRecord {
    const timeMs = this.#wallClockMs();
    const { source, destination, sourceWorkload, destinationWorkload, decision } = record;
    const direction = record.direction === 'outbound' ? 'outbound' : 'inbound';
    // Facts section 8.3: refused before it was decided where it goes. A policy's refusal comes after that.
    if (end.failure !== undefined && (decision === undefined || decision.kind === 'reject')) {
      return { event: 'failed', timeMs, direction, source, destination, error: end.failure };
    }
    return {
      event: 'complete',
      timeMs,
      direction,
      mutualTls: record.mutualTls,
      source: {
        ip: source.ip,
        port: source.port,
        workload: sourceWorkload?.name,
        namespace: sourceWorkload?.namespace,
        identity: record.sourceIdentity,
        cluster: sourceWorkload?.clusterId,
      },
      destination: {
        ip: destination.ip,
        port: destination.port,
        workload: destinationWorkload?.name,
        namespace: destinationWorkload?.namespace,
        identity: record.destinationIdentity,
        cluster: destinationWorkload?.clusterId,
        hboneAddress: record.hboneAddress,
        service: record.destinationService?.hostname,
      },
      sentBytes: end.sentBytes,
      receivedBytes: end.receivedBytes,
      durationMs: timeMs - record.startedMs,
      error: end.failure,
    };
  }
}

function decisionLine(record: ConnectionRecord, end: ConnectionEnd, timeMs: number): string {
  return JSON.stringify({
    time: new Date(timeMs).toISOString(),
    direction: record.direction,
    source: text(record.source),
    originalDestination: text(record.originalDestination),
    decision: record.decision,
    rbac: record.rbac,
    tunnel: record.tunnel,
    dialled: record.dialled && text(record.dialled),
    dialledFrom: record.dialledFrom,
    bytesSent: end.sentBytes,
    bytesReceived: end.receivedBytes,
    failure: end.failure,
  });
}

function text(address: SocketAddress): string {
  return formatSocketAddress(address.ip, address.port);
}
