import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { iperf } from './loads/iperf.ts';
import { holdConnections } from './loads/open-connections.ts';
import { wrk } from './loads/wrk.ts';
import type { PeerName } from './peers.ts';
import { MEMORY_FIGURES, MEMORY_ROW, type Row } from './rows.ts';
import type { Site } from './site.ts';
import { podIp } from './topology.ts';

/** How long a proxy is left alone before its memory is called idle, or settled; and where only the bench itself is tried. */
const SETTLE_MS = 4_000;
const SHORT_SETTLE_MS = 300;
const WARM_UP_SECONDS = 2;

/** Every value that was measured: by row, figure and peer, one a round. */
export class Samples {
  readonly values = new Map<string, Map<string, Map<PeerName, number[]>>>();
  /** Requests and connections that failed, by row and peer. */
  readonly errors: { row: string; peer: PeerName; count: number }[] = [];

  add(row: string, figure: string, peer: PeerName, value: number): void {
    const figures = entry(this.values, row, () => new Map<string, Map<PeerName, number[]>>());
    const peers = entry(figures, figure, () => new Map<PeerName, number[]>());
    entry(peers, peer, () => [] as number[]).push(value);
  }
}

export interface MeasureOptions {
  /** What the proxies are started with. */
  readonly meshPath: string;
  /** The same with an address of p3 for each new session of every round. */
  readonly sessionsMeshPath: string;
  readonly rows: readonly Row[];
  readonly withMemory: boolean;
  readonly rounds: number;
  readonly seconds: number;
  readonly sessions: number;
  readonly openConnections: number;
  readonly isWarmedUp: boolean;
  readonly onProgress: (step: string) => void;
}

/**
 * Takes every row in every round, each peer right after the other, so that a machine that gets slower or busier does it to all of them;
 * who begins changes from round to round. Memory comes last, with proxies started anew.
 */
export async function measure(sites: readonly Site[], options: MeasureOptions): Promise<Samples> {
  const samples = new Samples();
  const { rows, rounds, onProgress } = options;
  for (const site of sites) await begin(site, samples, options);
  // Sessions leave a tunnel each behind, which must not weigh on other rows, and need a registry that knows many addresses.
  const lasting = rows.filter(({ id }) => id === 'sessions');
  const others = rows.filter((row) => !lasting.includes(row));
  for (let round = 0; round < rounds; round++) {
    for (const row of others) await takeTurns(sites, row, round, samples, options);
  }
  if (options.withMemory && others.length > 0) {
    await sleep(settleMs(options), undefined, { signal: sites[0]!.context(0).signal });
    for (const site of sites) noteMemory(site, samples, MEMORY_FIGURES.after);
  }
  if (lasting.length > 0) {
    for (const site of sites) {
      await site.startProxies(options.sessionsMeshPath);
      await site.prove();
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (const row of lasting) await takeTurns(sites, row, round, samples, options);
  }
  if (!options.withMemory) return samples;
  for (const site of sites) {
    if (!site.hasProxies) continue;
    onProgress(`${options.openConnections} open connections: ${site.peer}`);
    await weighConnections(site, samples, options);
  }
  return samples;
}

async function begin(site: Site, samples: Samples, options: MeasureOptions): Promise<void> {
  options.onProgress(`starting ${site.peer}`);
  await site.startProxies(options.meshPath);
  if (options.withMemory) {
    await sleep(settleMs(options), undefined, { signal: site.context(0).signal });
    noteMemory(site, samples, MEMORY_FIGURES.idle);
  }
  await site.prove();
  if (!options.isWarmedUp) return;
  const context = site.context(WARM_UP_SECONDS);
  await wrk(context, podIp('p3'), { connections: 64 });
  await wrk(context, podIp('p3'), { connections: 16, close: true });
  await iperf(context, podIp('p3'), { streams: 1 });
  await iperf(context, podIp('p3'), { streams: 1, reverse: true });
}

async function takeTurns(
  sites: readonly Site[],
  row: Row,
  round: number,
  samples: Samples,
  { rounds, seconds, sessions, onProgress }: MeasureOptions,
): Promise<void> {
  for (let turn = 0; turn < sites.length; turn++) {
    const site = sites[(turn + round) % sites.length]!;
    onProgress(`round ${round + 1} of ${rounds}: ${row.id}, ${site.peer}`);
    const before = site.cpuSeconds();
    const { figures, work, errors } = await row.run({ ...site.context(seconds), round, sessions });
    const used = site.cpuSeconds() - before;
    for (const { name } of row.figures) samples.add(row.id, name, site.peer, figures[name]!);
    if (site.hasProxies) samples.add(row.id, row.cpu.name, site.peer, used / work);
    if (errors > 0) samples.errors.push({ row: row.id, peer: site.peer, count: errors });
  }
}

function settleMs({ isWarmedUp }: MeasureOptions): number {
  return isWarmedUp ? SETTLE_MS : SHORT_SETTLE_MS;
}

function noteMemory(site: Site, samples: Samples, figure: string): void {
  if (!site.hasProxies) return;
  const { source, destination } = site.residentBytes();
  samples.add(MEMORY_ROW, figure, site.peer, Math.max(source, destination) / 1e6);
}

async function weighConnections(site: Site, samples: Samples, options: MeasureOptions): Promise<void> {
  const { openConnections: count, meshPath } = options;
  const { signal } = site.context(0);
  const settle = () => sleep(settleMs(options), undefined, { signal });
  await site.startProxies(meshPath);
  await site.prove();
  const held = (name: string) => ({ ip: podIp('p3'), logPath: join(site.directory, `${name}-connections.log`) });
  // Beside some that are open already: what the first of them bring with them once, compiled code most of all, is not what a connection
  // weighs.
  const first = await holdConnections(site.context(0), { ...held('first'), count: Math.ceil(count / 5) });
  try {
    await settle();
    const before = site.residentBytes();
    const holder = await holdConnections(site.context(0), { ...held('open'), count });
    try {
      await settle();
      const after = site.residentBytes();
      const grown = Math.max(after.source - before.source, after.destination - before.destination);
      samples.add(MEMORY_ROW, MEMORY_FIGURES.perConnection, site.peer, grown / 1000 / count);
    } finally {
      await holder.stop();
    }
  } finally {
    await first.stop();
  }
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
