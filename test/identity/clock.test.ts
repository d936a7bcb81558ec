import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { ManualClock, systemClock } from '../../src/identity/clock.ts';

describe('ManualClock', () => {
  it('fires in the order of time, also what was armed on the way', async () => {
    const clock = new ManualClock(0);
    const fired: string[] = [];
    clock.setTimeout(() => fired.push(`b${clock.now()}`), 20);
    clock.setTimeout(() => {
      fired.push(`a${clock.now()}`);
      clock.setTimeout(() => fired.push(`c${clock.now()}`), 5);
    }, 10);
    clock.clearTimeout(clock.setTimeout(() => fired.push('never'), 1));
    await clock.advance(19);
    expect(fired).toEqual(['a10', 'c15']);
    expect(clock.pending).toBe(1);
    await clock.advance(1);
    expect(fired).toEqual(['a10', 'c15', 'b20']);
    expect(clock.now()).toBe(20);
  });

  it('refuses what Node would fire at once', () => {
    expect(() => new ManualClock().setTimeout(() => {}, 2 ** 31)).toThrow(RangeError);
  });
});

describe('systemClock', () => {
  it('fires, and clears', async () => {
    const fired: string[] = [];
    systemClock.clearTimeout(systemClock.setTimeout(() => fired.push('never'), 1));
    await new Promise<void>((resolve) => {
      systemClock.setTimeout(() => fired.push('once'), 1);
      setTimeout(resolve, 20);
    });
    expect(fired).toEqual(['once']);
  });

  it('keeps no process alive', () => {
    const url = JSON.stringify(new URL('../../src/identity/clock.ts', import.meta.url).href);
    const program = `const { systemClock } = await import(${url}); systemClock.setTimeout(() => {}, 600_000);`;
    execFileSync(process.execPath, ['--input-type=module', '--eval', program], { timeout: 20_000 });
  });
});
