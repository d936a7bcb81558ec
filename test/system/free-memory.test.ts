import { describe, expect, it } from 'vitest';
import { NativeMemory, releaseFreeMemory } from '../../src/system/index.ts';

describe('releaseFreeMemory', () => {
  it('says whether there was any, and leaves what is in use alone', () => {
    const memory = new NativeMemory(1 << 20);
    memory.buffer.fill(7);
    expect(typeof releaseFreeMemory()).toBe('boolean');
    expect(memory.buffer.every((byte) => byte === 7)).toBe(true);
  });
});
