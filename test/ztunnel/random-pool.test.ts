import { describe, expect, it } from 'vitest';
import { fillFromPool } from '../../src/ztunnel/random-pool.ts';

describe('fillFromPool', () => {
  it('gives what it was given, filled with bytes that do not come twice, beyond one pool', () => {
    const seen = new Set<string>();
    for (let count = 0; count < 1000; count++) {
      const bytes = new Uint8Array(24);
      expect(fillFromPool(bytes)).toBe(bytes);
      seen.add(Buffer.from(bytes).toString('hex'));
    }
    expect(seen.size).toBe(1000);
  });
});
