import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvalidInputError } from '../../src/errors/index.ts';
import { type Environment, parseDurationMs, readConfig } from '../../src/ztunnel/config.ts';

const read = (environment: Environment) => readConfig(environment, 8);

describe('readConfig (facts section 8.6)', () => {
  it('has the defaults of ztunnel', () => {
    expect(read({})).toEqual({
      network: '',
      nodeName: '',
      clusterDomain: 'cluster.local',
      clusterId: 'Kubernetes',
      localXds: undefined,
      pool: { maxStreamsPerConnection: 100, unusedReleaseTimeoutMs: 300_000 },
      http2: { streamWindowBytes: 4_194_304, connectionWindowBytes: 16_777_216, frameBytes: 1_048_576 },
      keepalive: { enabled: true, timeMs: 180_000, intervalMs: 180_000, retries: 9 },
      drainDeadlineMs: 5000,
      secretTtlMs: 86_400_000,
      ipv6Enabled: true,
      originalSource: 'auto',
      packetMark: 1337,
      responseBaggage: true,
      workerThreads: 2,
      logFormat: 'plain',
      policyInfoLogging: false,
      fakeCa: false,
    });
  });

  it('reads every variable it knows, and passes over the rest', () => {
    expect(
      read({
        PATH: '/bin',
        NETWORK: 'west',
        NODE_NAME: 'node-a',
        CLUSTER_DOMAIN: 'example.org',
        CLUSTER_ID: 'c1',
        LOCAL_XDS_PATH: '/etc/mesh.yaml',
        POOL_MAX_STREAMS_PER_CONNECTION: '10',
        POOL_UNUSED_RELEASE_TIMEOUT: '1m30s',
        HTTP2_STREAM_WINDOW_SIZE: '65535',
        HTTP2_CONNECTION_WINDOW_SIZE: '0x100000',
        HTTP2_FRAME_SIZE: '16384',
        KEEPALIVE_ENABLED: 'false',
        KEEPALIVE_TIME: '10s',
        KEEPALIVE_INTERVAL: '5s',
        KEEPALIVE_RETRIES: '3',
        CONNECTION_TERMINATION_DEADLINE: '250ms',
        SECRET_TTL: '1h',
        IPV6_ENABLED: 'FALSE',
        ENABLE_ORIG_SRC: 'true',
        PACKET_MARK: '0x539',
        ENABLE_RESPONSE_BAGGAGE: '0',
        ZTUNNEL_WORKER_THREADS: '4',
        LOG_FORMAT: 'json',
        AUTHZ_POLICY_INFO_LOGGING: 'true',
        FAKE_CA: '1',
      }),
    ).toEqual({
      network: 'west',
      nodeName: 'node-a',
      clusterDomain: 'example.org',
      clusterId: 'c1',
      localXds: { path: '/etc/mesh.yaml' },
      pool: { maxStreamsPerConnection: 10, unusedReleaseTimeoutMs: 90_000 },
      http2: { streamWindowBytes: 65_535, connectionWindowBytes: 1_048_576, frameBytes: 16_384 },
      keepalive: { enabled: false, timeMs: 10_000, intervalMs: 5000, retries: 3 },
      drainDeadlineMs: 250,
      secretTtlMs: 3_600_000,
      ipv6Enabled: false,
      originalSource: true,
      packetMark: 1337,
      responseBaggage: false,
      workerThreads: 4,
      logFormat: 'json',
      policyInfoLogging: true,
      fakeCa: true,
    });
  });

  it('takes an empty variable for one that is not set', () => {
    expect(read({ NODE_NAME: '', SECRET_TTL: '', ENABLE_ORIG_SRC: '', LOCAL_XDS: '' })).toEqual(read({}));
  });

  it('ISTIO_META_CLUSTER_ID wins over CLUSTER_ID', () => {
    expect(read({ ISTIO_META_CLUSTER_ID: 'a', CLUSTER_ID: 'b' }).clusterId).toBe('a');
  });

  it('takes a mesh inline, but not twice', () => {
    expect(read({ LOCAL_XDS: 'workloads: []' }).localXds).toEqual({ inline: 'workloads: []' });
    expect(() => read({ LOCAL_XDS: '{}', LOCAL_XDS_PATH: '/x' })).toThrow(
      expect.objectContaining({ field: 'LOCAL_XDS' }),
    );
  });

  it.each([
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '30' }, 25_000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '11' }, 6000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '10' }, 9000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '1' }, 1000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '0' }, 1000],
    [{ TERMINATION_GRACE_PERIOD_SECONDS: '30', CONNECTION_TERMINATION_DEADLINE: '7s' }, 7000],
    [{ CONNECTION_TERMINATION_DEADLINE: '0s' }, 0],
  ])('drain deadline of %j is %d ms (facts section 1.11)', (environment, expected) => {
    expect(read(environment).drainDeadlineMs).toBe(expected);
  });

  it.each([
    ['3', 8, 3],
    ['50%', 8, 4],
    ['30%', 8, 3],
    ['1%', 8, 1],
    ['', 8, 2],
    ['', 16, 4],
    ['', 1, 2],
  ])('ZTUNNEL_WORKER_THREADS=%j on %d processors is %d', (text, processors, expected) => {
    expect(readConfig({ ZTUNNEL_WORKER_THREADS: text }, processors).workerThreads).toBe(expected);
  });

  it.each([
    ['POOL_MAX_STREAMS_PER_CONNECTION', '0'],
    ['POOL_MAX_STREAMS_PER_CONNECTION', '1e3'],
    ['POOL_UNUSED_RELEASE_TIMEOUT', '300'],
    ['POOL_UNUSED_RELEASE_TIMEOUT', '-1s'],
    ['HTTP2_STREAM_WINDOW_SIZE', '2147483648'],
    ['HTTP2_CONNECTION_WINDOW_SIZE', '65534'],
    ['HTTP2_FRAME_SIZE', '16383'],
    ['HTTP2_FRAME_SIZE', '16777216'],
    ['KEEPALIVE_ENABLED', 'yes'],
    ['KEEPALIVE_RETRIES', '128'],
    ['CONNECTION_TERMINATION_DEADLINE', '5 s'],
    ['TERMINATION_GRACE_PERIOD_SECONDS', '30s'],
    ['SECRET_TTL', '0s'],
    ['SECRET_TTL', '1y'],
    ['IPV6_ENABLED', 'on'],
    ['ENABLE_ORIG_SRC', 'auto'],
    ['PACKET_MARK', '0x1ffffffff'],
    ['PACKET_MARK', 'abc'],
    ['ZTUNNEL_WORKER_THREADS', '0'],
    ['ZTUNNEL_WORKER_THREADS', '-1'],
    ['ZTUNNEL_WORKER_THREADS', '50 %'],
    ['LOG_FORMAT', 'JSON'],
  ])('%s=%s is an error that names it', (name, value) => {
    expect(() => read({ [name]: value })).toThrow(InvalidInputError);
    expect(() => read({ [name]: value })).toThrow(
      expect.objectContaining({
        code: 'ERR_ZTUNNEL_CONFIG',
        field: name,
        message: expect.stringContaining(JSON.stringify(value)),
      }),
    );
  });
});

describe('parseDurationMs', () => {
  it.each([
    ['10s', 10_000],
    ['5m', 300_000],
    ['24h', 86_400_000],
    ['1d', 86_400_000],
    ['250ms', 250],
    ['1h30m', 5_400_000],
    ['1m500ms', 60_500],
    ['0', 0],
    ['0s', 0],
  ])('%s', (text, expected) => {
    expect(parseDurationMs(text)).toBe(expected);
  });

  it.each(['', '10', 's', '1.5s', '-1s', '10 s', '10S', '1s ', '25d', '99999999999s', '1e3s', '١s'])(
    'refuses %j',
    (text) => {
      expect(parseDurationMs(text)).toBeUndefined();
    },
  );

  it('property: hours, minutes and seconds add up', () => {
    fc.assert(
      fc.property(fc.nat({ max: 500 }), fc.nat({ max: 59 }), fc.nat({ max: 59 }), (h, m, s) => {
        expect(parseDurationMs(`${h}h${m}m${s}s`)).toBe(((h * 60 + m) * 60 + s) * 1000);
      }),
    );
  });

  it('property: hostile text is a number of milliseconds or undefined', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('1', '9', 's', 'm', 'h', ' ', '-', '.') }), (text) => {
        const value = parseDurationMs(text);
        expect(value === undefined || (value >= 0 && value <= 0x7fff_ffff)).toBe(true);
      }),
    );
  });
});
