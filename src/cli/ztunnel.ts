import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { AmbientError, InvalidInputError, messageOf } from '../errors/index.ts';
import { CertificateAuthority } from '../identity/index.ts';
import { readConfig, startZtunnel, type Ztunnel, type ZtunnelOptions } from '../ztunnel/index.ts';
import { yieldInBackground } from './background-threads.ts';

const USAGE = `ambient ztunnel: the node proxy, configured by ztunnel's environment variables

  PROXY_MODE               node: for all pods of a node, behind nodeMode() redirection (default);
                           shared: for the pods of AMBIENT_PODS_PATH, from inside their namespaces, behind podMode() redirection;
                           dedicated: for the one pod in whose namespace it lives, behind podMode() redirection
  AMBIENT_NETNS            namespace under /run/netns, or a path, where it lives: that redirection delivers to in node mode,
                           the pod's in dedicated mode; shared mode's default is the one it is started in
  AMBIENT_PODS_PATH        shared mode: YAML of pods, followed while it runs:
                           pods: [{uid, name, namespace, serviceAccount, netns: name under /run/netns or path}]
  PROXY_WORKLOAD_INFO      dedicated mode: its pod as namespace/name/service-account; by default
                           the workload of the node that has an address of the namespace
  PACKET_MARK              SO_MARK of every socket; 1337 by default in shared mode, else none
  IPV6_ENABLED             false listens for IPv4 alone; true by default, and without effect in node mode
  ENABLE_ORIG_SRC          false: applications see the proxy's address, not the client's; true by default
  NODE_NAME                this node, as the workloads name it
  LOCAL_XDS_PATH           YAML of workloads, services and policies; followed while it runs
  AMBIENT_CA_DIR           folder with chain.pem, key.pem and roots.pem of this node's intermediate CA
  TRUST_DOMAIN             default cluster.local
  AMBIENT_DECISION_LOG     file for one JSON object per connection; none by default
  AMBIENT_EARLY_DATA       false: no bytes of an application go out before the CONNECT for it is answered; true by default
  AMBIENT_BUSY_POLL_US     microseconds, 0 to 1000, for which a waiting thread looks for the next message before it sleeps, where they
                           follow each other fast; default 100 where there are more processors than data-plane threads, else 0
  ZTUNNEL_WORKER_THREADS   data-plane threads; default 1 here
  NETWORK, CLUSTER_ID, LOG_FORMAT, SECRET_TTL, POOL_*, HTTP2_*, CONNECTION_TERMINATION_DEADLINE as for the real ztunnel

SIGTERM and SIGINT drain, a second one cuts. Exit: 0 after a drain, 1 when it fails, 2 for a bad option or variable.
`;

/** What `startZtunnel` takes. */
const MOST_THREADS = 64;
/** The namespace that this process was started in. */
const OWN_NAMESPACE = '/proc/self/ns/net';

/** `ambient ztunnel`. @returns the exit code */
export async function ztunnelCommand(args: string[]): Promise<number> {
  let options: ZtunnelOptions;
  try {
    const { values } = parseArgs({ args, options: { help: { type: 'boolean', short: 'h' } }, strict: true });
    if (values.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    options = readOptions(process.env);
  } catch (error) {
    const hint = AmbientError.is(error) ? '' : '; see ambient ztunnel --help';
    process.stderr.write(`ambient ztunnel: ${messageOf(error)}${hint}\n`);
    return 2;
  }
  try {
    yieldInBackground();
    await using ztunnel = await startZtunnel(options);
    log('info', 'ready');
    await untilToldToStop(ztunnel);
    return 0;
  } catch (error) {
    log('error', messageOf(error));
    return 1;
  }
}

async function untilToldToStop(ztunnel: Ztunnel): Promise<void> {
  const stop = Promise.withResolvers<NodeJS.Signals>();
  const cut = new AbortController();
  let asked = false;
  const onSignal = (signal: NodeJS.Signals) => {
    if (asked) cut.abort();
    asked = true;
    stop.resolve(signal);
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  try {
    const signal = await Promise.race([stop.promise, ztunnel.closed.then(() => undefined)]);
    if (signal === undefined) return;
    log('info', `${signal}: draining`);
    await ztunnel.drain({ signal: cut.signal });
    log('info', 'drained');
  } finally {
    process.off('SIGTERM', onSignal).off('SIGINT', onSignal);
  }
}

function readOptions(env: NodeJS.ProcessEnv): ZtunnelOptions {
  const mode = readMode(env);
  const config = readConfig(env, availableParallelism());
  if (config.workerThreads > MOST_THREADS) {
    throw badVariable('ZTUNNEL_WORKER_THREADS', `${config.workerThreads} threads are more than ${MOST_THREADS}`);
  }
  const trustDomain = env.TRUST_DOMAIN || 'cluster.local';
  if (config.nodeName === '') throw badVariable('NODE_NAME', 'is not set');
  if (config.localXds === undefined || !('path' in config.localXds)) throw badVariable('LOCAL_XDS_PATH', 'is not set');
  return {
    mode,
    namespace: mode === 'shared' ? env.AMBIENT_NETNS || OWN_NAMESPACE : required(env, 'AMBIENT_NETNS'),
    podsFile: mode === 'shared' ? { path: required(env, 'AMBIENT_PODS_PATH') } : undefined,
    workload: mode === 'dedicated' ? readWorkload(env) : undefined,
    ipv6: mode === 'node' ? undefined : config.ipv6Enabled,
    nodeName: config.nodeName,
    trustDomain,
    discovery: { path: config.localXds.path },
    authority: readAuthority(required(env, 'AMBIENT_CA_DIR'), trustDomain),
    packetMark: env.PACKET_MARK ? config.packetMark : undefined,
    originalSource: config.originalSource !== false,
    network: config.network,
    clusterId: config.clusterId,
    threads: env.ZTUNNEL_WORKER_THREADS ? config.workerThreads : 1,
    certificateTtlMs: config.secretTtlMs,
    accessLogFormat: config.logFormat,
    decisionLogPath: env.AMBIENT_DECISION_LOG || undefined,
    maxStreamsPerTunnel: config.pool.maxStreamsPerConnection,
    tunnelIdleMs: config.pool.unusedReleaseTimeoutMs,
    http2: {
      initialWindowBytes: config.http2.streamWindowBytes,
      connectionWindowBytes: config.http2.connectionWindowBytes,
      maxFrameBytes: config.http2.frameBytes,
    },
    responseBaggage: config.responseBaggage,
    earlyData: readEarlyData(env),
    busyPollMs: readBusyPoll(env),
    drainDeadlineMs: config.drainDeadlineMs,
    onWarning: (message) => log('warn', message),
  };
}

function readMode(env: NodeJS.ProcessEnv): NonNullable<ZtunnelOptions['mode']> {
  const mode = env.PROXY_MODE || 'node';
  if (mode === 'node' || mode === 'shared' || mode === 'dedicated') return mode;
  throw badVariable('PROXY_MODE', `${JSON.stringify(mode)} is none of node, shared, dedicated`);
}

function readEarlyData(env: NodeJS.ProcessEnv): boolean {
  const value = env.AMBIENT_EARLY_DATA || 'true';
  if (value === 'true' || value === 'false') return value === 'true';
  throw badVariable('AMBIENT_EARLY_DATA', `${JSON.stringify(value)} is neither true nor false`);
}

function readBusyPoll(env: NodeJS.ProcessEnv): number | undefined {
  const text = env.AMBIENT_BUSY_POLL_US;
  if (!text) return undefined;
  if (/^\d{1,4}$/.test(text) && Number(text) <= 1000) return Number(text) / 1000;
  throw badVariable('AMBIENT_BUSY_POLL_US', `expected microseconds from 0 to 1000, got ${JSON.stringify(text)}`);
}

/** Facts section 8.6: `ns/name/sa`. */
function readWorkload(env: NodeJS.ProcessEnv): ZtunnelOptions['workload'] {
  const text = env.PROXY_WORKLOAD_INFO;
  if (!text) return undefined;
  const [namespace, name, serviceAccount, ...more] = text.split('/');
  if (namespace && name && serviceAccount && more.length === 0) return { namespace, name, serviceAccount };
  throw badVariable('PROXY_WORKLOAD_INFO', `expected namespace/name/service-account, got ${JSON.stringify(text)}`);
}

/** Tried here, so that what is wrong with it is told as the variable's fault and not as a failed start. */
function readAuthority(folder: string, trustDomain: string): ZtunnelOptions['authority'] {
  const read = (name: string) => {
    try {
      return readFileSync(join(folder, name), 'utf8');
    } catch (cause) {
      throw badVariable('AMBIENT_CA_DIR', `cannot read ${name} there`, cause);
    }
  };
  const material = { chainPem: read('chain.pem'), keyPem: read('key.pem'), rootsPem: read('roots.pem') };
  try {
    CertificateAuthority.load({ trustDomain, ...material });
  } catch (cause) {
    if (!AmbientError.is(cause)) throw cause;
    throw badVariable(cause.field === 'trustDomain' ? 'TRUST_DOMAIN' : 'AMBIENT_CA_DIR', cause.message, cause);
  }
  return material;
}

function required(env: NodeJS.ProcessEnv, name: string): string {
  const value = env[name];
  if (!value) throw badVariable(name, 'is not set');
  return value;
}

function badVariable(field: string, message: string, cause?: unknown): InvalidInputError {
  return new InvalidInputError({ code: 'ERR_ZTUNNEL_CONFIG', op: 'ztunnel.config', field, message, cause });
}

/** One line beside the access log, in its form (facts section 8.3). */
function log(level: 'info' | 'warn' | 'error', message: string): void {
  process.stdout.write(`${new Date().toISOString().replace('Z', '000Z')}\t${level}\tztunnel\t${message}\n`);
}
