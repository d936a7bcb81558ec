import { describe, expect, it } from 'vitest';
import { spread, threeDigits } from '../../bench/statistics.ts';

describe('spread', () => {
  it('gives the middle one of an odd number of values, whatever their order', () => {
    expect(spread([10, 9, 100])).toEqual({ min: 9, median: 10, max: 100 });
  });

  it('gives the mean of the middle two of an even number', () => {
    expect(spread([4, 1, 3, 2])).toEqual({ min: 1, median: 2.5, max: 4 });
  });

  it('refuses none', () => {
    expect(() => spread([])).toThrow(RangeError);
  });
});

it('writes numbers with three significant digits', () => {
  expect([0.012345, 9.849, 52_349, 161].map(threeDigits)).toEqual(['0.0123', '9.85', '52,300', '161']);
});
