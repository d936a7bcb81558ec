import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UnreadBytes } from '../../src/hbone/unread-bytes.ts';

describe('UnreadBytes', () => {
  it('property: what goes in comes out, in order, whatever the pieces', () => {
    const steps = fc.array(fc.oneof(fc.uint8Array({ maxLength: 40_000 }), fc.constant('take' as const)), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(steps, (list) => {
        const unread = new UnreadBytes();
        const [put, got]: [Buffer[], Buffer[]] = [[], []];
        for (const step of list) {
          if (step === 'take') {
            if (unread.length > 0) got.push(unread.take());
            continue;
          }
          // Between other bytes, as pieces of a received chunk are.
          const chunk = Buffer.concat([Buffer.from('<<'), step, Buffer.from('>>')]);
          unread.append(chunk, 2, chunk.length - 2);
          put.push(Buffer.from(step));
        }
        const length = (buffers: Buffer[]) => buffers.reduce((sum, buffer) => sum + buffer.length, 0);
        expect(unread.length).toBe(length(put) - length(got));
        while (unread.length > 0) got.push(unread.take());
        expect(Buffer.concat(got).equals(Buffer.concat(put))).toBe(true);
      }),
    );
  });

  it('a block taken out is the taker’s: nothing writes into it any more', () => {
    const unread = new UnreadBytes();
    unread.append(Buffer.from('first'), 0, 5);
    const taken = unread.take();
    unread.append(Buffer.from('SECOND'), 0, 6);
    expect(`${taken}`).toBe('first');
  });

  it('a million bytes, each by itself, are some blocks', () => {
    const unread = new UnreadBytes();
    const one = Buffer.from('x');
    for (let at = 0; at < 1e6; at++) unread.append(one, 0, 1);
    let blocks = 0;
    for (; unread.length > 0; blocks++) unread.take();
    expect(blocks).toBeLessThan(100);
  });
});
