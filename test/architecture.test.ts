import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { describe, expect, it } from 'vitest';

/** ARCHITECTURE.md's "Rooms", from the bottom up: a room may import those before it. */
const ROOMS = [
  ['errors'],
  ['ip'],
  ['system'],
  ['http2', 'identity', 'rbac', 'telemetry', 'netns'],
  ['netlink', 'socket', 'discovery'],
  ['redirection', 'engine', 'hbone'],
  ['explain', 'lab', 'ztunnel'],
  ['cli'],
];

const root = join(import.meta.dirname, '..');
const floorOf = (room: string) => ROOMS.findIndex((floor) => floor.includes(room));

/** Relative imports of one source file as [room of the file, room of the import], and its package imports. */
function importsOf(file: string) {
  const text = readFileSync(join(root, file), 'utf8');
  const room = file.split(sep)[1]!;
  const specifiers = [...text.matchAll(/^\s*(?:import|export)\b[^'";]*?from '([^']+)'/gms)].map(([, from]) => from!);
  const rooms = specifiers
    .filter((from) => from.startsWith('.'))
    .map((from) => relative(join(root, 'src'), join(root, dirname(file), from)).split(sep)[0]!)
    .filter((other) => other !== room);
  return { room, rooms, packages: specifiers.filter((from) => !from.startsWith('.') && !from.startsWith('node:')) };
}

describe('ARCHITECTURE.md', () => {
  const files = globSync('src/*/**/*.ts', { cwd: root });

  it('places every room', () => {
    const rooms = new Set(files.map((file) => file.split(sep)[1]!));
    expect([...rooms].filter((room) => floorOf(room) < 0)).toEqual([]);
  });

  it('has imports pointing down only', () => {
    const upward = files.flatMap((file) => {
      const { room, rooms } = importsOf(file);
      return rooms.filter((other) => floorOf(other) >= floorOf(room)).map((other) => `${file} → ${other}`);
    });
    // Types and names that discovery and telemetry share with their neighbours on the same floor would show here.
    expect(upward).toEqual([]);
  });

  it('lets nothing but system import koffi, and each other package one room', () => {
    const users = new Map<string, Set<string>>();
    for (const file of files) {
      const { room, packages } = importsOf(file);
      for (const name of packages) users.set(name, (users.get(name) ?? new Set()).add(room));
    }
    expect(Object.fromEntries([...users].map(([name, rooms]) => [name, [...rooms].sort()]))).toEqual({
      koffi: ['system'],
      'ip-num': ['ip'],
      yaml: ['discovery'],
    });
  });

  const links = ['ARCHITECTURE.md', 'README.md', 'SECURITY.md'].flatMap((page) =>
    [...readFileSync(join(root, page), 'utf8').matchAll(/\[([^\]]*)\]\(([^)#:]+)\)/g)].map(([, text, target]) => ({
      page,
      text: text!,
      target: target!,
    })),
  );

  it.each(links)('$page: $text is in $target', ({ text, target }) => {
    expect(existsSync(join(root, target))).toBe(true);
    const name = /^`(?:\w+\.)?#?(\w+)(?:\(\))?`$/.exec(text)?.[1];
    if (name !== undefined && target.endsWith('.ts')) expect(readFileSync(join(root, target), 'utf8')).toContain(name);
  });
});
