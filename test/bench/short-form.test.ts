import { type ChildProcess, execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Report } from '../../bench/report.ts';
import { listNamespaces } from '../../src/netns/index.ts';
import { describeRequiring } from '../support/require.ts';

interface Ended {
  readonly pid: number;
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the bench without other peers' binaries, as CI does. */
function bench(args: readonly string[], onProgress?: (text: string, child: ChildProcess) => void): Promise<Ended> {
  return new Promise((resolve) => {
    const env = { ...process.env, ZTUNNEL_BIN: '', ENVOY_BIN: '' };
    const main = join(import.meta.dirname, '../../bench/main.ts');
    const child = execFile(process.execPath, [main, ...args], { env, timeout: 110_000 }, (_error, stdout, stderr) => {
      resolve({ pid: child.pid!, code: child.exitCode, stdout, stderr });
    });
    child.stderr!.on('data', (text: string) => onProgress?.(text, child));
  });
}

function leftOf({ pid }: Ended): string[] {
  return listNamespaces().filter((name) => name.startsWith(`akb-${pid}-`));
}

it('names the option that is wrong, with exit code 2', async () => {
  const { code, stderr } = await bench(['--rows', 'up1,up2']);
  expect(code).toBe(2);
  expect(stderr).toContain('--rows: there is no "up2"');
});

describeRequiring('issue 5, the row of the redirection', { root: true }, () => {
  it('needs no peers, says what each figure is to stay below, and leaves nothing behind', async () => {
    const ended = await bench(['--short', '--rows', 'rules', '--json']);
    expect(ended.code).toBe(0);
    const { lines, rules } = JSON.parse(ended.stdout) as Report;
    expect(lines).toEqual([]);
    expect(rules.map(({ target, unit }) => `${target} ${unit}`)).toEqual(['10 ms', '1 ms', '1 ms', '3 s', '3 s']);
    // Less is done than the targets are about, so nothing is said of them.
    for (const { values, isMet } of rules) {
      expect(values[0]).toBeGreaterThan(0);
      expect(isMet).toBeUndefined();
    }
    expect(leftOf(ended)).toEqual([]);
  });
});

describeRequiring('issue 4, the short form', { root: true, users: true, tools: ['iperf3', 'wrk', 'nginx'] }, () => {
  it('measures direct and ours, draws them, and leaves nothing behind', { timeout: 120_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'akt-bench-'));
    try {
      const svgPath = join(folder, 'chart.svg');
      const ended = await bench(['--short', '--json', '--svg', svgPath]);
      expect(ended.stderr).not.toContain('bench:');
      expect(ended.code).toBe(0);
      const { lines, rules, errors } = JSON.parse(ended.stdout) as Report;
      expect(errors).toEqual([]);
      const rows = new Set(lines.map(({ row }) => row));
      expect([...rows]).toEqual(['up1', 'rr64', 'close16', 'pass-rr64', 'same-up1', 'sessions', 'memory']);
      for (const { row, figure, peers } of lines) {
        // Without a proxy there is no CPU time or memory of one.
        const isOfProxies = row === 'memory' || figure.startsWith('cpu');
        expect(Object.keys(peers), `${row} ${figure}`).toEqual(isOfProxies ? ['ours'] : ['direct', 'ours']);
        for (const { values } of Object.values(peers)) {
          expect(values, `${row} ${figure}`).toHaveLength(1);
          expect(values[0], `${row} ${figure}`).toBeGreaterThan(0);
        }
      }
      expect(rules.map(({ unit }) => unit)).toEqual(['ms', 'ms', 'ms', 's', 's']);
      const chart = readFileSync(svgPath, 'utf8');
      for (const row of rows) expect(chart).toContain(row === 'memory' ? '>idle MB<' : `>${row}, `);
      expect(leftOf(ended)).toEqual([]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('takes everything down when it is interrupted half-way', { timeout: 60_000 }, async () => {
    let isAsked = false;
    const ended = await bench(['--rows', 'up1', '--peers', 'ours'], (text, child) => {
      if (isAsked || !text.includes('round 1 of')) return;
      isAsked = true;
      child.kill('SIGINT');
    });
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain('bench: SIGINT: stopped');
    expect(leftOf(ended)).toEqual([]);
    expect(processesNaming(`akb-${ended.pid}-`)).toEqual([]);
  });
});

/** Ids of processes that have `text` in their environment, as each proxy of a run has its namespaces' prefix. */
function processesNaming(text: string): string[] {
  return readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/environ`, 'latin1').includes(text);
    } catch {
      return false;
    }
  });
}
