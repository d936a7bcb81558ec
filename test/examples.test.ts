import { spawn } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeRequiring } from './support/require.ts';

const TIMEOUT_MS = 180_000;
const root = join(import.meta.dirname, '..');

/** Runs a program and gives what it printed, both streams together, and how it ended. */
function runExample(file: string): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [file], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

const examples = globSync('examples/*.ts', { cwd: root }).sort();

it('there are examples', () => expect(examples.length).toBeGreaterThan(3));

for (const file of examples) {
  const comment = /^(?:\/\/.*\n)+|^\/\*[\s\S]*?\*\//.exec(readFileSync(join(root, file), 'utf8'))?.[0] ?? '';
  const needsRoot = /needs root/i.test(comment);
  const programs = /\bprograms? ((?:`[\w-]+`(?:, | and )?)+)/.exec(comment)?.[1] ?? '';
  const tools = [...programs.matchAll(/`([\w-]+)`/g)].map(([, tool]) => tool!);
  const body = () => {
    it('says in its first comment whether it needs root', () => expect(comment).toMatch(/needs (no )?root/i));
    it('ends by itself with exit code 0 and has printed something', { timeout: TIMEOUT_MS + 5000 }, async () => {
      const { code, output } = await runExample(file);
      expect(output.trim()).not.toBe('');
      expect({ code, output }).toEqual({ code: 0, output });
    });
  };
  if (needsRoot || tools.length > 0) describeRequiring(file, { root: needsRoot, tools }, body);
  else describe(file, body);
}
