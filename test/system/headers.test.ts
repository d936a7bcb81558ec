import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import * as system from '../../src/system/index.ts';
import { describeRequiring, run } from '../support/require.ts';

const source = readFileSync(join(import.meta.dirname, '../../src/system/constants.ts'), 'utf8');
const names = [...source.matchAll(/^export const (\w+) = /gm)].map(([, name]) => name!);
const ours = new Map(names.map((name) => [name, (system as unknown as Record<string, number>)[name]!]));

// What the constants file names above each group, and the headers that those rest on.
const HEADERS = [
  'stddef.h',
  'stdio.h',
  'errno.h',
  'fcntl.h',
  'poll.h',
  'sched.h',
  'sys/socket.h',
  'sys/epoll.h',
  'sys/eventfd.h',
  'sys/mman.h',
  'sys/mount.h',
  'netinet/in.h',
  'netinet/tcp.h',
  'net/ethernet.h',
  'linux/if_packet.h',
  'linux/netlink.h',
  'linux/netfilter_ipv4.h',
  'linux/netfilter_ipv6/ip6_tables.h',
];
// Younger than the headers of some C libraries.
const MAY_BE_ABSENT = new Set(['IP_LOCAL_PORT_RANGE', 'SOL_NETLINK', 'NETLINK_GET_STRICT_CHK', 'SOL_PACKET']);

describeRequiring('constants against the C headers of this machine', { tools: ['cc'] }, () => {
  const values = (): Map<string, number> => {
    const folder = mkdtempSync(join(tmpdir(), 'ambient-kit-headers-'));
    try {
      const lines = [
        '#define _GNU_SOURCE',
        ...HEADERS.map((header) => `#if __has_include(<${header}>)\n#include <${header}>\n#endif`),
        'int main(void) {',
        ...names.map((name) => `#ifdef ${name}\n  printf("${name} %lld\\n", (long long)(${name}));\n#endif`),
        '  return 0;',
        '}',
      ];
      writeFileSync(join(folder, 'constants.c'), `${lines.join('\n')}\n`);
      run('cc', '-w', '-o', join(folder, 'constants'), join(folder, 'constants.c'));
      const output = run(join(folder, 'constants'));
      return new Map(output.split('\n').flatMap((line) => (line === '' ? [] : [split(line)])));
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

  it('have the values that a C program sees, every one that it sees', () => {
    const theirs = values();
    const missing = names.filter((name) => !theirs.has(name) && !MAY_BE_ABSENT.has(name));
    expect(missing).toEqual([]);
    expect(names.length).toBeGreaterThan(100);
    for (const [name, value] of theirs) expect([name, ours.get(name)]).toEqual([name, value]);
  });
});

function split(line: string): [string, number] {
  const [name, value] = line.split(' ');
  return [name!, Number(value)];
}
