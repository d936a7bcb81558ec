import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  listNamespaces,
  NetnsError,
  runInUserNamespace,
  type UserNamespaceCommand,
  userNamespaceSupport,
} from '../../src/netns/index.ts';
import { processesIn } from '../support/pid-namespace.ts';
import { describeUnless } from '../support/require.ts';

const support = await userNamespaceSupport();
const obstacle = support.possible ? undefined : support.reason;
const page = new URL('../../src/netns/index.ts', import.meta.url).href;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'akt-userns-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a line of shell inside; gives the exit code, and what it wrote to $out, line by line. */
async function inside(script: string, options: Partial<UserNamespaceCommand> = {}) {
  const out = join(folder, 'out');
  rmSync(out, { force: true });
  const exitCode = await runInUserNamespace({
    ...options,
    command: 'sh',
    args: ['-c', script],
    environment: { ...process.env, ...options.environment, out, node: process.execPath },
  });
  return { exitCode, lines: readFileSync(out, 'utf8').trimEnd().split('\n') };
}

/** Runs a module inside that has the page as `netns`. */
function evaluate(source: string): string {
  const module = `import * as netns from ${JSON.stringify(page)}; ${source}`;
  return `"$node" --input-type=module --eval '${module.replaceAll("'", "'\\''")}' >"$out"`;
}

describeUnless(obstacle, 'in a user namespace', () => {
  it('a command is root, with lo up, and /run, /proc and /sys of its own', async () => {
    const script = 'id -u >"$out"; ls -A /run | wc -l >>"$out"; ls /sys/class/net >>"$out"; cat /proc/1/comm >>"$out"';
    expect(await inside(script)).toEqual({ exitCode: 0, lines: ['0', '0', 'lo', 'sh'] });
    const ask = evaluate(`
      const { connect, createServer } = await import("node:net");
      const server = createServer().listen(0, "127.0.0.1", () => connect(server.address().port, "127.0.0.1", () => {
        console.log("connected"); process.exit();
      }));`);
    expect(await inside(ask)).toEqual({ exitCode: 0, lines: ['connected'] });
  });

  it('named namespaces are made and entered, their sysctls written, and nobody outside sees them', async () => {
    const { exitCode, lines } = await inside(
      evaluate(`
        using pod = netns.createNamespace("akt-userns");
        netns.writeSysctl(pod, "net.ipv4.ip_forward", 1);
        console.log(netns.listNamespaces().join(), netns.readSysctl(pod, "net.ipv4.ip_forward"));
        console.log(netns.hasNamespacePrivileges(), netns.inUserNamespace());`),
    );
    expect({ exitCode, lines }).toEqual({ exitCode: 0, lines: ['akt-userns 1', 'true true'] });
    expect(listNamespaces()).not.toContain('akt-userns');
  });

  it('the variable has the process id that nsenter(1) needs', async () => {
    const out = join(folder, 'pid');
    const running = runInUserNamespace({
      command: 'sh',
      args: ['-c', `echo $outer $(readlink /proc/self/ns/pid) >${out}.new; mv ${out}.new ${out}; sleep 1`],
      pidVariable: 'outer',
    });
    await expect.poll(() => readdirSync(folder)).toContain('pid');
    const [pid, namespace] = readFileSync(out, 'utf8').trim().split(' ');
    expect(readlinkSync(`/proc/${pid}/ns/pid`)).toBe(namespace);
    await running;
  });

  it.each([
    ['exit 7', 7],
    ['kill -TERM $$', 128 + 15],
    ['exec /no/such/program', 127],
  ])('%s: exit code %i', async (script, exitCode) => {
    expect(await runInUserNamespace({ command: 'sh', args: ['-c', `${script} 2>/dev/null`] })).toBe(exitCode);
  });

  it('what the command leaves in the background ends with it', async () => {
    const { exitCode, lines } = await inside('readlink /proc/self/ns/pid >"$out"; (sleep 1000 & sleep 1001 &)');
    expect(exitCode).toBe(0);
    expect(processesIn(lines[0]!)).toEqual([]);
  });

  it('an abort ends all of it, and rejects with its reason', async () => {
    const abort = new AbortController();
    const out = join(folder, 'aborted');
    const script = `sleep 1000 & readlink /proc/self/ns/pid >${out}.new; mv ${out}.new ${out}; trap '' TERM INT; sleep 1001`;
    const running = runInUserNamespace({ command: 'sh', args: ['-c', script], signal: abort.signal });
    await expect.poll(() => readdirSync(folder)).toContain('aborted');
    const namespace = readFileSync(out, 'utf8').trim();
    expect(processesIn(namespace).length).toBeGreaterThan(1);
    abort.abort(new Error('enough'));
    await expect(running).rejects.toThrow('enough');
    expect(processesIn(namespace)).toEqual([]);
    await expect(runInUserNamespace({ command: 'true', signal: abort.signal })).rejects.toThrow('enough');
  });

  it('signals are heard by others again afterwards', async () => {
    const before = ['SIGINT', 'SIGTERM', 'SIGHUP'].map((name) => process.listenerCount(name));
    await runInUserNamespace({ command: 'true' });
    expect(['SIGINT', 'SIGTERM', 'SIGHUP'].map((name) => process.listenerCount(name))).toEqual(before);
  });

  it.each(['user', 'net', 'mnt', 'pid'])('user.max_%s_namespaces = 0 is named by the reason', async (kind) => {
    const ask = evaluate('console.log((await netns.userNamespaceSupport()).reason)');
    const { lines } = await inside(`echo 0 >/proc/sys/user/max_${kind}_namespaces; ${ask}`);
    expect(lines).toEqual([`no namespace of the kind \`${kind}\` may be made: user.max_${kind}_namespaces is 0`]);
  });
});

describe('runInUserNamespace', () => {
  it('where there is no unshare: ERR_NETNS_USER_NAMESPACE, which says where to get it', async () => {
    const error = await runInUserNamespace({ command: 'true', environment: { PATH: folder } }).catch(
      (thrown) => thrown,
    );
    expect(error).toBeInstanceOf(NetnsError);
    expect(error).toMatchObject({ code: 'ERR_NETNS_USER_NAMESPACE', op: 'netns.runInUserNamespace' });
    expect(error.message).toMatch(/there is no program `unshare` on the PATH: it is in the package util-linux$/);
  });

  it('a way in that takes too long is given up, and nothing stays of it', async () => {
    const slow = join(folder, 'slow');
    mkdirSync(slow);
    writeFileSync(join(slow, 'unshare'), `#!/bin/sh\necho $$ >${slow}/pid\nexec sleep 1000\n`, { mode: 0o755 });
    const environment = { PATH: `${slow}:${process.env.PATH}` };
    await expect(runInUserNamespace({ command: 'true', environment, timeoutMs: 300 })).rejects.toMatchObject({
      code: 'ERR_NETNS_USER_NAMESPACE',
      message: 'netns.runInUserNamespace: nothing happened for 300 ms',
    });
    const pid = readFileSync(join(slow, 'pid'), 'utf8').trim();
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });

  it.each([
    [{ command: '' }, 'command'],
    [{ command: 'true', args: ['a\0b'] }, 'args'],
    [{ command: 'true', pidVariable: 'a-b' }, 'pidVariable'],
    [{ command: 'true', timeoutMs: 0 }, 'timeoutMs'],
    [{ command: 'true', timeoutMs: Number.NaN }, 'timeoutMs'],
  ])('%j is refused by its field', async (options, field) => {
    await expect(runInUserNamespace(options)).rejects.toMatchObject({ code: 'ERR_NETNS_USER_NAMESPACE_INPUT', field });
  });
});
