import { describe, expect, it } from 'vitest';
import { everyWay } from '../../src/explain/chances.ts';

describe('everyWay', () => {
  it('walks each way once, as kube-proxy throws for three endpoints', () => {
    const { ways, isCut } = everyWay(
      (chances) => (chances.choose(2) === 0 ? 'a' : chances.choose(2) === 0 ? 'b' : 'c'),
      16,
    );
    expect(ways).toEqual(['a', 'b', 'c']);
    expect(isCut).toBe(false);
  });

  it('walks once where nothing is left to chance', () => {
    expect(everyWay(() => 'only', 16)).toEqual({ ways: ['only'], isCut: false });
  });

  it('stops at its limit and says that there would be more', () => {
    const { ways, isCut } = everyWay((chances) => [chances.choose(3), chances.choose(3)].join(), 4);
    expect(ways).toEqual(['0,0', '0,1', '0,2', '1,0']);
    expect(isCut).toBe(true);
    expect(everyWay((chances) => chances.choose(4), 4).isCut).toBe(false);
  });
});
