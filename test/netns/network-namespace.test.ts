import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { currentNamespace, namespacePath } from '../../src/netns/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

const page = new URL('../../src/netns/index.ts', import.meta.url).href;
const here = () => {
  using namespace = currentNamespace();
  return namespace.inode;
};

describeRequiring('NetworkNamespace.run', { root: true, tools: ['ip', 'ss'] }, () => {
  it('runs inside and comes back, with what the function returned', () =>
    withNamespaces(['a'], (a) => {
      const home = here();
      expect(a.run(here)).toBe(a.inode);
      expect(here()).toBe(home);
    }));

  it('comes back to the home that it is told of, and goes nowhere where that is closed', () =>
    withNamespaces(['inside'], async (inside) => {
      const home = currentNamespace();
      const before = home.inode;
      expect(inside!.run(() => here(), home)).toBe(inside!.inode);
      expect(here()).toBe(before);
      home.close();
      let called = false;
      const enter = () => inside!.run(() => (called = true), home);
      expect(enter).toThrow(expect.objectContaining({ code: 'ERR_NETNS_HOME' }));
      expect([called, here()]).toEqual([false, before]);
    }));

  it('comes back when the function throws', () =>
    withNamespaces(['a'], (a) => {
      const home = here();
      const fault = new Error('from inside');
      expect(() =>
        a.run(() => {
          throw fault;
        }),
      ).toThrow(fault);
      expect(here()).toBe(home);
    }));

  it('nests, and each level comes back to the one around it', () =>
    withNamespaces(['a', 'b'], (a, b) => {
      const seen = a!.run(() => [here(), b!.run(here), here()]);
      expect(seen).toEqual([a!.inode, b!.inode, a!.inode]);
    }));

  it('comes back even when the function closes the namespace', () =>
    withNamespaces(['a'], (a) => {
      const home = here();
      a.run(() => a.close());
      expect(here()).toBe(home);
      expect(() => a.run(here)).toThrow(expect.objectContaining({ code: 'ERR_SYSTEM_CLOSED' }));
    }));

  it('does not call an async function, and refuses a promise', async () =>
    withNamespaces(['a'], async (a) => {
      const refused = expect.objectContaining({ code: 'ERR_NETNS_ASYNC' });
      let called = false;
      expect(() =>
        a.run(async () => {
          called = true;
        }),
      ).toThrow(refused);
      expect(called).toBe(false);
      const home = here();
      expect(() => a.run(() => Promise.reject(new Error('unheard')))).toThrow(refused);
      expect(here()).toBe(home);
    }));

  it('a server made inside listens there and not here', () =>
    withNamespaces(['a'], async (a) => {
      const server = a.run(() => createServer().listen(34_567));
      try {
        expect(runIn(a, 'ss', '-ltnH', 'sport', '=', '34567')).toContain('*:34567');
      } finally {
        await new Promise((closed) => server.close(closed));
      }
    }));

  it('leaves no descriptor behind', () =>
    withNamespaces(['a'], (a) => {
      const open = () => readdirSync('/proc/self/fd').length;
      a.run(here);
      const before = open();
      for (let i = 0; i < 50; i++) a.run(here);
      expect(open()).toBe(before);
    }));

  it('enters in a worker without moving the main thread', () =>
    withNamespaces(['a'], async (a) => {
      const source = `
        const { parentPort, workerData } = require('node:worker_threads');
        import(workerData.page).then(({ openNamespace, currentNamespace }) => {
          const namespace = openNamespace(workerData.path);
          const before = currentNamespace().inode;
          namespace.run(() => {
            parentPort.postMessage({ inside: currentNamespace().inode });
            Atomics.wait(workerData.gate, 0, 0, 10_000);
          });
          parentPort.postMessage({ before, after: currentNamespace().inode });
        });`;
      const gate = new Int32Array(new SharedArrayBuffer(4));
      const worker = new Worker(source, { eval: true, workerData: { page, path: namespacePath(a.name!), gate } });
      const messages: Record<string, number>[] = [];
      let mainWhileInside: number | undefined;
      await new Promise<void>((resolve, reject) => {
        worker.on('error', reject);
        worker.on('exit', () => resolve());
        worker.on('message', (message) => {
          messages.push(message);
          if (message.inside === undefined) return;
          mainWhileInside = here();
          Atomics.store(gate, 0, 1);
          Atomics.notify(gate, 0);
        });
      });
      const home = here();
      expect(messages).toEqual([{ inside: a.inode }, { before: home, after: home }]);
      expect(mainWhileInside).toBe(home);
    }));

  // A lookup is made by libuv's thread pool, whose threads keep the namespace that they are born in.
  it('does not leave the thread pool inside', () =>
    withNamespaces(['a'], (a) => {
      const child = `
        import { readdirSync, readlinkSync, readFile } from 'node:fs';
        import { openNamespace, currentNamespace } from ${JSON.stringify(page)};
        const inside = openNamespace(${JSON.stringify(a.name)});
        await new Promise((done) => inside.run(() => { readFile('/proc/self/status', done); }));
        const homes = readdirSync('/proc/self/task').map((task) => readlinkSync('/proc/self/task/' + task + '/ns/net'));
        console.log(JSON.stringify([...new Set(homes)]), 'net:[' + currentNamespace().inode + ']');`;
      const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', child], {
        encoding: 'utf8',
        env: { ...process.env, UV_THREADPOOL_SIZE: '7' },
      });
      expect(stderr).toBe('');
      const home = `net:[${here()}]`;
      expect(stdout.trim()).toBe(`${JSON.stringify([home])} ${home}`);
    }));

  it.each(['main', 'worker'])('aborts the process rather than stay inside: %s thread', (thread) =>
    withNamespaces(['a'], (a) => {
      // Every descriptor of a namespace is closed under it, so that the way back is gone.
      const lost = `
        import { closeSync, readdirSync, readlinkSync } from 'node:fs';
        import { openNamespace } from ${JSON.stringify(page)};
        const inside = openNamespace(${JSON.stringify(a.name)});
        process.on('exit', () => console.log('went on'));
        try {
          inside.run(() => {
            for (const fd of readdirSync('/proc/self/fd')) {
              let target = '';
              try { target = readlinkSync('/proc/self/fd/' + fd); } catch {}
              if (target.startsWith('net:[')) closeSync(Number(fd));
            }
          });
        } finally { console.log('went on'); }`;
      const child =
        thread === 'main'
          ? lost
          : `import { Worker } from 'node:worker_threads'; process.on('SIGABRT', () => {});
             new Worker(new URL('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(lost))}));`;
      const { stdout, stderr, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', child], {
        encoding: 'utf8',
      });
      expect(stderr.split('\n')[0]).toBe(
        'ambient-kit: cannot return to the network namespace this thread came from (setns: EBADF), aborting',
      );
      expect(stdout).toBe('');
      expect(signal).toBe(thread === 'main' ? 'SIGABRT' : 'SIGKILL');
    }),
  );
});
