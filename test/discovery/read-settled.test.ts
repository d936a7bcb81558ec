import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fileSignature, readSettled } from '../../src/discovery/read-settled.ts';

let directory: string;
let path: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'ambient-discovery-'));
  path = join(directory, 'file');
});

afterEach(() => rm(directory, { recursive: true, force: true }));

describe('readSettled', () => {
  it('reads a whole file up to the limit, an empty one too', async () => {
    await writeFile(path, 'abc');
    expect(await readSettled(path, 3)).toEqual({ kind: 'settled', bytes: Buffer.from('abc') });
    await expect(readSettled(path, 2)).rejects.toMatchObject({ code: 'ERR_DISCOVERY_FILE_LIMIT' });
    await writeFile(path, '');
    expect(await readSettled(path, 2)).toEqual({ kind: 'settled', bytes: Buffer.alloc(0) });
  });

  it('refuses a file whose size lies', async () => {
    expect(await readSettled('/proc/self/status', 1 << 20)).toEqual({ kind: 'moving' });
  });

  it('stops at an abort', async () => {
    await writeFile(path, 'abc');
    await expect(readSettled(path, 3, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  });

  it('never mixes two contents, and sees a file that is replaced while it reads', async () => {
    const contents = ['a', 'b'].map((letter) => Buffer.alloc(1 << 20, letter));
    await writeFile(path, contents[0]!);
    let writing = true;
    const writer = (async () => {
      for (let at = 1; writing; at++) {
        await writeFile(`${path}.tmp`, contents[at % 2]!);
        await rename(`${path}.tmp`, path);
      }
    })();
    let moving = 0;
    for (let turn = 0; turn < 1000 && moving === 0; turn++) {
      const read = await readSettled(path, 1 << 20);
      if (read.kind === 'moving') moving++;
      else expect(contents.some((content) => content.equals(read.bytes))).toBe(true);
    }
    writing = false;
    await writer;
    expect(moving).toBe(1);
  });
});

describe('fileSignature', () => {
  it('differs after a write and after a rename, and is empty for nothing', async () => {
    expect(await fileSignature(path)).toBe('');
    await writeFile(path, 'a');
    const first = await fileSignature(path);
    expect(await fileSignature(path)).toBe(first);
    await writeFile(path, 'bb');
    const second = await fileSignature(path);
    await writeFile(`${path}.tmp`, 'bb');
    await rename(`${path}.tmp`, path);
    expect(new Set([first, second, await fileSignature(path)]).size).toBe(3);
  });
});
