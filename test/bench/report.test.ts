import { describe, expect, it } from 'vitest';
import { drawChart } from '../../bench/chart.ts';
import { Samples } from '../../bench/measure.ts';
import { formatReport, makeReport } from '../../bench/report.ts';

const machine = {
  date: '2026-11-22T02:00:00.000Z',
  processor: 'A <fast> one',
  processors: 2,
  memoryBytes: 24 * 2 ** 30,
  kernel: '6.18',
  congestionControl: 'cubic',
  node: '24.0.0',
  ztunnel: undefined,
};

function reportOf(values: readonly [row: string, figure: string, peer: 'ours' | 'ztunnel', value: number][]) {
  const samples = new Samples();
  for (const sample of values) samples.add(...sample);
  return makeReport(samples, { machine, rounds: 3, seconds: 1 });
}

const up1 = reportOf([
  ['up1', 'Gb/s', 'ours', 12],
  ['up1', 'Gb/s', 'ours', 2],
  ['up1', 'Gb/s', 'ours', 11],
  ['up1', 'Gb/s', 'ztunnel', 10],
  ['up1', 'cpu s/GB', 'ours', 1],
  ['up1', 'cpu s/GB', 'ztunnel', 1],
]);

describe('makeReport', () => {
  it('compares medians, and holds them against the target in its direction', () => {
    expect(up1.lines.map(({ figure, ratio, target, isMet }) => [figure, ratio, target, isMet])).toEqual([
      ['Gb/s', 1.1, 1.15, false],
      ['cpu s/GB', 1, 0.9, false],
    ]);
    const [line] = reportOf([
      ['rr1', 'p99 µs', 'ours', 100],
      ['rr1', 'p99 µs', 'ztunnel', 100],
    ]).lines;
    expect(line).toMatchObject({ ratio: 1, target: 1, isMet: true });
  });

  it('compares nothing where there is no real ztunnel', () => {
    const [line] = reportOf([['up1', 'Gb/s', 'ours', 12]]).lines;
    expect(line).toMatchObject({ ratio: undefined, isMet: undefined });
  });
});

it('says median, minimum, maximum, ratio and what was missed', () => {
  expect(formatReport(up1)).toMatch(/^up1 +Gb\/s +11 \(2–12\) +10 +1\.10 +≥ 1\.15 {2}missed$/m);
});

it('says of the redirection what was measured, what it is to stay below, and what was missed', () => {
  const line = {
    figure: 'apply',
    unit: 'ms',
    min: 5,
    median: 6.891,
    max: 11,
    values: [5, 6.891, 11],
    target: 10,
    isMet: true,
  } as const;
  const missed = { ...line, figure: 'addPod', median: 11, isMet: false };
  const report = makeReport(new Samples(), { machine, rounds: 3, seconds: 1 }, [line, missed]);
  expect(formatReport(report).split('\n').slice(0, 2)).toEqual([
    'apply   6.89 ms (5.00–11.0)  < 10 ms',
    'addPod  11.0 ms (5.00–11.0)  < 10 ms  missed',
  ]);
});

it('draws a bar for each peer, in proportion, and escapes what it writes', () => {
  const chart = drawChart(up1);
  const widths = [...chart.matchAll(/class="(ours|ztunnel)" x="(?:188|662)"[^>]* width="([\d.]+)"/g)].map((m) =>
    Number(m[2]),
  );
  expect(widths).toHaveLength(4);
  expect(widths[0]! / widths[1]!).toBeCloseTo(11 / 10, 2);
  expect(chart).toContain('A &lt;fast&gt; one');
});
