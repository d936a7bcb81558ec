import { describe, expect, it } from 'vitest';
import { libc, NativeMemory, releasePages } from '../../src/system/index.ts';

describe('releasePages', () => {
  it('empties whole pages within the stretch, and leaves what lies around them alone', () => {
    const page = libc().getpagesize();
    const memory = new NativeMemory(8 * page);
    memory.buffer.fill(1);
    const start = 100;
    const end = 7 * page + 100;
    releasePages(memory.address + start, end - start);
    const first = Math.ceil((memory.address + start) / page) * page - memory.address;
    const last = Math.floor((memory.address + end) / page) * page - memory.address;
    expect(last - first).toBeGreaterThanOrEqual(6 * page);
    expect(memory.buffer.subarray(0, first).every((byte) => byte === 1)).toBe(true);
    expect(memory.buffer.subarray(first, last).every((byte) => byte === 0)).toBe(true);
    expect(memory.buffer.subarray(last).every((byte) => byte === 1)).toBe(true);
    memory.buffer.fill(2);
    expect(memory.buffer.every((byte) => byte === 2)).toBe(true);
  });

  it('does nothing where no whole page is', () => {
    const memory = new NativeMemory(4096);
    memory.buffer.fill(1);
    releasePages(memory.address + 1, 4000);
    releasePages(memory.address + 1, 0);
    expect(memory.buffer.every((byte) => byte === 1)).toBe(true);
  });
});
