import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rename, rm, symlink, truncate, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  createFileSource,
  type FileSource,
  type FileSourceOptions,
  type MeshFileError,
  type MeshSnapshot,
  MeshState,
} from '../../src/discovery/index.ts';

let directory: string;
let path: string;
let source: FileSource | undefined;
let snapshots: string[];
let errors: MeshFileError[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'ambient-discovery-'));
  path = join(directory, 'mesh.yaml');
  snapshots = [];
  errors = [];
});

afterEach(async () => {
  await source?.close();
  source = undefined;
  await rm(directory, { recursive: true, force: true });
});

const mesh = (...names: string[]) =>
  `workloads:\n${names.map((name) => `- {name: ${name}, namespace: n, workloadIps: [], services: {}}\n`).join('')}`;
const namesOf = (snapshot: MeshSnapshot) => snapshot.workloads.map((workload) => workload.name).join(',');

async function open(more: Partial<FileSourceOptions> = {}): Promise<FileSource> {
  source = await createFileSource({
    path,
    onSnapshot: (snapshot) => void snapshots.push(namesOf(snapshot)),
    onError: (error) => void errors.push(error),
    debounceMs: 10,
    pollIntervalMs: 0,
    ...more,
  });
  return source;
}

/** Puts a content there at once: written in place, its beginning can be seen as a content of its own. */
async function put(content: string): Promise<void> {
  await writeFile(`${path}.tmp`, content);
  await rename(`${path}.tmp`, path);
}

const seen = (list: readonly unknown[], count: number) => vi.waitFor(() => expect(list).toHaveLength(count), 5000);
/** Longer than any debounce in use here. */
const quiet = () => new Promise((done) => setTimeout(done, 150));

describe('createFileSource: the first content', () => {
  it('is in force when the promise resolves', async () => {
    await writeFile(path, mesh('a'));
    const { current, lastError }: FileSource = await open();
    expect(namesOf(current)).toBe('a');
    expect(lastError).toBeUndefined();
    expect(snapshots).toEqual(['a']);
  });

  it.each([
    ['missing', async (): Promise<void> => {}, 'ERR_DISCOVERY_FILE_MISSING', 'there is no such file'],
    ['bad', () => writeFile(path, 'workloads: 1'), 'ERR_DISCOVERY_FILE_CONTENT', 'workloads: expected a list, got 1'],
    ['not UTF-8', () => writeFile(path, Buffer.from([0x61, 0xff])), 'ERR_DISCOVERY_FILE_CONTENT', 'not UTF-8'],
    ['empty', () => writeFile(path, ''), 'ERR_DISCOVERY_FILE_CONTENT', 'the file is empty'],
    ['a directory', () => mkdir(path), 'ERR_DISCOVERY_FILE_READ', 'not a regular file'],
    [
      'a FIFO without a writer',
      async (): Promise<void> => void execFileSync('mkfifo', [path]),
      'ERR_DISCOVERY_FILE_READ',
      'not a regular file',
    ],
    [
      'too large',
      () => writeFile(path, `${mesh('a')}#${' '.repeat(1000)}`),
      'ERR_DISCOVERY_FILE_LIMIT',
      'more than 1000',
    ],
  ] as const)('%s rejects the promise', async (_what, make, code, reason) => {
    await make();
    await expect(open({ maxBytes: 1000 })).rejects.toMatchObject({
      name: 'MeshFileError',
      code,
      path,
      message: expect.stringContaining(reason),
    });
    expect(snapshots).toEqual([]);
    expect(errors).toEqual([]);
  });

  it('that the taker refuses rejects the promise, with its field', async () => {
    await writeFile(path, mesh('a', 'b'));
    const state = new MeshState(undefined, { maxEntries: 1 });
    await expect(open({ onSnapshot: (snapshot) => state.replace(snapshot) })).rejects.toMatchObject({
      code: 'ERR_DISCOVERY_FILE_REFUSED',
      cause: { code: 'ERR_DISCOVERY_LIMIT' },
    });
  });

  it('is not waited for when the signal has been aborted', async () => {
    await writeFile(path, mesh('a'));
    await expect(open({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  });
});

describe('createFileSource: what it follows', () => {
  beforeEach(() => writeFile(path, mesh('a')));

  it('writing in place', async () => {
    await open();
    await writeFile(path, mesh('a', 'b'));
    await seen(snapshots, 2);
    expect(snapshots).toEqual(['a', 'a,b']);
  });

  it('a rename over it', async () => {
    await open();
    for (const name of ['b', 'c', 'd']) {
      await put(mesh(name));
      await vi.waitFor(() => expect(snapshots.at(-1)).toBe(name), 5000);
    }
    expect(errors).toEqual([]);
  });

  it('the swap of ..data, as Kubernetes does it for a ConfigMap', async () => {
    // /volume/mesh.yaml -> ..data/mesh.yaml, ..data -> ..v1; a new version is a new directory and a renamed link.
    const volume = join(directory, 'volume');
    const version = async (name: string, workload: string) => {
      await mkdir(join(volume, name), { recursive: true });
      await writeFile(join(volume, name, 'mesh.yaml'), mesh(workload));
      await symlink(name, join(volume, '..data_tmp'));
      await rename(join(volume, '..data_tmp'), join(volume, '..data'));
    };
    await version('..v1', 'one');
    await symlink('..data/mesh.yaml', join(volume, 'mesh.yaml'));
    await open({ path: join(volume, 'mesh.yaml') });
    for (const [name, workload] of [
      ['..v2', 'two'],
      ['..v3', 'three'],
    ] as const) {
      await version(name, workload);
      await vi.waitFor(() => expect(snapshots.at(-1)).toBe(workload), 5000);
    }
    await rm(join(volume, '..v1'), { recursive: true });
    await quiet();
    expect(snapshots).toEqual(['one', 'two', 'three']);
    expect(errors).toEqual([]);
  });

  it('a symbolic link into another directory, and the file there', async () => {
    const elsewhere = join(directory, 'elsewhere');
    await mkdir(elsewhere);
    await writeFile(join(elsewhere, 'real.yaml'), mesh('real'));
    await unlink(path);
    await symlink(join(elsewhere, 'real.yaml'), path);
    await open();
    await writeFile(join(elsewhere, 'real.yaml'), mesh('changed'));
    await seen(snapshots, 2);
    expect(snapshots).toEqual(['real', 'changed']);
  });

  it('by polling alone, where the file system tells nothing', async () => {
    await open({ watch: false, pollIntervalMs: 20 });
    await writeFile(path, mesh('b'));
    await seen(snapshots, 2);
    expect(snapshots).toEqual(['a', 'b']);
  });

  it('its directory being replaced, by polling', async () => {
    const inner = join(directory, 'inner');
    await mkdir(inner);
    await writeFile(join(inner, 'mesh.yaml'), mesh('before'));
    await open({ path: join(inner, 'mesh.yaml'), pollIntervalMs: 20 });
    await rm(inner, { recursive: true });
    await seen(errors, 1);
    await mkdir(inner);
    await writeFile(join(inner, 'mesh.yaml'), mesh('after'));
    await seen(snapshots, 2);
    expect(errors[0]?.code).toBe('ERR_DISCOVERY_FILE_MISSING');
    expect(snapshots).toEqual(['before', 'after']);
  });

  it('another directory moved into its place, and what is written there then', async () => {
    const inner = join(directory, 'inner');
    const next = join(directory, 'next');
    for (const [folder, name] of [
      [inner, 'before'],
      [next, 'after'],
    ] as const) {
      await mkdir(folder);
      await writeFile(join(folder, 'mesh.yaml'), mesh(name));
    }
    path = join(inner, 'mesh.yaml');
    await open();
    await rename(inner, join(directory, 'old'));
    await rename(next, inner);
    await vi.waitFor(() => expect(snapshots.at(-1)).toBe('after'), 5000);
    await put(mesh('later'));
    await vi.waitFor(() => expect(snapshots.at(-1)).toBe('later'), 5000);
  });

  it('the last of many that come faster than they can be read', async () => {
    await open({ debounceMs: 0 });
    for (let at = 0; at < 300; at++) await put(mesh(`w${at}`));
    await vi.waitFor(() => expect(snapshots.at(-1)).toBe('w299'), 5000);
    for (const error of errors) expect(error.message).toContain('changed during each of 10 reads');
  });

  it('but not a touch, nor other files beside it', async () => {
    await open();
    await utimes(path, new Date(), new Date());
    await writeFile(join(directory, 'other.yaml'), mesh('other'));
    await quiet();
    expect(snapshots).toEqual(['a']);
    expect(errors).toEqual([]);
  });

  it('even beside a file that is written without a pause', async () => {
    await open({ debounceMs: 30 });
    let writing = true;
    const noise = (async () => {
      while (writing) {
        await writeFile(join(directory, 'log'), 'x');
        await new Promise((done) => setTimeout(done, 5));
      }
    })();
    await writeFile(path, mesh('b'));
    await seen(snapshots, 2);
    writing = false;
    await noise;
    expect(snapshots).toEqual(['a', 'b']);
  });
});

describe('createFileSource: what it refuses', () => {
  beforeEach(() => writeFile(path, mesh('a')));

  it('bad content, once, with its place; what was in force stays; good content follows', async () => {
    const opened = await open();
    await put(`${mesh('b')}- {name: c}\n`);
    await seen(errors, 1);
    expect(errors[0]).toMatchObject({
      code: 'ERR_DISCOVERY_FILE_CONTENT',
      line: 3,
      column: 3,
      field: 'workloads[1]',
      message: `discovery.file: workloads[1]: the key "workloadIps" is missing (${path}:3:3)`,
    });
    expect(opened.lastError).toBe(errors[0]);
    expect(namesOf(opened.current)).toBe('a');
    await utimes(path, new Date(), new Date());
    await quiet();
    expect(errors).toHaveLength(1);
    await put(mesh('a'));
    await seen(snapshots, 2);
    expect(opened.lastError).toBeUndefined();
  });

  it('a file that is gone, until it is back', async () => {
    const opened = await open();
    await unlink(path);
    await seen(errors, 1);
    expect(errors[0]?.code).toBe('ERR_DISCOVERY_FILE_MISSING');
    expect(namesOf(opened.current)).toBe('a');
    await put(mesh('a'));
    await seen(snapshots, 2);
    expect(opened.lastError).toBeUndefined();
  });

  it('a file cut to nothing', async () => {
    const opened = await open();
    await truncate(path);
    await seen(errors, 1);
    expect(errors[0]?.message).toContain('the file is empty');
    expect(namesOf(opened.current)).toBe('a');
  });

  it('a snapshot that the taker throws at', async () => {
    const state = new MeshState(undefined, { maxEntries: 1 });
    const opened = await open({ onSnapshot: (snapshot) => state.replace(snapshot) });
    await put(mesh('b', 'c'));
    await seen(errors, 1);
    expect(errors[0]).toMatchObject({ code: 'ERR_DISCOVERY_FILE_REFUSED', cause: { code: 'ERR_DISCOVERY_LIMIT' } });
    expect(namesOf(opened.current)).toBe('a');
    expect(state.snapshot().workloads.map((workload) => workload.name)).toEqual(['a']);
  });

  it('nothing of a truncate-and-fill that is quicker than the debounce', async () => {
    await open({ debounceMs: 500 });
    await truncate(path);
    await writeFile(path, 'workloads:\n');
    await writeFile(path, mesh('b'));
    await seen(snapshots, 2);
    expect(errors).toEqual([]);
    expect(snapshots).toEqual(['a', 'b']);
  });
});

describe('createFileSource: its end', () => {
  it.each([
    ['close()', (opened: FileSource, _controller: AbortController) => opened.close()],
    ['its disposal', (opened: FileSource, _controller: AbortController) => opened[Symbol.asyncDispose]()],
    ['its signal', async (_opened: FileSource, controller: AbortController) => controller.abort()],
  ])('%s ends the callbacks, and may come twice', async (_what, end) => {
    await writeFile(path, mesh('a'));
    const controller = new AbortController();
    const opened = await open({ signal: controller.signal, pollIntervalMs: 20 });
    await end(opened, controller);
    await writeFile(path, mesh('b'));
    await quiet();
    await end(opened, controller);
    expect(snapshots).toEqual(['a']);
    expect(namesOf(opened.current)).toBe('a');
  });
});
