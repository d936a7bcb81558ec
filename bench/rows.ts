import { iperf } from './loads/iperf.ts';
import type { LoadContext, LoadResult } from './loads/load.ts';
import { newSessions } from './loads/open-connections.ts';
import { wrk } from './loads/wrk.ts';
import { OUTSIDE_IP, podIp } from './topology.ts';

/** One number of a row, and what of it is wanted. */
export interface Figure {
  readonly name: string;
  readonly better: 'more' | 'less';
  /** What ours is to be, as a multiple of the real ztunnel's median. */
  readonly target?: number;
}

/** What is different from round to round. */
export interface RoundContext extends LoadContext {
  /** From 0. */
  readonly round: number;
  /** How many new sessions the `sessions` row makes. */
  readonly sessions: number;
}

/** One measurement: a load, what is read from it, and what CPU time is divided by. */
export interface Row {
  readonly id: string;
  readonly what: string;
  readonly figures: readonly Figure[];
  /** CPU seconds of all proxies for this much work. */
  readonly cpu: Figure;
  run(context: RoundContext): Promise<LoadResult>;
}

interface Targets {
  readonly throughput?: number;
  readonly perGigabyte?: number;
  readonly p50?: number;
  readonly p99?: number;
  readonly rr1Cpu?: number;
  readonly rr64?: number;
  readonly rr64Cpu?: number;
  readonly close16?: number;
  readonly close16Cpu?: number;
}

const PER_GIGABYTE = 'cpu s/GB';
const PER_REQUESTS = 'cpu s/1k req';
const PER_CONNECTIONS = 'cpu s/1k conn';

function figure(name: string, better: Figure['better'], target: number | undefined): Figure {
  return target === undefined ? { name, better } : { name, better, target };
}

/** The six rows to one target. */
function rowsTo(prefix: string, where: string, target: string, targets: Targets, downTargets = targets): Row[] {
  const throughput = (id: string, what: string, options: Parameters<typeof iperf>[2], wanted: Targets): Row => ({
    id: prefix + id,
    what: `${what} ${where}`,
    figures: [figure('Gb/s', 'more', wanted.throughput)],
    cpu: figure(PER_GIGABYTE, 'less', wanted.perGigabyte),
    run: (context) => iperf(context, target, options),
  });
  return [
    throughput('up1', 'one stream', { streams: 1 }, targets),
    throughput('up8', 'eight streams', { streams: 8 }, downTargets),
    throughput('down1', 'one stream back from', { streams: 1, reverse: true }, downTargets),
    {
      id: `${prefix}rr1`,
      what: `requests for 1 KiB on one connection ${where}`,
      figures: [figure('p50 µs', 'less', targets.p50), figure('p99 µs', 'less', targets.p99)],
      cpu: figure(PER_REQUESTS, 'less', targets.rr1Cpu),
      run: (context) => wrk(context, target, { connections: 1 }),
    },
    {
      id: `${prefix}rr64`,
      what: `requests for 1 KiB on 64 connections ${where}`,
      figures: [figure('req/s', 'more', targets.rr64)],
      cpu: figure(PER_REQUESTS, 'less', targets.rr64Cpu),
      run: (context) => wrk(context, target, { connections: 64 }),
    },
    {
      id: `${prefix}close16`,
      what: `a new connection for each request, 16 at a time, ${where}`,
      figures: [figure('conn/s', 'more', targets.close16)],
      cpu: figure(PER_CONNECTIONS, 'less', targets.close16Cpu),
      run: (context) => wrk(context, target, { connections: 16, close: true }),
    },
  ];
}

const sameNode: Targets = { throughput: 1.2, perGigabyte: 0.9 };

/** Every row that takes turns between the peers, in the order they are measured. */
export const ROWS: readonly Row[] = [
  ...rowsTo('', 'to a pod on the other node', podIp('p3'), {
    throughput: 1.15,
    perGigabyte: 0.9,
    p50: 0.9,
    p99: 1,
    rr1Cpu: 0.85,
    rr64: 1.3,
    rr64Cpu: 0.75,
    close16: 1.25,
    close16Cpu: 0.7,
  }),
  ...rowsTo(
    'pass-',
    'to an address outside the mesh',
    OUTSIDE_IP,
    { throughput: 1, perGigabyte: 0.75, rr64: 1, rr64Cpu: 0.95, close16: 1, close16Cpu: 0.95 },
    {},
  ),
  ...rowsTo('same-', 'to a pod on the same node', podIp('p2'), sameNode).filter(({ id }) => id === 'same-up1'),
  {
    id: 'sessions',
    what: 'new mTLS sessions, each carrying one request',
    figures: [figure('sessions/s', 'more', undefined)],
    cpu: figure('cpu s/1k sessions', 'less', undefined),
    run: (context) => newSessions(context, { count: context.sessions, first: context.round * context.sessions }),
  },
];

/** Resident memory, measured once a run. */
export const MEMORY_ROW = 'memory';
/** Of one proxy: the larger of the two ends. Targets of the first and the last are absolute: 60 MB, 3.5 KB. */
export const MEMORY_FIGURES = {
  idle: 'idle MB',
  after: 'after rows MB',
  perConnection: 'KB a connection',
} as const;
