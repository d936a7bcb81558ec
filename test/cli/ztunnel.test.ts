import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ztunnelCommand } from '../../src/cli/ztunnel.ts';
import { CertificateAuthority } from '../../src/identity/index.ts';
import { describeRequiring } from '../support/require.ts';
import { receiveBody, sendBody } from '../ztunnel/bodies.ts';
import {
  EchoServer,
  eventually,
  HTTPBIN,
  Mesh,
  type NodeName,
  parseAccessLine,
  untilEnd,
  VIP,
} from '../ztunnel/mesh.ts';

const entry = join(import.meta.dirname, '../../src/cli/main.ts');

/** Runs `ambient ztunnel` to its end. */
async function run(args: string[], env: Record<string, string>) {
  const child = spawn(process.execPath, [entry, 'ztunnel', ...args], { env: { PATH: process.env.PATH, ...env } });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}

describe('ambient ztunnel: what it is told by arguments and variables', () => {
  let folder: string;
  let complete: Record<string, string>;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ambient-cli-'));
    complete = { AMBIENT_NETNS: 'none', NODE_NAME: 'a', LOCAL_XDS_PATH: '/nowhere', AMBIENT_CA_DIR: folder };
    const authority = (await CertificateAuthority.create({ trustDomain: 'cluster.local' })).export();
    writeFileSync(join(folder, 'chain.pem'), authority.chainPem);
    writeFileSync(join(folder, 'roots.pem'), authority.rootsPem);
    writeFileSync(join(folder, 'key.pem'), authority.keyPem);
    mkdirSync(join(folder, 'empty'));
    mkdirSync(join(folder, 'mixed'));
    for (const name of ['chain.pem', 'roots.pem']) {
      writeFileSync(join(folder, 'mixed', name), readFileSync(join(folder, name)));
    }
    const other = (await CertificateAuthority.create({ trustDomain: 'cluster.local' })).export();
    writeFileSync(join(folder, 'mixed', 'key.pem'), other.keyPem);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('--help names every variable and ends with 0', async () => {
    const { code, stdout, stderr } = await run(['--help'], {});
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const name of [
      ...['AMBIENT_NETNS', 'NODE_NAME', 'LOCAL_XDS_PATH', 'AMBIENT_CA_DIR', 'TRUST_DOMAIN'],
      ...['PROXY_MODE', 'AMBIENT_PODS_PATH', 'PROXY_WORKLOAD_INFO', 'IPV6_ENABLED'],
      ...['AMBIENT_DECISION_LOG', 'AMBIENT_EARLY_DATA', 'AMBIENT_BUSY_POLL_US'],
    ]) {
      expect(stdout).toContain(name);
    }
  });

  it('a variable that is missing ends the process with 2', async () => {
    const { code, stdout, stderr } = await run([], { ...complete, NODE_NAME: '' });
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^ambient ztunnel: [^\n]*NODE_NAME[^\n]*\n$/);
  });

  it('an option that there is not: one line, exit 2', async () => {
    const { code, stderr } = await run(['--verbose'], complete);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^[^\n]*--verbose[^\n]*--help[^\n]*\n$/);
  });

  const bad: [variable: string, what: string, value: string | undefined, more?: Record<string, string>][] = [
    ['AMBIENT_NETNS', 'not set', undefined],
    ['NODE_NAME', 'not set', undefined],
    ['LOCAL_XDS_PATH', 'not set', undefined],
    ['AMBIENT_CA_DIR', 'not set', undefined],
    ['AMBIENT_CA_DIR', 'a folder without an authority', 'empty'],
    ['AMBIENT_CA_DIR', 'a key of another authority', 'mixed'],
    ['TRUST_DOMAIN', 'no trust domain', 'Not A Domain'],
    ['PROXY_MODE', 'a mode that there is not', 'sidecar'],
    ['AMBIENT_PODS_PATH', 'not set in shared mode', undefined, { PROXY_MODE: 'shared' }],
    ['PROXY_WORKLOAD_INFO', 'two parts', 'default/sleep', { PROXY_MODE: 'dedicated' }],
    ['PROXY_WORKLOAD_INFO', 'an empty part', 'default//sleep', { PROXY_MODE: 'dedicated' }],
    ['IPV6_ENABLED', 'neither true nor false', 'maybe', { PROXY_MODE: 'shared', AMBIENT_PODS_PATH: 'x' }],
    ['LOG_FORMAT', 'a format that there is not', 'xml'],
    ['SECRET_TTL', 'no duration', 'soon'],
    ['AMBIENT_EARLY_DATA', 'neither true nor false', 'maybe'],
    ['AMBIENT_BUSY_POLL_US', 'no number', '100us'],
    ['AMBIENT_BUSY_POLL_US', 'more than there can be', '1001'],
    ['ZTUNNEL_WORKER_THREADS', 'more than there can be', '65'],
    ['HTTP2_FRAME_SIZE', 'less than RFC 9113 section 6.5.2 allows', '100'],
  ];
  for (const [variable, what, value, more] of bad) {
    it(`${variable}, ${what}: one line that names it, exit 2`, async () => {
      const env: Record<string, string | undefined> = { ...complete };
      env[variable] = variable === 'AMBIENT_CA_DIR' && value !== undefined ? join(folder, value) : value;
      Object.assign(env, more);
      for (const [name, text] of Object.entries(env)) vi.stubEnv(name, text);
      const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
      let code: number;
      let stderr: string;
      try {
        code = await ztunnelCommand([]);
        stderr = write.mock.calls.map(([text]) => text).join('');
      } finally {
        write.mockRestore();
        vi.unstubAllEnvs();
      }
      expect(code).toBe(2);
      expect(stderr).toMatch(/^ambient ztunnel: [^\n]+\n$/);
      expect(stderr).toContain(variable);
      expect(stderr).not.toContain('PRIVATE KEY');
    });
  }

  it('a start that fails: one line in the log’s form, exit 1', async () => {
    const { code, stdout } = await run([], complete);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^\d{4}-[^\t]+Z\terror\tztunnel\t[^\n]+\n$/);
  });
});

describeRequiring('ambient ztunnel: a process of its own', { root: true, tools: ['mkfifo'] }, () => {
  let mesh: Mesh;
  const children: ChildProcess[] = [];

  beforeAll(async () => {
    mesh = await Mesh.start({ prefix: `zc${process.pid % 1000}-`, proxies: [] });
    await mesh.serve('httpbin', 80, new EchoServer().handle);
    await mesh.serve('httpbin', 81, async (socket) => socket.end((await receiveBody(socket)).digest));
    await mesh.serve('httpbin', 82, (socket) => {
      socket.once('data', (size) => void sendBody(socket, Number(size.toString())));
    });
    for (const node of ['a', 'b'] as const) {
      const { chainPem, keyPem, rootsPem } = (await mesh.authority.createIntermediate({ name: node })).export();
      const folder = join(mesh.folder, `ca-${node}`);
      mkdirSync(folder);
      writeFileSync(join(folder, 'chain.pem'), chainPem);
      writeFileSync(join(folder, 'key.pem'), keyPem);
      writeFileSync(join(folder, 'roots.pem'), rootsPem);
    }
  });
  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  });
  afterAll(() => mesh?.[Symbol.asyncDispose]());

  let logs = 0;

  /** Starts a proxy with its standard output in a file, or at `stdoutFd`, and waits until it is ready. */
  async function start(node: NodeName, env: Record<string, string> = {}, stdoutFd?: number) {
    const logPath = join(mesh.folder, `child-${node}-${logs++}.log`);
    const fd = stdoutFd ?? openSync(logPath, 'a');
    const child = spawn(process.execPath, [entry, 'ztunnel'], {
      stdio: ['ignore', fd, 'inherit'],
      env: {
        PATH: process.env.PATH,
        AMBIENT_NETNS: `${mesh.prefix}ztunnel-${node}`,
        NODE_NAME: `node-${node}`,
        LOCAL_XDS_PATH: mesh.path,
        AMBIENT_CA_DIR: join(mesh.folder, `ca-${node}`),
        CONNECTION_TERMINATION_DEADLINE: '20s',
        ...env,
      },
    });
    children.push(child);
    const exited = once(child, 'exit').then(([code, signal]) => ({ code, signal }) as { code: number; signal: string });
    const log = () => readFileSync(logPath, 'utf8');
    if (stdoutFd === undefined) {
      closeSync(fd);
      await eventually(() => {
        if (child.exitCode !== null) throw new Error(log());
        return /\tready\n/.test(log());
      }, 15_000);
    }
    return { child, exited, log };
  }

  async function held() {
    const socket = await mesh.connect('sleep', VIP, 80);
    socket.write('hello');
    await new Promise((resolve) => socket.once('data', resolve));
    return socket;
  }

  const echo = async (text: string) => (await mesh.ask('sleep', VIP, 80, text)).received.toString();

  it('facts 1.11: SIGTERM lets an open connection finish, and ends with 0', { timeout: 40_000 }, async () => {
    const [a, b] = await Promise.all([start('a'), start('b', { LOG_FORMAT: 'json' })]);
    expect(await echo('at first')).toBe('at first');
    const json = await eventually(() =>
      b
        .log()
        .split('\n')
        .find((line) => line.startsWith('{')),
    );
    expect(JSON.parse(json)).toMatchObject({ scope: 'access', direction: 'inbound', bytes_recv: 8 });
    const socket = await held();
    a.child.kill('SIGTERM');
    await eventually(() => /\tSIGTERM: draining\n/.test(a.log()));
    const outcome = untilEnd(socket);
    socket.end(' to the end');
    expect((await outcome).received.toString()).toBe(' to the end');
    expect(await a.exited).toEqual({ code: 0, signal: null });
    const [ready, ...rest] = a.log().trimEnd().split('\n');
    expect(ready).toMatch(/^\S+Z\tinfo\tztunnel\tready$/);
    expect(rest.at(-1)).toMatch(/\tinfo\tztunnel\tdrained$/);
    const access = rest.filter((line) => line.includes('\taccess\t')).map(parseAccessLine);
    expect(access.map(({ fields }) => fields.bytes_sent)).toEqual(['8', '16']);
    b.child.kill('SIGINT');
    expect(await b.exited).toEqual({ code: 0, signal: null });
  });

  it('a second signal cuts, and the deadline does', { timeout: 40_000 }, async () => {
    const [a] = await Promise.all([start('a'), start('b', { CONNECTION_TERMINATION_DEADLINE: '300ms' })]);
    const outcome = untilEnd(await held());
    a.child.kill('SIGTERM');
    await eventually(() => /\tSIGTERM: draining\n/.test(a.log()));
    a.child.kill('SIGTERM');
    expect((await outcome).error).toBe('ECONNRESET');
    expect(await a.exited).toEqual({ code: 0, signal: null });
    expect(a.log()).toContain('error="connection closed due to connection drain"');

    await start('a');
    const second = untilEnd(await held());
    children[1]!.kill('SIGTERM');
    expect((await second).error).toBe('ECONNRESET');
  });

  it('killed outright, and started again at once: the ports are there', { timeout: 40_000 }, async () => {
    const [a] = await Promise.all([start('a'), start('b')]);
    const outcome = untilEnd(await held());
    a.child.kill('SIGKILL');
    expect(await a.exited).toEqual({ code: null, signal: 'SIGKILL' });
    await outcome;
    await start('a');
    expect(await echo('again')).toBe('again');
  });

  it('a reader of the log that stands still holds nobody up, and gets every line later', {
    timeout: 40_000,
  }, async () => {
    const fifo = join(mesh.folder, 'log.fifo');
    execFileSync('mkfifo', [fifo]);
    const fd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      await Promise.all([start('a', {}, fd), start('b')]);
      await eventually(async () => (await mesh.ask('sleep', VIP, 80, 'first')).received.length === 5, 15_000);
      // A pipe holds 64 KiB; a line of these has some 400 bytes.
      for (let i = 0; i < 300; i++) expect(await echo('x')).toBe('x');
      let text = '';
      const chunk = Buffer.alloc(65_536);
      const lines = await eventually(() => {
        try {
          text += chunk.toString('utf8', 0, readSync(fd, chunk));
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
        }
        const complete = text.split('\n').filter((line) => line.includes('bytes_sent=1 '));
        return complete.length >= 300 && complete;
      });
      expect(lines.length).toBe(300);
      for (const line of lines) parseAccessLine(line);
    } finally {
      closeSync(fd);
    }
  });

  it('256 MiB each way arrive whole, and memory stays flat over more', { timeout: 120_000 }, async () => {
    const [a, b] = await Promise.all([start('a'), start('b')]);
    const transfer = async (host: string, mebibytes: number) => {
      const up = await mesh.connect('sleep', host, 81);
      const answer = untilEnd(up);
      const sent = await sendBody(up, mebibytes << 20);
      expect((await answer).received.toString()).toBe(sent);
      const down = await mesh.connect('sleep', host, 82);
      down.write(String(mebibytes << 20));
      expect(await receiveBody(down)).toEqual({ bytes: mebibytes << 20, digest: sent });
      down.end();
    };
    const residentMiB = () =>
      [a, b].map(({ child }) => {
        const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
        return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
      });
    await transfer(HTTPBIN, 256);
    const before = residentMiB();
    for (let round = 0; round < 3; round++) await transfer(HTTPBIN, 64);
    residentMiB().forEach((after, i) => {
      expect(after - before[i]!).toBeLessThan(40);
    });
  });
});

describeRequiring('ambient ztunnel: PROXY_MODE=shared', { root: true }, () => {
  it('serves the pods of its file as that changes, from the namespace that it was started in', {
    timeout: 60_000,
  }, async () => {
    await using mesh = await Mesh.start({ prefix: `zf${process.pid % 1000}-`, mode: 'pod', proxies: ['b'] });
    await mesh.serve('httpbin', 80, new EchoServer().handle);
    const folder = join(mesh.folder, 'ca');
    mkdirSync(folder);
    const { chainPem, keyPem, rootsPem } = (await mesh.authority.createIntermediate({ name: 'a' })).export();
    for (const [name, pem] of Object.entries({ chain: chainPem, key: keyPem, roots: rootsPem })) {
      writeFileSync(join(folder, `${name}.pem`), pem);
    }
    const podsPath = join(mesh.folder, 'pods.yaml');
    const pods = (...names: string[]) =>
      `pods: ${JSON.stringify(names.map((name) => ({ ...mesh.pod(name), uid: name })))}\n`;
    writeFileSync(podsPath, pods('sleep', 'nobody'));
    let log = '';
    const child = spawn(process.execPath, [entry, 'ztunnel'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: process.env.PATH,
        PROXY_MODE: 'shared',
        AMBIENT_PODS_PATH: podsPath,
        NODE_NAME: 'node-a',
        LOCAL_XDS_PATH: mesh.path,
        AMBIENT_CA_DIR: folder,
        ZTUNNEL_WORKER_THREADS: '2',
      },
    });
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      log += text;
    });
    try {
      await eventually(() => /\tready\n/.test(log), 15_000);
      // One pod that is not there holds up nobody, and is told of.
      expect(log).toMatch(/\twarn\tztunnel\tpods: [^\n]*nobody[^\n]*does not exist\n/);
      const echo = async () => {
        const { received } = await mesh.ask('sleep', VIP, 80, 'x');
        return received.toString() === 'x';
      };
      expect(await echo()).toBe(true);
      writeFileSync(podsPath, 'pods: [{uid: sleep}]\n');
      await eventually(() => /\twarn\tztunnel\tpods: [^\n]*pods\.yaml:1:/.test(log));
      expect(await echo()).toBe(true);
      writeFileSync(podsPath, pods());
      await eventually(async () => !(await echo()));
      writeFileSync(podsPath, pods('sleep'));
      await eventually(echo);
      child.kill('SIGTERM');
      const [code] = await once(child, 'exit');
      expect(code).toBe(0);
      expect(log).toMatch(/\tdrained\n$/);
    } finally {
      child.kill('SIGKILL');
    }
  });
});
