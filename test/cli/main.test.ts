import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ambient } from './ambient.ts';

const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'));

describe('ambient', () => {
  it.each([['--help'], ['-h'], ['help']])('%s lists the commands', async (flag) => {
    const { code, stdout, stderr } = await ambient([flag]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^Usage: ambient <command>/);
    for (const command of ['demo', 'ztunnel']) expect(stdout).toContain(`\n  ${command} `);
    expect(stdout).not.toContain('demo-app');
  });

  it('--version is the version of the package', async () => {
    expect(await ambient(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  it('without a command says how it is used, exit 2', async () => {
    const { code, stdout, stderr } = await ambient([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^Usage: ambient <command>/);
  });

  it.each([
    [['dmeo'], 'there is no command "dmeo": `ambient --help` lists what there is\n'],
    [['--json'], 'there is no option "--json": `ambient --help` lists what there is\n'],
    [['demo', '--nope'], "Unknown option '--nope': `ambient demo --help` lists what there is\n"],
    [['demo', 'now'], "Unexpected argument 'now': `ambient demo --help` lists what there is\n"],
    [['demo', '--json=yes'], "Option '--json' does not take an argument: `ambient demo --help` lists what there is\n"],
  ])('%j: one sentence with a hint, exit 2', async (args, stderr) => {
    expect(await ambient(args)).toEqual({ code: 2, stdout: '', stderr });
  });
});
