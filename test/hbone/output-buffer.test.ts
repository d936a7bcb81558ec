import { Writable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OutputBuffer } from '../../src/hbone/output-buffer.ts';

/** A socket that takes a piece when it is told to, and copies it only then: memory that is used again too early shows. */
class Held extends Writable {
  readonly taken: Buffer[] = [];
  #next: (() => void) | undefined;

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.#next = () => {
      this.taken.push(Buffer.from(chunk));
      callback();
    };
  }

  /** Whether there was something to take. */
  async takeOne(): Promise<boolean> {
    const next = this.#next;
    this.#next = undefined;
    next?.();
    await new Promise(setImmediate);
    return next !== undefined;
  }
}

describe('OutputBuffer', () => {
  it('property: bytes reach the socket in order, placed ones and copied ones, whenever it takes them', async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('append' as const), bytes: fc.uint8Array({ maxLength: 5000 }) }),
      fc.record({ kind: fc.constant('place' as const), bytes: fc.uint8Array({ maxLength: 5000 }) }),
      fc.record({
        kind: fc.constant('append' as const),
        bytes: fc.uint8Array({ minLength: 60_000, maxLength: 70_000 }),
      }),
      fc.record({ kind: fc.constant('flush' as const) }),
      fc.record({ kind: fc.constant('take' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const socket = new Held();
        const output = new OutputBuffer(socket, 1 << 30, () => {});
        const expected: Buffer[] = [];
        for (const one of steps) {
          if (one.kind === 'flush') output.flush();
          else if (one.kind === 'take') await socket.takeOne();
          else if (one.kind === 'append') {
            const bytes = Buffer.from(one.bytes);
            output.append(bytes, 0, bytes.length);
            expected.push(Buffer.from(bytes));
            bytes.fill(0);
          } else {
            const start = output.place(Buffer.from(one.bytes), 0, one.bytes.length);
            // As Http2Connection.sendData does: the header goes before the payload, and the whole is written.
            output.buffer.fill(0xff, start - 9, start);
            output.append(output.buffer, start - 9, start + one.bytes.length);
            expected.push(Buffer.alloc(9, 0xff), Buffer.from(one.bytes));
          }
        }
        output.flush();
        while (await socket.takeOne());
        expect(Buffer.concat(socket.taken).equals(Buffer.concat(expected))).toBe(true);
        expect(output.pendingBytes).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('counts what waits, and has no room beyond its limit', async () => {
    const socket = new Held();
    let room = 0;
    const output = new OutputBuffer(socket, 128 << 10, () => room++);
    expect(output.payloadRoom).toBe((64 << 10) - 9);
    output.append(Buffer.alloc(100_000), 0, 100_000);
    expect(output.pendingBytes).toBe(100_000);
    output.append(Buffer.alloc(20_000), 0, 20_000);
    expect(output.payloadRoom).toBe(0);
    output.flush();
    while (await socket.takeOne());
    expect(room).toBeGreaterThan(0);
    expect(output.payloadRoom).toBe((64 << 10) - 9);
  });
});
