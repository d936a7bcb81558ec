import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { isRunning, readRunState, StateDirectory, stateDirectoryPath } from '../../../src/cli/demo/state-directory.ts';

let parent: string;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'ambient-state-'));
});
afterEach(() => rmSync(parent, { recursive: true }));

const modeOf = (path: string) => (statSync(path).mode & 0o7777).toString(8);

it('is /run/ambient-demo for the names that namespaces have by default', () => {
  expect(stateDirectoryPath('ambient-')).toBe('/run/ambient-demo');
});

it('lets nobody else read what is in it', () => {
  const state = new StateDirectory(join(parent, 'demo'));
  state.write('ca-node-a/key.pem', 'secret');
  expect(modeOf(state.path)).toBe('700');
  expect(modeOf(state.file('ca-node-a'))).toBe('700');
  expect(modeOf(state.file('ca-node-a/key.pem'))).toBe('600');
  expect(modeOf(state.file('state.json'))).toBe('600');
  state.remove();
  expect(readdirSync(parent)).toEqual([]);
});

it('keeps a second run out', () => {
  const path = join(parent, 'demo');
  new StateDirectory(path);
  expect(() => new StateDirectory(path)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
});

it('tells what runs from what had its number before', async () => {
  const state = new StateDirectory(join(parent, 'demo'));
  const child = spawn('sleep', ['60']);
  await once(child, 'spawn');
  state.record('ztunnel-a', child.pid!);
  const { demo, processes, isKept } = readRunState(state.path)!;
  expect(isKept).toBe(false);
  expect(demo.pid).toBe(process.pid);
  expect(isRunning(demo)).toBe(true);
  expect(processes).toMatchObject([{ name: 'ztunnel-a', pid: child.pid }]);
  expect(isRunning(processes[0]!)).toBe(true);
  expect(isRunning({ ...processes[0]!, startTime: '1' })).toBe(false);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(isRunning(processes[0]!)).toBe(false);
  state.keep();
  expect(readRunState(state.path)).toMatchObject({ isKept: true, processes: [{ name: 'ztunnel-a' }] });
});

it('reads nothing where nothing can be read', () => {
  expect(readRunState(join(parent, 'none'))).toBeUndefined();
});
