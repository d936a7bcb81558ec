import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { UsageError } from '../src/cli/usage-error.ts';
import { PEER_NAMES, type PeerName } from './peers.ts';
import { MEMORY_ROW, ROWS } from './rows.ts';
import { RULES_ROW } from './rules.ts';

export const USAGE = `npm run bench -- [options]

Measures ours beside no proxy, the real ztunnel where ZTUNNEL_BIN names one (built with feature "testing"), and Envoy where ENVOY_BIN
does; in namespaces of its own, as root. Needs iperf3, wrk and nginx.

  --rounds N      each row this often, peers taking turns; default 5, at most 50
  --seconds N     each load this long; default 3, at most 60
  --rows A,B      only these: ${ROWS.map(({ id }) => id).join(', ')}, ${MEMORY_ROW}, ${RULES_ROW};
                  ${RULES_ROW} alone is about redirection, and needs neither peers nor the three programs
  --peers A,B     only these: ${PEER_NAMES.join(', ')}
  --short         one round of one second of a few rows, less than a minute: does it still run?
  --json          the result as one JSON document on standard output
  --svg FILE      the result as a chart
  --threads N     data-plane threads of ours; default: what ambient ztunnel has
  --congestion C  TCP congestion control of every host, cubic or bbr; default: what this machine has
  --cpu-prof DIR  V8 profiles of ours, one file a thread
  --help
`;

export interface BenchOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly rows: readonly string[];
  readonly peers: readonly PeerName[];
  /** New mTLS sessions a round. */
  readonly sessions: number;
  readonly openConnections: number;
  readonly isWarmedUp: boolean;
  readonly isShort: boolean;
  readonly json: boolean;
  readonly svgPath: string | undefined;
  readonly threads: number | undefined;
  readonly congestionControl: string | undefined;
  readonly cpuProfDirectory: string | undefined;
  readonly ztunnelBin: string | undefined;
  readonly envoyBin: string | undefined;
}

const ALL_ROWS = [...ROWS.map(({ id }) => id), MEMORY_ROW, RULES_ROW];
const SHORT_ROWS = ['up1', 'rr64', 'close16', 'pass-rr64', 'same-up1', 'sessions', MEMORY_ROW, RULES_ROW];

/** @returns undefined where help is asked for. @throws {UsageError}; what `parseArgs` throws */
export function readOptions(args: string[], environment: NodeJS.ProcessEnv): BenchOptions | undefined {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      rows: { type: 'string' },
      peers: { type: 'string' },
      short: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      svg: { type: 'string' },
      threads: { type: 'string' },
      congestion: { type: 'string' },
      'cpu-prof': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  const { short } = values;
  const binaries = { ztunnel: environment.ZTUNNEL_BIN || undefined, envoy: environment.ENVOY_BIN || undefined };
  const variable = (name: PeerName) => (name === 'ztunnel' ? 'ZTUNNEL_BIN' : 'ENVOY_BIN');
  const isMissing = (name: PeerName) => name in binaries && binaries[name as keyof typeof binaries] === undefined;
  const peers = chosen('--peers', values.peers, PEER_NAMES) ?? PEER_NAMES.filter((name) => !isMissing(name));
  const absent = peers.find(isMissing);
  if (absent !== undefined) {
    throw new UsageError(`${absent} is measured where ${variable(absent)} names its binary, and it names none`);
  }
  const profiles = values['cpu-prof'];
  return {
    rounds: number('--rounds', values.rounds, 50) ?? (short ? 1 : 5),
    seconds: number('--seconds', values.seconds, 60) ?? (short ? 1 : 3),
    rows: chosen('--rows', values.rows, ALL_ROWS) ?? (short ? SHORT_ROWS : ALL_ROWS),
    peers,
    sessions: short ? 100 : 500,
    openConnections: short ? 200 : 5000,
    isWarmedUp: !short,
    isShort: short,
    json: values.json,
    svgPath: values.svg === undefined ? undefined : resolve(values.svg),
    threads: number('--threads', values.threads, 64),
    congestionControl: congestionControl(values.congestion),
    cpuProfDirectory: profiles === undefined ? undefined : resolve(profiles),
    ztunnelBin: binaries.ztunnel && resolve(binaries.ztunnel),
    envoyBin: binaries.envoy && resolve(binaries.envoy),
  };
}

function congestionControl(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  const available = readFileSync('/proc/sys/net/ipv4/tcp_available_congestion_control', 'latin1').trim().split(' ');
  if (available.includes(name)) return name;
  throw new UsageError(`--congestion: this kernel has no ${JSON.stringify(name)}, only ${available.join(', ')}`);
}

/** In the order of `known`. */
function chosen<T extends string>(option: string, text: string | undefined, known: readonly T[]): T[] | undefined {
  if (text === undefined) return undefined;
  const wanted = text.split(',');
  const stranger = wanted.find((name) => !known.includes(name as T));
  if (stranger !== undefined)
    throw new UsageError(`${option}: there is no ${JSON.stringify(stranger)}, only ${known.join(', ')}`);
  return known.filter((name) => wanted.includes(name));
}

function number(option: string, text: string | undefined, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > max) throw new UsageError(`${option}: expected a whole number from 1 to ${max}`);
  return value;
}
