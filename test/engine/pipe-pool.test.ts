import { describe, expect, it } from 'vitest';
import { PIPE_BYTES, type Pipe, PipePool } from '../../src/engine/pipe-pool.ts';
import { F_GETPIPE_SZ, libc } from '../../src/system/index.ts';
import { withoutDescriptors } from './descriptor-limit.ts';
import { openDescriptors } from './turning.ts';

const take = (pool: PipePool): Pipe => pool.take()!;

describe('PipePool', () => {
  it('makes non-blocking pipes of one MiB, as far as this user may', () => {
    const pool = new PipePool();
    const pipe = take(pool);
    expect(libc().fcntl(pipe.writer, F_GETPIPE_SZ, 0)).toBe(PIPE_BYTES);
    expect(libc().read(pipe.reader, Buffer.alloc(128), 128)).toBe(-1);
    pool.discard(pipe);
  });

  it('hands out again what it got back, up to its limit, and closes the rest', () => {
    const before = openDescriptors();
    const pool = new PipePool(2);
    const pipes = [take(pool), take(pool), take(pool)];
    expect(openDescriptors()).toBe(before + 6);
    for (const pipe of pipes) pool.give(pipe);
    expect(openDescriptors()).toBe(before + 4);
    expect(pool.take()).toBe(pipes[1]);
    expect(pool.take()).toBe(pipes[0]);
    pool.discard(pipes[0]!);
    pool.discard(pipes[1]!);
    expect(openDescriptors()).toBe(before);
  });

  it('closes what it holds, and what comes back later', () => {
    const before = openDescriptors();
    const pool = new PipePool();
    const [held, lent] = [take(pool), take(pool)];
    pool.give(held);
    pool.close();
    expect(openDescriptors()).toBe(before + 2);
    pool.give(lent);
    expect(openDescriptors()).toBe(before);
  });

  it('has none to give when descriptors have run out (EMFILE), and says so without throwing', () => {
    const pool = new PipePool();
    expect(withoutDescriptors(() => pool.take())).toBeUndefined();
    const pipe = take(pool);
    expect(pipe).toBeDefined();
    pool.discard(pipe);
  });
});
