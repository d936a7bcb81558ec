import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type AccessLogRecord,
  type ConnectionCompleteRecord,
  closedByPolicy,
  formatAccessLog,
} from '../../src/telemetry/index.ts';

const complete: ConnectionCompleteRecord = {
  event: 'complete',
  timeMs: Date.UTC(2026, 0, 1),
  direction: 'outbound',
  mutualTls: true,
  source: {
    ip: '10.1.0.5',
    port: 41000,
    workload: 'web-0',
    namespace: 'a',
    identity: 'spiffe://cluster.local/ns/a/sa/web',
    cluster: 'Kubernetes',
  },
  destination: {
    ip: '10.1.1.7',
    port: 15008,
    hboneAddress: '10.1.1.7:8080',
    service: 'api.b.svc.cluster.local',
    workload: 'api-0',
    namespace: 'b',
    identity: 'spiffe://cluster.local/ns/b/sa/api',
    cluster: 'Kubernetes',
  },
  sentBytes: 84,
  receivedBytes: 157,
  durationMs: 12.9,
};

describe('the plain line (facts section 8.3)', () => {
  it('is tab-separated, then key=value in ztunnel’s order', () => {
    expect(formatAccessLog(complete)).toBe(
      '2026-01-01T00:00:00.000000Z\tinfo\taccess\tconnection complete\t' +
        'src.addr=10.1.0.5:41000 src.workload="web-0" src.namespace="a" src.identity="spiffe://cluster.local/ns/a/sa/web" src.cluster="Kubernetes" ' +
        'dst.addr=10.1.1.7:15008 dst.hbone_addr=10.1.1.7:8080 dst.service="api.b.svc.cluster.local" dst.workload="api-0" dst.namespace="b" ' +
        'dst.identity="spiffe://cluster.local/ns/b/sa/api" dst.cluster="Kubernetes" direction="outbound" bytes_sent=84 bytes_recv=157 duration="12ms"',
    );
  });

  it('an error makes it level error, and comes last', () => {
    const line = formatAccessLog({ ...complete, error: closedByPolicy('explicitly denied by: b/strict') });
    expect(line).toContain('Z\terror\taccess\tconnection complete\t');
    expect(line).toMatch(
      / duration="12ms" error="connection closed due to policy rejection: explicitly denied by: b\/strict"$/,
    );
  });

  it('omits what is not known, and what is empty', () => {
    const record = {
      ...complete,
      source: { ip: 'fd00::5', port: 1, workload: '' },
      destination: { ip: '10.1.1.7', port: 80, cluster: undefined },
    };
    expect(formatAccessLog(record).split('\t')[4]).toBe(
      'src.addr=[fd00::5]:1 dst.addr=10.1.1.7:80 direction="outbound" bytes_sent=84 bytes_recv=157 duration="12ms"',
    );
  });

  it('names identities only where they were verified', () => {
    expect(formatAccessLog({ ...complete, mutualTls: false })).not.toContain('identity');
  });

  it('inbound', () => {
    expect(formatAccessLog({ ...complete, direction: 'inbound' })).toContain(' direction="inbound" ');
  });

  it('opened: debug, without byte counts and duration', () => {
    const { sentBytes, receivedBytes, durationMs, ...open } = complete;
    const line = formatAccessLog({ ...open, event: 'opened' });
    expect(line).toMatch(
      /^2026-01-01T00:00:00\.000000Z\tdebug\taccess\tconnection opened\tsrc\.addr=10\.1\.0\.5:41000 /,
    );
    expect(line).toMatch(/ dst\.cluster="Kubernetes" direction="outbound"$/);
  });

  it('failed: warn, with addresses, direction and error only', () => {
    const { source, destination, timeMs, direction } = complete;
    expect(formatAccessLog({ event: 'failed', source, destination, timeMs, direction, error: 'no workload' })).toBe(
      '2026-01-01T00:00:00.000000Z\twarn\taccess\tconnection failed\tsrc.addr=10.1.0.5:41000 dst.addr=10.1.1.7:15008 direction="outbound" error="no workload"',
    );
  });

  it.each([
    [0, '0ms'],
    [0.999, '0ms'],
    [12, '12ms'],
    [86_400_000.5, '86400000ms'],
  ])('duration of %f ms is "%s"', (durationMs, text) => {
    expect(formatAccessLog({ ...complete, durationMs })).toContain(` duration="${text}"`);
  });
});

describe('JSON (facts section 8.3)', () => {
  it('has level, time, scope, message and then the same keys in the same order', () => {
    expect(formatAccessLog({ ...complete, error: 'e' }, 'json')).toBe(
      '{"level":"error","time":"2026-01-01T00:00:00.000000Z","scope":"access","message":"connection complete",' +
        '"src.addr":"10.1.0.5:41000","src.workload":"web-0","src.namespace":"a","src.identity":"spiffe://cluster.local/ns/a/sa/web","src.cluster":"Kubernetes",' +
        '"dst.addr":"10.1.1.7:15008","dst.hbone_addr":"10.1.1.7:8080","dst.service":"api.b.svc.cluster.local","dst.workload":"api-0","dst.namespace":"b",' +
        '"dst.identity":"spiffe://cluster.local/ns/b/sa/api","dst.cluster":"Kubernetes","direction":"outbound","bytes_sent":84,"bytes_recv":157,"duration":"12ms","error":"e"}',
    );
  });
});

describe('the timestamp', () => {
  const time = (timeMs: number) => formatAccessLog({ ...complete, timeMs }).split('\t')[0];

  it.each([
    [0, '1970-01-01T00:00:00.000000Z'],
    [Date.UTC(2026, 7, 22, 13, 45, 53, 7) + 0.089, '2026-08-22T13:45:53.007089Z'],
    [Date.UTC(2026, 7, 22, 13, 45, 53, 999) + 0.999, '2026-08-22T13:45:53.999999Z'],
    [Date.UTC(2026, 7, 22, 13, 45, 53, 999) + 0.9999, '2026-08-22T13:45:54.000000Z'],
    [Date.UTC(9999, 11, 31, 23, 59, 59, 999), '9999-12-31T23:59:59.999000Z'],
  ])('of %f', (timeMs, text) => {
    expect(time(timeMs)).toBe(text);
  });

  it('keeps every microsecond, in any order of seconds', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 4_000_000_000 }),
        fc.integer({ min: 0, max: 999_999 }),
        (second, microsecond) => {
          const text = time(second * 1000 + microsecond / 1000);
          expect(text).toBe(
            `${new Date(second * 1000).toISOString().slice(0, 20)}${String(microsecond).padStart(6, '0')}Z`,
          );
        },
      ),
    );
  });

  it.each([Number.NaN, -1, Number.POSITIVE_INFINITY, 253_402_300_800_000])('%f is no time', (timeMs) => {
    expect(() => time(timeMs)).toThrow(expect.objectContaining({ code: 'ERR_TELEMETRY_TIME', field: 'timeMs' }));
  });
});

describe('hostile values', () => {
  const withWorkload = (workload: string): AccessLogRecord => ({
    ...complete,
    source: { ip: '10.1.0.5', port: 1, workload },
  });

  it.each([
    ['a"b', 'src.workload="a\\"b"'],
    ['a\\', 'src.workload="a\\\\"'],
    ['x" dst.workload="y', 'src.workload="x\\" dst.workload=\\"y"'],
    ['\n2026-01-01T00:00:00.000000Z\tinfo', 'src.workload="\\n2026-01-01T00:00:00.000000Z\\tinfo"'],
    ['\r\0', 'src.workload="\\r\\0"'],
    ['\u001b[31m\u007f\u009b', 'src.workload="\\u{1b}[31m\\u{7f}\\u{9b}"'],
    ['\u202egro\u2028', 'src.workload="\\u{202e}gro\\u{2028}"'],
    ['\ud800', 'src.workload="\\u{d800}"'],
    ['naïve ☃ 😀', 'src.workload="naïve ☃ 😀"'],
  ])('%j', (value, field) => {
    expect(formatAccessLog(withWorkload(value))).toContain(` ${field} `);
  });

  it('an authority that is no address is quoted', () => {
    const line = formatAccessLog({
      ...complete,
      destination: { ip: '10.1.1.7', port: 15008, hboneAddress: 'a b" x=y\n' },
    });
    expect(line).toContain(' dst.hbone_addr="a b\\" x=y\\n" ');
    expect(
      formatAccessLog({ ...complete, destination: { ...complete.destination, hboneAddress: '[fd00::1]:80' } }),
    ).toContain(' dst.hbone_addr=[fd00::1]:80 ');
  });

  it('long ones are cut', () => {
    expect(formatAccessLog(withWorkload('x'.repeat(5000)))).toContain(`src.workload="${'x'.repeat(2048)}…" `);
    expect(
      formatAccessLog(
        { ...complete, destination: { ip: '10.1.1.7', port: 1, hboneAddress: '1'.repeat(20) } },
        'plain',
        5,
      ),
    ).toContain('dst.hbone_addr="11111…"');
  });

  it('any string stays one line and one field in plain, and comes back whole from JSON', () => {
    const hostile = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom('"', '\\', '\n', '\t', ' ', '=', '\u009b', '\u202e', '\ud800', 'a') }),
    );
    fc.assert(
      fc.property(hostile, (value) => {
        fc.pre(value !== '');
        const plain = formatAccessLog({ ...complete, error: value });
        expect(plain.split('\t')).toHaveLength(5);
        expect(plain.replaceAll('\t', '')).not.toMatch(/\p{Cc}|\p{Cf}|\p{Zl}|\p{Zp}/u);
        expect(plain).toMatch(/ duration="12ms" error="(?:[^"\\]|\\.)+"$/u);
        const json = formatAccessLog({ ...complete, error: value }, 'json');
        expect(json).not.toMatch(/\p{Cc}|\p{Cf}|\p{Zl}|\p{Zp}/u);
        expect(JSON.parse(json).error).toBe(value);
      }),
      { numRuns: 1000 },
    );
  });
});
