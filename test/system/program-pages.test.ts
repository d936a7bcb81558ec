import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { programMappings, releaseProgramPages } from '../../src/system/index.ts';

const entry = (head: string, rssKb: number, anonymousKb: number) =>
  `${head}\nSize:               1000 kB\nRss:      ${rssKb} kB\nAnonymous:   ${anonymousKb} kB\nVmFlags: rd ex mr mw me\n`;

describe('programMappings (proc_pid_smaps(5))', () => {
  it('takes the program’s own code and constants', () => {
    const smaps =
      entry('00400000-00500000 r--p 00000000 fe:00 247580                             /usr/bin/node', 512, 0) +
      entry('00500000-00700000 r-xp 00100000 fe:00 247580                             /usr/bin/node', 64, 0);
    expect(programMappings(smaps, '/usr/bin/node')).toEqual([
      { start: 0x40_0000, bytes: 0x10_0000, residentBytes: 512 * 1024 },
      { start: 0x50_0000, bytes: 0x20_0000, residentBytes: 64 * 1024 },
    ]);
  });

  it.each([
    ['what can be written', '00400000-00500000 rw-p 00000000 fe:00 247580   /usr/bin/node', 0],
    ['what has been relocated', '00400000-00500000 r--p 00000000 fe:00 247580   /usr/bin/node', 4],
    ['a library', '7f0000400000-7f0000500000 r-xp 00000000 fe:00 1   /usr/lib/libc.so.6', 0],
    ['memory of nobody', '7f0000400000-7f0000500000 r--p 00000000 00:00 0 ', 0],
    ['a program that has been replaced', '00400000-00500000 r-xp 00000000 fe:00 2   /usr/bin/node (deleted)', 0],
  ])('leaves %s alone', (_what, head, anonymousKb) => {
    expect(programMappings(entry(head, 8, anonymousKb), '/usr/bin/node')).toEqual([]);
  });
});

describe('releaseProgramPages', () => {
  it('lets most of the program’s pages go, and the program goes on', () => {
    const residentKb = () => Number(/^RssFile:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]);
    const beforeKb = residentKb();
    const released = releaseProgramPages();
    expect(released).toBeGreaterThan(10 << 20);
    expect(residentKb()).toBeLessThan(beforeKb - 5 * 1024);
    expect(
      JSON.parse(JSON.stringify({ still: ['here', /x/.test('x'), new Intl.NumberFormat('de').format(1234.5)] })),
    ).toEqual({
      still: ['here', true, '1.234,5'],
    });
  });
});
