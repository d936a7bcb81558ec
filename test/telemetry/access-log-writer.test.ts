import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type AccessLogRecord, AccessLogWriter, type AccessLogWriterOptions } from '../../src/telemetry/index.ts';

const record: AccessLogRecord = {
  event: 'failed',
  timeMs: Date.UTC(2026, 0, 1),
  direction: 'inbound',
  source: { ip: '10.1.0.5', port: 41000 },
  destination: { ip: '10.1.1.7', port: 15008 },
  error: 'x',
};
const line =
  '2026-01-01T00:00:00.000000Z\twarn\taccess\tconnection failed\tsrc.addr=10.1.0.5:41000 dst.addr=10.1.1.7:15008 direction="inbound" error="x"\n';

/** A writer whose sink can be told to fail. */
function open(options: Partial<AccessLogWriterOptions> = {}) {
  const written: string[] = [];
  const errors: unknown[] = [];
  const sink = { broken: undefined as Error | undefined };
  const writer = new AccessLogWriter({
    write: (lines) => {
      if (sink.broken) throw sink.broken;
      written.push(lines);
    },
    onError: (error) => errors.push(error),
    nowMs: () => Date.UTC(2026, 0, 2),
    ...options,
  });
  return { writer, written, errors, sink };
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('batching', () => {
  it('writes on the interval, all lines at once', () => {
    const { writer, written } = open({ flushIntervalMs: 50 });
    writer.log(record);
    writer.log(record);
    vi.advanceTimersByTime(49);
    expect(written).toEqual([]);
    expect(writer.queuedLines).toBe(2);
    vi.advanceTimersByTime(1);
    expect(written).toEqual([line + line]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('writes as soon as a batch is full, and the interval starts anew', () => {
    const { writer, written } = open({ maxBatchLines: 3 });
    for (let index = 0; index < 7; index++) writer.log(record);
    expect(written).toEqual([line.repeat(3), line.repeat(3)]);
    vi.advanceTimersByTime(100);
    expect(written).toEqual([line.repeat(3), line.repeat(3), line]);
  });

  it('flush writes now', () => {
    const { writer, written } = open();
    expect(writer.flush()).toBe(true);
    writer.log(record);
    expect(writer.flush()).toBe(true);
    expect(written).toEqual([line]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('JSON', () => {
    const { writer, written } = open({ format: 'json' });
    writer.log(record);
    writer.flush();
    expect(JSON.parse(written[0]!)).toMatchObject({ level: 'warn', message: 'connection failed', error: 'x' });
  });

  it.each([
    [undefined, false],
    ['debug', true],
  ] as const)('minimumLevel %s writes opened records: %s', (minimumLevel, taken) => {
    const { writer } = open({ minimumLevel });
    expect(writer.log({ ...record, event: 'opened', mutualTls: false })).toBe(taken);
    expect(writer.queuedLines).toBe(taken ? 1 : 0);
  });
});

describe('a write that fails', () => {
  it('keeps its lines and is tried again at the interval, not at every line', () => {
    const { writer, written, errors, sink } = open({ maxBatchLines: 2 });
    sink.broken = new Error('EAGAIN');
    for (let index = 0; index < 5; index++) expect(writer.log(record)).toBe(true);
    expect(errors).toEqual([sink.broken]);
    expect(writer.queuedLines).toBe(5);
    vi.advanceTimersByTime(100);
    expect(errors).toHaveLength(2);
    sink.broken = undefined;
    vi.advanceTimersByTime(100);
    expect(written).toEqual([line.repeat(2), line.repeat(2), line]);
  });

  it('drops what the queue cannot hold, and says how much when it can again', () => {
    const { writer, written, sink } = open({ maxQueuedLines: 2 });
    sink.broken = new Error('EPIPE');
    expect([1, 2, 3, 4, 5].map(() => writer.log(record))).toEqual([true, true, false, false, false]);
    expect([writer.queuedLines, writer.droppedLines]).toEqual([2, 3]);
    sink.broken = undefined;
    vi.advanceTimersByTime(100);
    expect(written).toEqual([
      line.repeat(2),
      '2026-01-02T00:00:00.000000Z\twarn\taccess\taccess log lines dropped\tcount=3\n',
    ]);
    writer.log(record);
    writer.flush();
    expect(written.slice(2)).toEqual([line]);
    expect(writer.droppedLines).toBe(3);
  });

  it('has room for 10,000 lines by default', () => {
    const { writer, sink } = open();
    sink.broken = new Error('EPIPE');
    for (let index = 0; index < 10_001; index++) writer.log(record);
    expect([writer.queuedLines, writer.droppedLines]).toEqual([10_000, 1]);
  });

  it('a log line from within write and onError is neither lost nor doubled', () => {
    const written: string[] = [];
    let attempts = 0;
    const writer: AccessLogWriter = new AccessLogWriter({
      maxBatchLines: 1,
      write: (lines) => {
        if (++attempts === 1) throw new Error('EAGAIN');
        if (attempts === 2) writer.log({ ...record, error: 'from write' });
        written.push(lines);
      },
      onError: () => writer.log({ ...record, error: 'from onError' }),
    });
    writer.log(record);
    vi.advanceTimersByTime(1000);
    expect(written.map((lines) => /error="(.*)"/.exec(lines)?.[1])).toEqual(['x', 'from onError', 'from write']);
  });
});

describe('closing', () => {
  it('writes what is left, once, and takes nothing more', async () => {
    const { writer, written } = open();
    writer.log(record);
    await writer[Symbol.asyncDispose]();
    writer.close();
    expect(written).toEqual([line]);
    expect(vi.getTimerCount()).toBe(0);
    expect(() => writer.log(record)).toThrow(expect.objectContaining({ code: 'ERR_TELEMETRY_CLOSED' }));
  });

  it('says what it could not write, and why, and leaves no timer', () => {
    const { writer, sink } = open();
    sink.broken = new Error('EPIPE');
    writer.log(record);
    expect(() => writer.close()).toThrow(
      expect.objectContaining({
        code: 'ERR_TELEMETRY_WRITE',
        cause: sink.broken,
        message: 'telemetry.close: 1 lines of the access log could not be written',
      }),
    );
    expect(vi.getTimerCount()).toBe(0);
    expect(() => writer.close()).not.toThrow();
  });
});

describe('options', () => {
  it.each([
    ['write', { write: undefined }],
    ['format', { format: 'text' }],
    ['minimumLevel', { minimumLevel: 'trace' }],
    ['flushIntervalMs', { flushIntervalMs: 0 }],
    ['maxBatchLines', { maxBatchLines: 1.5 }],
    ['maxQueuedLines', { maxQueuedLines: -1 }],
    ['maxValueLength', { maxValueLength: Number.NaN }],
  ])('a bad %s is named', (field, options) => {
    expect(() => open(options as unknown as Partial<AccessLogWriterOptions>)).toThrow(
      expect.objectContaining({ code: 'ERR_TELEMETRY_OPTION', field }),
    );
  });

  it('a record without a time changes nothing', () => {
    const { writer } = open();
    expect(() => writer.log({ ...record, timeMs: Number.NaN })).toThrow(
      expect.objectContaining({ code: 'ERR_TELEMETRY_TIME' }),
    );
    expect(writer.queuedLines).toBe(0);
  });
});
