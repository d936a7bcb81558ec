import { closeSync, openSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import {
  createNamespace,
  currentNamespace,
  deleteNamespace,
  listNamespaces,
  namespacePath,
  openNamespace,
} from '../../src/netns/index.ts';
import { withNamespaces } from '../support/namespaces.ts';
import { describeRequiring, run } from '../support/require.ts';

const name = `akt-${process.pid}-named`;

describeRequiring('named namespaces', { root: true, tools: ['ip'] }, () => {
  afterEach(() => deleteNamespace(name, { missingOk: true }));

  it('creates what `ip netns` sees and enters', () => {
    using created = createNamespace(name);
    expect(created.name).toBe(name);
    expect(listNamespaces()).toContain(name);
    expect(run('ip', 'netns', 'list').split(/\s/)).toContain(name);
    expect(run('ip', 'netns', 'exec', name, 'readlink', '/proc/self/ns/net').trim()).toBe(`net:[${created.inode}]`);
    expect(currentNamespace().inode).not.toBe(created.inode);
  });

  it('opens what `ip netns add` made, and `ip netns delete` deletes what it made', () => {
    run('ip', 'netns', 'add', name);
    openNamespace(name).close();
    deleteNamespace(name);
    createNamespace(name).close();
    run('ip', 'netns', 'delete', name);
    expect(listNamespaces()).not.toContain(name);
  });

  it('opens the same namespace by name, by path and by a process that is in it', () => {
    using byName = createNamespace(name);
    using byPath = openNamespace(namespacePath(name));
    expect(byPath.inode).toBe(byName.inode);
    expect(byPath.name).toBeUndefined();
    using own = currentNamespace();
    using byProcess = openNamespace({ pid: process.pid });
    expect(byProcess.inode).toBe(own.inode);
  });

  it('refuses a name that is taken, and leaves the namespace that has it alone', () => {
    using first = createNamespace(name);
    expect(() => createNamespace(name)).toThrow(expect.objectContaining({ code: 'ERR_NETNS_EXISTS' }));
    using again = openNamespace(name);
    expect(again.inode).toBe(first.inode);
  });

  it('deletes a name once, and twice only when told that it may be missing', () => {
    createNamespace(name).close();
    deleteNamespace(name);
    expect(listNamespaces()).not.toContain(name);
    expect(() => deleteNamespace(name)).toThrow(expect.objectContaining({ code: 'ERR_NETNS_NOT_FOUND' }));
    expect(() => deleteNamespace(name, { missingOk: true })).not.toThrow();
  });

  it('deletes a name that a reboot left behind as an empty file, and does not open it', () => {
    createNamespace(name).close();
    deleteNamespace(name);
    closeSync(openSync(namespacePath(name), 'wx'));
    expect(() => openNamespace(name)).toThrow(expect.objectContaining({ code: 'ERR_NETNS_NOT_A_NAMESPACE' }));
    deleteNamespace(name);
    expect(listNamespaces()).not.toContain(name);
  });

  it('an open namespace outlives its name', () =>
    withNamespaces(['outlives'], (namespace) => {
      deleteNamespace(namespace.name!);
      expect(namespace.run(() => currentNamespace().inode)).toBe(namespace.inode);
    }));

  it.each(['', '.', '..', 'a/b', '/run/netns/a', 'a\0b', 'ä'.repeat(128)])('refuses the name %j', (bad) => {
    const fault = expect.objectContaining({ code: 'ERR_NETNS_NAME', field: 'name' });
    expect(() => createNamespace(bad)).toThrow(fault);
    expect(() => deleteNamespace(bad)).toThrow(fault);
  });

  it('refuses what is missing, what is no namespace and what is no process', () => {
    const missing = expect.objectContaining({ code: 'ERR_NETNS_NOT_FOUND' });
    expect(() => openNamespace('akt-never-made')).toThrow(missing);
    expect(() => openNamespace('/run/akt-never-made')).toThrow(missing);
    expect(() => openNamespace({ pid: 2 ** 30 })).toThrow(missing);
    expect(() => openNamespace({ pid: -1 })).toThrow(expect.objectContaining({ code: 'ERR_NETNS_PID', field: 'pid' }));
    const file = join(tmpdir(), `${name}.txt`);
    writeFileSync(file, 'not a namespace');
    try {
      expect(() => openNamespace(file)).toThrow(expect.objectContaining({ code: 'ERR_NETNS_NOT_A_NAMESPACE' }));
    } finally {
      unlinkSync(file);
    }
  });
});
