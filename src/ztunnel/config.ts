import { InvalidInputError } from '../errors/index.ts';

/** The configuration of a ztunnel, read from the environment its DaemonSet gives it (facts section 8.6). */
export interface ZtunnelConfig {
  /** NETWORK, default "". */
  readonly network: string;
  /** NODE_NAME, default "". */
  readonly nodeName: string;
  /** CLUSTER_DOMAIN, default `cluster.local`. */
  readonly clusterDomain: string;
  /** ISTIO_META_CLUSTER_ID, else CLUSTER_ID, default `Kubernetes`. */
  readonly clusterId: string;
  /** LOCAL_XDS_PATH or LOCAL_XDS: where workloads, services and policies are read from. Both at once is an error. */
  readonly localXds: { readonly path: string } | { readonly inline: string } | undefined;
  readonly pool: {
    /** POOL_MAX_STREAMS_PER_CONNECTION, default 100, 1–65,535. */
    readonly maxStreamsPerConnection: number;
    /** POOL_UNUSED_RELEASE_TIMEOUT, default 5m. */
    readonly unusedReleaseTimeoutMs: number;
  };
  readonly http2: {
    /** HTTP2_STREAM_WINDOW_SIZE, default 4 MiB, 1 to 2^31-1. */
    readonly streamWindowBytes: number;
    /** HTTP2_CONNECTION_WINDOW_SIZE, default 16 MiB, 65,535 to 2^31-1. */
    readonly connectionWindowBytes: number;
    /** HTTP2_FRAME_SIZE, default 1 MiB, 16,384 to 16,777,215 (RFC 9113 section 6.5.2). */
    readonly frameBytes: number;
  };
  readonly keepalive: {
    /** KEEPALIVE_ENABLED, default true. */
    readonly enabled: boolean;
    /** KEEPALIVE_TIME, default 180s. */
    readonly timeMs: number;
    /** KEEPALIVE_INTERVAL, default 180s. */
    readonly intervalMs: number;
    /** KEEPALIVE_RETRIES, default 9. */
    readonly retries: number;
  };
  /**
   * How long connections may go on after a shutdown began: CONNECTION_TERMINATION_DEADLINE, else made of
   * TERMINATION_GRACE_PERIOD_SECONDS, else 5 s (facts section 1.11).
   */
  readonly drainDeadlineMs: number;
  /** SECRET_TTL, default 24h: the lifetime asked for a certificate. */
  readonly secretTtlMs: number;
  /** IPV6_ENABLED, default true. */
  readonly ipv6Enabled: boolean;
  /** ENABLE_ORIG_SRC: keep the source address on inbound dials. `auto` (unset): where the kernel lets us. */
  readonly originalSource: boolean | 'auto';
  /** PACKET_MARK, default 1337: SO_MARK of every socket of ours. Decimal or 0x-hexadecimal, 32 bits. */
  readonly packetMark: number;
  /** ENABLE_RESPONSE_BAGGAGE, default true. */
  readonly responseBaggage: boolean;
  /** ZTUNNEL_WORKER_THREADS, a number or a share of the processors as `n%`. Default max(2, a quarter of the processors). */
  readonly workerThreads: number;
  /** LOG_FORMAT, default `plain`. */
  readonly logFormat: 'plain' | 'json';
  /** AUTHZ_POLICY_INFO_LOGGING, default false. */
  readonly policyInfoLogging: boolean;
  /** FAKE_CA, default false: certificates come from an embedded authority. */
  readonly fakeCa: boolean;
}

/** Environment variables, as `process.env`. An empty text counts as unset, but for NETWORK. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads the configuration. Variables of others are passed over; one of ours that is malformed is an error, never a default.
 *
 * @param processors - how many processors the machine has, for ZTUNNEL_WORKER_THREADS
 * @throws `InvalidInputError` ERR_ZTUNNEL_CONFIG; `field` is the variable
 */
export function readConfig(environment: Environment, processors: number): ZtunnelConfig {
  const env = new EnvironmentReader(environment);
  return {
    network: env.text('NETWORK', ''),
    nodeName: env.text('NODE_NAME', ''),
    clusterDomain: env.text('CLUSTER_DOMAIN', 'cluster.local'),
    clusterId: env.text('ISTIO_META_CLUSTER_ID', env.text('CLUSTER_ID', 'Kubernetes')),
    localXds: readLocalXds(env),
    pool: {
      maxStreamsPerConnection: env.integer('POOL_MAX_STREAMS_PER_CONNECTION', 100, 1, 65_535),
      unusedReleaseTimeoutMs: env.durationMs('POOL_UNUSED_RELEASE_TIMEOUT', 300_000),
    },
    http2: {
      streamWindowBytes: env.integer('HTTP2_STREAM_WINDOW_SIZE', 4 << 20, 1, 0x7fff_ffff),
      connectionWindowBytes: env.integer('HTTP2_CONNECTION_WINDOW_SIZE', 16 << 20, 65_535, 0x7fff_ffff),
      frameBytes: env.integer('HTTP2_FRAME_SIZE', 1 << 20, 16_384, 0xff_ffff),
    },
    keepalive: {
      enabled: env.boolean('KEEPALIVE_ENABLED', true),
      timeMs: env.durationMs('KEEPALIVE_TIME', 180_000),
      intervalMs: env.durationMs('KEEPALIVE_INTERVAL', 180_000),
      retries: env.integer('KEEPALIVE_RETRIES', 9, 1, 127),
    },
    drainDeadlineMs: readDrainDeadline(env),
    secretTtlMs: env.durationMs('SECRET_TTL', 86_400_000, 1),
    ipv6Enabled: env.boolean('IPV6_ENABLED', true),
    originalSource: env.has('ENABLE_ORIG_SRC') ? env.boolean('ENABLE_ORIG_SRC', true) : 'auto',
    packetMark: env.integer('PACKET_MARK', 1337, 0, 0xffff_ffff),
    responseBaggage: env.boolean('ENABLE_RESPONSE_BAGGAGE', true),
    workerThreads: readWorkerThreads(env, processors),
    logFormat: env.oneOf('LOG_FORMAT', ['plain', 'json']),
    policyInfoLogging: env.boolean('AUTHZ_POLICY_INFO_LOGGING', false),
    fakeCa: env.boolean('FAKE_CA', false),
  };
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * A duration as `10s`, `5m`, `1h30m`, `250ms`, in milliseconds; units from large to small are not required, a unit is.
 * Undefined for anything else, and above 2^31-1 ms, the longest a timer can wait.
 */
export function parseDurationMs(text: string): number | undefined {
  if (!/^(?:\d{1,10}(?:ms|[smhd]))+$/.test(text)) return text === '0' ? 0 : undefined;
  let total = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|[smhd])/g)) total += Number(count) * unitMs[unit!]!;
  return total <= 0x7fff_ffff ? total : undefined;
}

function readLocalXds(env: EnvironmentReader): ZtunnelConfig['localXds'] {
  const path = env.text('LOCAL_XDS_PATH', '');
  const inline = env.text('LOCAL_XDS', '');
  if (path !== '' && inline !== '') env.fail('LOCAL_XDS', 'set together with LOCAL_XDS_PATH: only one can be');
  if (path !== '') return { path };
  return inline === '' ? undefined : { inline };
}

/** Facts section 1.11: the orchestrator's grace period less some room to end in. */
function readDrainDeadline(env: EnvironmentReader): number {
  if (env.has('CONNECTION_TERMINATION_DEADLINE')) return env.durationMs('CONNECTION_TERMINATION_DEADLINE', 0);
  if (!env.has('TERMINATION_GRACE_PERIOD_SECONDS')) return 5000;
  const grace = env.integer('TERMINATION_GRACE_PERIOD_SECONDS', 0, 0, 2_000_000);
  return Math.max(1, grace - (grace <= 10 ? 1 : 5)) * 1000;
}

function readWorkerThreads(env: EnvironmentReader, processors: number): number {
  const name = 'ZTUNNEL_WORKER_THREADS';
  if (!env.has(name)) return Math.max(2, Math.ceil(processors * 0.25));
  const match = /^(\d{1,4})(%?)$/.exec(env.text(name, ''));
  const count = Number(match?.[1] ?? 0);
  if (match === null || count === 0) env.fail(name, 'expected a number of threads above 0, or a percentage as 50%');
  return match![2] === '%' ? Math.max(1, Math.ceil((processors * count) / 100)) : count;
}

class EnvironmentReader {
  readonly #values: Environment;

  constructor(values: Environment) {
    this.#values = values;
  }

  has(name: string): boolean {
    return (this.#values[name] ?? '') !== '';
  }

  text(name: string, fallback: string): string {
    return this.has(name) ? this.#values[name]! : fallback;
  }

  boolean(name: string, fallback: boolean): boolean {
    switch (this.text(name, String(fallback)).toLowerCase()) {
      case 'true':
      case '1':
        return true;
      case 'false':
      case '0':
        return false;
      default:
        return this.fail(name, 'expected true or false');
    }
  }

  integer(name: string, fallback: number, min: number, max: number): number {
    const text = this.text(name, String(fallback));
    const value = /^(?:\d{1,10}|0[xX][0-9a-fA-F]{1,8})$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) this.fail(name, `expected an integer from ${min} to ${max}`);
    return value;
  }

  durationMs(name: string, fallbackMs: number, minMs = 0): number {
    if (!this.has(name)) return fallbackMs;
    const value = parseDurationMs(this.text(name, ''));
    if (value === undefined || value < minMs)
      return this.fail(name, 'expected a duration as 10s, 5m or 1h30m, up to 24d');
    return value;
  }

  oneOf<T extends string>(name: string, values: readonly [T, ...T[]]): T {
    const text = this.text(name, values[0]);
    return values.find((value) => value === text) ?? this.fail(name, `expected one of ${values.join(', ')}`);
  }

  fail(name: string, expected: string): never {
    const got = JSON.stringify((this.#values[name] ?? '').slice(0, 64));
    throw new InvalidInputError({
      code: 'ERR_ZTUNNEL_CONFIG',
      op: 'ztunnel.config',
      field: name,
      message: `${expected}, got ${got}`,
    });
  }
}
