import type { Samples } from './measure.ts';
import type { PeerName } from './peers.ts';
import { type Figure, MEMORY_FIGURES, MEMORY_ROW, ROWS } from './rows.ts';
import { formatRules, type RulesLine } from './rules.ts';
import { type Spread, spread, threeDigits } from './statistics.ts';

/** Where and with what a run was made. */
export interface Machine {
  /** ISO 8601. */
  readonly date: string;
  readonly processor: string;
  readonly processors: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  /** `cubic`, `bbr`: what TCP goes by on every host. */
  readonly congestionControl: string;
  readonly node: string;
  /** What `ztunnel version` says of itself. */
  readonly ztunnel: string | undefined;
}

/** One line of the result: a figure of a row, for every peer. */
export interface ReportLine {
  readonly row: string;
  readonly what: string;
  readonly figure: string;
  readonly better: Figure['better'];
  readonly peers: Readonly<Partial<Record<PeerName, Spread & { readonly values: readonly number[] }>>>;
  /** Median of ours divided by the median of the real ztunnel, where both were measured. */
  readonly ratio: number | undefined;
  /** What that ratio is to reach, or to stay below. */
  readonly target: number | undefined;
  /** Undefined where there is nothing to compare. */
  readonly isMet: boolean | undefined;
}

export interface Report {
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly lines: readonly ReportLine[];
  /** Of the redirection, which has no peers. */
  readonly rules: readonly RulesLine[];
  /** Requests and connections that failed while they were measured. */
  readonly errors: Samples['errors'];
}

/** Puts what was measured in the order of the rows, with ratios. */
export function makeReport(
  samples: Samples,
  about: Pick<Report, 'machine' | 'rounds' | 'seconds'>,
  rules: readonly RulesLine[] = [],
): Report {
  const rows = [...ROWS.map(({ id, what, figures, cpu }) => ({ id, what, figures: [...figures, cpu] })), memoryRow()];
  const lines = rows.flatMap((row) =>
    row.figures.flatMap((figure) => {
      const measured = samples.values.get(row.id)?.get(figure.name);
      return measured === undefined ? [] : [reportLine(row, figure, measured)];
    }),
  );
  return { ...about, lines, rules, errors: samples.errors };
}

function memoryRow(): { id: string; what: string; figures: Figure[] } {
  const figures = Object.values(MEMORY_FIGURES).map((name) => ({ name, better: 'less' as const }));
  return { id: MEMORY_ROW, what: 'resident memory of the larger of the two proxies', figures };
}

function reportLine(
  row: { id: string; what: string },
  { name, better, target }: Figure,
  measured: ReadonlyMap<PeerName, number[]>,
): ReportLine {
  const peers: Partial<Record<PeerName, Spread & { values: readonly number[] }>> = {};
  for (const [peer, values] of measured) peers[peer] = { ...spread(values), values };
  const { ours, ztunnel } = peers;
  const ratio = ours === undefined || ztunnel === undefined ? undefined : ours.median / ztunnel.median;
  const isMet =
    ratio === undefined || target === undefined ? undefined : better === 'more' ? ratio >= target : ratio <= target;
  return { row: row.id, what: row.what, figure: name, better, peers, ratio, target, isMet };
}

/** The report as a table for people: median (minimum–maximum). */
export function formatReport({ machine, rounds, seconds, lines, rules, errors }: Report): string {
  const names = [...new Set(lines.flatMap(({ peers }) => Object.keys(peers) as PeerName[]))];
  const isCompared = lines.some(({ ratio }) => ratio !== undefined);
  const head = ['row', 'figure', ...names, ...(isCompared ? ['ours ÷ ztunnel', 'target'] : [])];
  const body = lines.map(({ row, figure, better, peers, ratio, target, isMet }, i) => [
    lines[i - 1]?.row === row ? '' : row,
    figure,
    ...names.map((name) => formatSpread(peers[name])),
    ...(isCompared ? [ratio?.toFixed(2) ?? '', formatTarget(better, target, isMet)] : []),
  ]);
  const table = [head, ...body];
  const widths = head.map((_, column) => Math.max(...table.map((cells) => cells[column]!.length)));
  const text = table.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
  const gigabytes = (machine.memoryBytes / 2 ** 30).toFixed(0);
  const notes = [
    `${machine.date}, ${machine.processors} × ${machine.processor}, ${gigabytes} GiB, Linux ${machine.kernel} with ${machine.congestionControl}, Node ${machine.node}`,
    ...(machine.ztunnel === undefined ? [] : [`ztunnel: ${machine.ztunnel}`]),
    `median (minimum–maximum) of ${rounds} round${rounds === 1 ? '' : 's'}${lines.length === 0 ? '' : ` of ${seconds} s, peers taking turns`}`,
    ...errors.map(({ row, peer, count }) => `${row}, ${peer}: ${count} requests or connections failed`),
  ];
  const tables = [
    ...(lines.length === 0 ? [] : [`${text.join('\n')}\n`]),
    ...(rules.length === 0 ? [] : [formatRules(rules)]),
  ];
  return `${tables.join('\n')}\n${notes.join('\n')}\n`;
}

function formatTarget(better: Figure['better'], target: number | undefined, isMet: boolean | undefined): string {
  if (target === undefined) return '';
  return `${better === 'more' ? '≥' : '≤'} ${target}${isMet === false ? '  missed' : ''}`;
}

function formatSpread(spread: (Spread & { values: readonly number[] }) | undefined): string {
  if (spread === undefined) return '–';
  const { min, median, max, values } = spread;
  return values.length === 1 ? threeDigits(median) : `${threeDigits(median)} (${threeDigits(min)}–${threeDigits(max)})`;
}
