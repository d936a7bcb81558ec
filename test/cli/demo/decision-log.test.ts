import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DecisionLog } from '../../../src/cli/demo/decision-log.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ambient-decisions-'));
  path = join(directory, 'log.jsonl');
});
afterEach(() => rmSync(directory, { recursive: true }));

const line = (source: string) => `${JSON.stringify({ source, decision: { kind: 'tcp' } })}\n`;
const { signal } = new AbortController();

it('finds what is written later, and passes over what was there', async () => {
  const log = new DecisionLog(path);
  log.skip();
  appendFileSync(path, line('old'));
  log.skip();
  const found = log.find(({ source }) => source !== 'b', signal);
  appendFileSync(path, line('b') + line('c'));
  expect(await found).toMatchObject({ source: 'c' });
  // What was not asked for is still there.
  expect(await log.find(() => true, signal)).toMatchObject({ source: 'b' });
});

it('waits for the end of a line, and keeps characters whole', async () => {
  const log = new DecisionLog(path);
  const bytes = Buffer.from(line('…'));
  appendFileSync(path, bytes.subarray(0, 13));
  const found = log.find(() => true, signal);
  await new Promise((resolve) => setTimeout(resolve, 20));
  appendFileSync(path, bytes.subarray(13));
  expect(await found).toMatchObject({ source: '…' });
});

it('gives up at an abort', async () => {
  const log = new DecisionLog(path);
  await expect(log.find(() => true, AbortSignal.abort(new Error('enough')))).rejects.toThrow();
});
