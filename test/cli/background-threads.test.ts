import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { describe, expect, it } from 'vitest';
import { yieldInBackground } from '../../src/cli/background-threads.ts';

function niceness(name: string): number[] {
  return readdirSync('/proc/self/task')
    .filter((thread) => readFileSync(`/proc/self/task/${thread}/comm`, 'latin1').startsWith(name))
    .map((thread) => getPriority(Number(thread)));
}

describe('yieldInBackground', () => {
  it('makes V8’s helpers nice, and nobody else', () => {
    const own = getPriority();
    yieldInBackground();
    const helpers = niceness('V8Worker');
    expect(helpers.length).toBeGreaterThan(0);
    expect(new Set(helpers)).toEqual(new Set([10]));
    expect(getPriority()).toBe(own);
  });
});
