import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LogDescriptor } from '../../src/ztunnel/log-descriptor.ts';
import { describeRequiring } from '../support/require.ts';

let folder: string;
let fd: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ambient-log-'));
});
afterEach(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

describe('LogDescriptor', () => {
  it('writes whole lines, as UTF-8, in order', () => {
    const path = join(folder, 'log');
    fd = openSync(path, 'a');
    const log = new LogDescriptor(fd);
    log.write('one\ntwo\n');
    log.write('drei ß\n');
    expect(readFileSync(path, 'utf8')).toBe('one\ntwo\ndrei ß\n');
  });

  it('a full disk: throws each time, and has taken nothing', () => {
    fd = openSync('/dev/full', 'a');
    const log = new LogDescriptor(fd);
    for (let i = 0; i < 2; i++) {
      expect(() => log.write('line\n')).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
    }
  });
});

describeRequiring('LogDescriptor on a pipe whose reader is slow', { tools: ['mkfifo'] }, () => {
  /** Everything that is in the pipe now. */
  function drain(): string {
    const chunks: Buffer[] = [];
    for (;;) {
      const chunk = Buffer.alloc(65_536);
      try {
        chunks.push(chunk.subarray(0, readSync(fd, chunk)));
      } catch (error) {
        expect(error).toMatchObject({ code: 'EAGAIN' });
        return Buffer.concat(chunks).toString('utf8');
      }
    }
  }

  it('takes what it began, refuses what it did not, and leaves no hole and nothing twice', () => {
    const path = join(folder, 'fifo');
    execFileSync('mkfifo', [path]);
    fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const log = new LogDescriptor(fd);
    let expected = '';
    let received = '';
    let refused = 0;
    for (let i = 0; i < 400; i++) {
      // Lines longer than PIPE_BUF, so that a pipe takes a part of one.
      const line = `${i} ${'x'.repeat(5000)}\n`;
      try {
        log.write(line);
        expected += line;
      } catch (error) {
        expect(error).toMatchObject({ code: 'EAGAIN' });
        refused++;
      }
      if (i % 50 === 49) received += drain();
    }
    expect(refused).toBeGreaterThan(0);
    // One more goes out behind the rest of the last one that was taken.
    log.write('end\n');
    received += drain();
    expect(received === `${expected}end\n`).toBe(true);
  });
});
