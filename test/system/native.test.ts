import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { addressOf, libc, NativeMemory, nativeCallback, O_CLOEXEC } from '../../src/system/index.ts';
import { native } from '../../src/system/native.ts';

describe('native calls', () => {
  it('name the function that this Node binary does not have', () => {
    expect(() => native('int akt_no_such_function(int)')).toThrow(
      expect.objectContaining({
        code: 'ERR_SYSTEM_UNSUPPORTED',
        message: `system.load: this Node binary (${process.version}) does not offer akt_no_such_function()`,
      }),
    );
  });

  it('read and write memory at an address, at any place in it', () => {
    const ends = new Int32Array(2);
    expect(libc().pipe2(ends, O_CLOEXEC)).toBe(0);
    const memory = new NativeMemory(256);
    const text = Buffer.from('to the byte');
    libc().write(ends[1]!, text, text.length);
    const read = native<(fd: number, to: number, length: number) => number>('int64_t read(int, uintptr_t, uint64_t)');
    expect(read(ends[0]!, memory.address + 100, 64)).toBe(text.length);
    expect(memory.buffer.toString('utf8', 100, 100 + text.length)).toBe('to the byte');
    expect(memory.buffer.subarray(0, 100).every((byte) => byte === 0)).toBe(true);
    expect(addressOf(memory.buffer)).toBe(memory.address);
    for (const end of ends) libc().close(end);
  });

  it.each([0, 127, 1.5, -1])('refuses native memory of %s bytes', (size) => {
    expect(() => new NativeMemory(size)).toThrow(expect.objectContaining({ code: 'ERR_SYSTEM_MEMORY_SIZE' }));
  });

  it('C calls back', () => {
    const compare = nativeCallback('int compare(uintptr_t a, uintptr_t b)', (a: number, b: number) => {
      return memory.buffer[a - memory.address]! - memory.buffer[b - memory.address]!;
    });
    const memory = new NativeMemory(128);
    memory.buffer.set([3, 1, 2]);
    native<(base: number, count: number, size: number, compare: number) => void>(
      'void qsort(uintptr_t, uint64_t, uint64_t, uintptr_t)',
    )(memory.address, 3, 1, compare.address);
    expect([...memory.buffer.subarray(0, 3)]).toEqual([1, 2, 3]);
    compare.release();
    expect(() => compare.release()).not.toThrow();
  });

  it('are made in src/system and nowhere else', () => {
    const root = join(import.meta.dirname, '../..');
    const importers = globSync('src/**/*.ts', { cwd: root }).filter((file) =>
      /from '(?:koffi|.*system\/native\.ts)'/.test(readFileSync(join(root, file), 'utf8')),
    );
    expect(importers.filter((file) => !file.startsWith('src/system/'))).toEqual([]);
  });
});
