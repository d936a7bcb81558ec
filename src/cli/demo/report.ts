import type { LabMode } from '../../lab/index.ts';
import type { ScenarioResult } from './scenario.ts';

/** The whole run, as `--json` prints it. */
export interface DemoReport {
  readonly mode: LabMode;
  readonly pass: boolean;
  readonly scenarios: readonly ScenarioResult[];
  readonly elapsedMs: number;
  /** Whether the mesh was left running. */
  readonly kept: boolean;
}

const FOLD_WIDTH = 120;

/** One scenario for a person: hop by hop, what was seen, and where it was read. */
export function scenarioText(result: ScenarioResult): string {
  const { name, title, pass, checks } = result;
  const lines = [`${name}: ${title}`];
  const atWidth = Math.max(0, ...checks.map(({ at }) => at.length));
  const whatWidth = Math.max(0, ...checks.map(({ what }) => what.length));
  for (const check of checks) {
    const mark = check.pass ? 'ok ' : 'NOT';
    const found = check.expected === undefined ? check.found : `${check.found} (expected ${check.expected})`;
    const start = `  ${mark} ${check.at.padEnd(atWidth)}  ${check.what.padEnd(whatWidth)}  `;
    lines.push(`${start}${fold(found, start.length)}  [${check.from}]`);
  }
  if ('failure' in result) lines.push(`  NOT ${result.failure}`);
  lines.push(pass ? '  pass' : '  FAIL', '');
  return `${lines.join('\n')}\n`;
}

/** Long findings are lists: one item a line. */
function fold(text: string, indent: number): string {
  return text.length <= FOLD_WIDTH ? text : text.replaceAll('; ', `;\n${' '.repeat(indent)}`);
}

/** The last line. */
export function summaryText({ mode, scenarios, elapsedMs }: DemoReport): string {
  const failed = scenarios.filter(({ pass }) => !pass).map(({ name }) => name);
  const count = `${scenarios.length} ${scenarios.length === 1 ? 'scenario' : 'scenarios'}`;
  const verdict = failed.length === 0 ? `${count}, all pass` : `${count}, ${failed.length} FAIL: ${failed.join(', ')}`;
  return `${mode} mode: ${verdict}, ${(elapsedMs / 1000).toFixed(1)} s\n`;
}
