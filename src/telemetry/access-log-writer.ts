import { AmbientError, InvalidInputError } from '../errors/index.ts';
import {
  type AccessLogFormat,
  type AccessLogRecord,
  accessLogLevel,
  DEFAULT_MAX_VALUE_LENGTH,
  formatAccessLog,
} from './access-log.ts';
import { type AccessLogLevel, JsonLine, PlainLine } from './log-line.ts';
import { formatTimestamp } from './timestamp.ts';

export interface AccessLogWriterOptions {
  /**
   * Takes one or more whole lines, each ending in a newline, or throws and has taken nothing:
   * `(lines) => process.stdout.write(lines)`. Synchronous; what it does with its own blocking is its own affair.
   */
  readonly write: (lines: string) => void;
  /** Default `'plain'`. */
  readonly format?: AccessLogFormat | undefined;
  /** Records below it are not written. Default `'info'`, which leaves out `connection opened`. */
  readonly minimumLevel?: AccessLogLevel | undefined;
  /** The longest a line waits for company. Default 100. */
  readonly flushIntervalMs?: number | undefined;
  /** As many lines are handed over at once, and as soon as that many wait. Default 64. */
  readonly maxBatchLines?: number | undefined;
  /** Lines kept while `write` fails; later ones are dropped, counted, and reported in a line when it works again. Default 10,000. */
  readonly maxQueuedLines?: number | undefined;
  /** The longest value written whole. Default 2,048. */
  readonly maxValueLength?: number | undefined;
  /** Told what `write` threw, once for every attempt; attempts come with each interval. */
  readonly onError?: ((error: unknown) => void) | undefined;
  /** The clock of the writer's own lines, milliseconds since the epoch. Default `Date.now`. */
  readonly nowMs?: (() => number) | undefined;
}

const LEVELS: readonly AccessLogLevel[] = ['debug', 'info', 'warn', 'error'];

/**
 * Formats access log records and hands them over in batches. Its timer does not keep the process alive: `close()` (or
 * `await using`) writes what is left. Owns no descriptor.
 */
export class AccessLogWriter implements AsyncDisposable {
  readonly #write: (lines: string) => void;
  readonly #format: AccessLogFormat;
  readonly #minimumLevel: number;
  readonly #flushIntervalMs: number;
  readonly #maxBatchLines: number;
  readonly #maxQueuedLines: number;
  readonly #maxValueLength: number;
  readonly #onError: ((error: unknown) => void) | undefined;
  readonly #nowMs: () => number;
  readonly #flushByTimer = () => {
    this.#timer = undefined;
    this.flush();
  };
  readonly #queue: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #failing = false;
  #flushing = false;
  #closed = false;
  #droppedLines = 0;
  #unreportedDrops = 0;
  #lastError: unknown;

  /** @throws `InvalidInputError` ERR_TELEMETRY_OPTION naming the option */
  constructor(options: AccessLogWriterOptions) {
    if (typeof options.write !== 'function') throw invalidOption('write', 'expected a function');
    this.#write = options.write;
    this.#format = options.format ?? 'plain';
    if (this.#format !== 'plain' && this.#format !== 'json')
      throw invalidOption('format', "expected 'plain' or 'json'");
    this.#minimumLevel = LEVELS.indexOf(options.minimumLevel ?? 'info');
    if (this.#minimumLevel < 0) throw invalidOption('minimumLevel', `expected one of ${LEVELS.join(', ')}`);
    this.#flushIntervalMs = positive('flushIntervalMs', options.flushIntervalMs ?? 100);
    this.#maxBatchLines = positive('maxBatchLines', options.maxBatchLines ?? 64);
    this.#maxQueuedLines = positive('maxQueuedLines', options.maxQueuedLines ?? 10_000);
    this.#maxValueLength = positive('maxValueLength', options.maxValueLength ?? DEFAULT_MAX_VALUE_LENGTH);
    this.#onError = options.onError;
    this.#nowMs = options.nowMs ?? Date.now;
  }

  /** Lines that wait to be written. */
  get queuedLines(): number {
    return this.#queue.length;
  }

  /** Lines that were dropped since the beginning, because the queue was full of lines that `write` did not take. */
  get droppedLines(): number {
    return this.#droppedLines;
  }

  /**
   * Queues the record's line.
   * @returns false when the record is below the level, or its line was dropped
   * @throws `InvalidInputError` ERR_TELEMETRY_TIME; `AmbientError` ERR_TELEMETRY_CLOSED after `close()`
   */
  log(record: AccessLogRecord): boolean {
    if (this.#closed) {
      throw new AmbientError({
        code: 'ERR_TELEMETRY_CLOSED',
        op: 'telemetry.log',
        message: 'the access log is closed',
      });
    }
    if (LEVELS.indexOf(accessLogLevel(record)) < this.#minimumLevel) return false;
    if (this.#queue.length >= this.#maxQueuedLines) {
      this.#droppedLines++;
      this.#unreportedDrops++;
      return false;
    }
    this.#queue.push(formatAccessLog(record, this.#format, this.#maxValueLength));
    // A `write` that just failed is tried again at the interval, not for every line that comes.
    if (!this.#failing && this.#queue.length >= Math.min(this.#maxBatchLines, this.#maxQueuedLines)) this.flush();
    else this.#schedule();
    return true;
  }

  /**
   * Hands over what is queued, now. An error of `write` goes to `onError`; its lines stay queued.
   * @returns whether everything was taken
   */
  flush(): boolean {
    // A `write` or `onError` that logs in turn comes by here again, amid the lines that are being handed over.
    if (this.#flushing) return false;
    this.#flushing = true;
    try {
      return this.#flushAll();
    } finally {
      this.#flushing = false;
    }
  }

  /**
   * Writes what is left and stops. Again: nothing happens.
   * @throws `AmbientError` ERR_TELEMETRY_WRITE, its cause what `write` threw, when lines are lost by that
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const done = this.flush();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (done) return;
    const lost = this.#queue.length;
    this.#queue.length = 0;
    throw new AmbientError({
      code: 'ERR_TELEMETRY_WRITE',
      op: 'telemetry.close',
      message: `${lost} lines of the access log could not be written`,
      cause: this.#lastError,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #flushAll(): boolean {
    while (this.#queue.length > 0) {
      const count = Math.min(this.#queue.length, this.#maxBatchLines);
      const lines = count === this.#queue.length ? this.#queue : this.#queue.slice(0, count);
      if (!this.#handOver(`${lines.join('\n')}\n`)) return false;
      this.#queue.splice(0, count);
    }
    if (this.#unreportedDrops > 0) {
      if (!this.#handOver(`${this.#formatDrops(this.#unreportedDrops)}\n`)) return false;
      this.#unreportedDrops = 0;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return true;
  }

  #handOver(lines: string): boolean {
    try {
      this.#write(lines);
      this.#failing = false;
      return true;
    } catch (error) {
      this.#failing = true;
      this.#lastError = error;
      this.#schedule();
      this.#onError?.(error);
      return false;
    }
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(this.#flushByTimer, this.#flushIntervalMs).unref();
  }

  #formatDrops(count: number): string {
    const line = this.#format === 'json' ? new JsonLine(this.#maxValueLength) : new PlainLine(this.#maxValueLength);
    line.begin(formatTimestamp(this.#nowMs()), 'warn', 'access log lines dropped');
    line.number('count', count);
    return line.end();
  }
}

function positive(field: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 1) throw invalidOption(field, 'expected an integer from 1 on');
  return value;
}

function invalidOption(field: string, message: string): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_TELEMETRY_OPTION', op: 'telemetry.accessLog', field, message });
}
