import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import { defaultBusyPollMs } from '../../src/ztunnel/default-busy-poll.ts';

describe('defaultBusyPollMs()', () => {
  it('polls for a tenth of a millisecond where a processor is left beside the data plane', () => {
    expect(defaultBusyPollMs(1, 2)).toBe(0.1);
    expect(defaultBusyPollMs(4, 64)).toBe(0.1);
  });

  it('does not where the data plane has them all', () => {
    expect(defaultBusyPollMs(1, 1)).toBe(0);
    expect(defaultBusyPollMs(2, 2)).toBe(0);
    expect(defaultBusyPollMs(8, 4)).toBe(0);
  });

  it('counts the processors that this process may use', () => {
    expect(defaultBusyPollMs(availableParallelism())).toBe(0);
    expect(defaultBusyPollMs(availableParallelism() - 1)).toBe(0.1);
  });
});
