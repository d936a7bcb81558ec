import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { HttpConnection } from '../../src/cli/demo/http-client.ts';
import { knownBytes } from '../../src/cli/demo/pod-app.ts';
import { type NetworkNamespace, openNamespace } from '../../src/netns/index.ts';
import { connect } from '../../src/socket/index.ts';
import { describeRequiring } from '../support/require.ts';
import { ambient, freshPrefix, processesOf } from './ambient.ts';

const VIP = '10.96.0.105';
const GIB = 1 << 30;
const BODIES = 10;
/** Heaps breathe; a leak of a tenth of what passed would be twenty times this. */
const FLAT_BYTES = 64 << 20;

describeRequiring('the two-node mesh under load', { root: true }, () => {
  const prefix = freshPrefix();
  const { signal } = new AbortController();
  let sleep: NetworkNamespace;

  beforeAll(async () => {
    const { code, stderr } = await ambient(['demo', '--keep', '--prefix', prefix, '--scenario', 'fast-path']);
    if (code !== 0) throw new Error(stderr);
    sleep = openNamespace(`${prefix}sleep`);
  });

  afterAll(async () => {
    sleep?.close();
    await ambient(['demo', '--down', '--prefix', prefix]);
  });

  async function ask(path: string): Promise<string> {
    const connection = await HttpConnection.open(sleep, VIP, 80, signal);
    try {
      const { status, body } = await connection.get(path, {}, signal);
      const { app, origin, url } = JSON.parse(body);
      return `${status} ${app} ${origin} ${url}`;
    } finally {
      connection.close();
    }
  }

  it('1,000 connections one after another through the ClusterIP lose nothing', { timeout: 120_000 }, async () => {
    for (let i = 0; i < 1000; i++) expect(await ask(`/${i}`)).toBe(`200 httpbin 10.244.1.10 /${i}`);
  });

  it('64 at once, ten times, lose nothing', { timeout: 60_000 }, async () => {
    for (let round = 0; round < 10; round++) {
      const paths = Array.from({ length: 64 }, (_, i) => `/${round}/${i}`);
      const answers = await Promise.all(paths.map(ask));
      expect(answers).toEqual(paths.map((path) => `200 httpbin 10.244.1.10 ${path}`));
    }
  });

  it('64 requests at once on as many connections that stay open lose nothing', { timeout: 60_000 }, async () => {
    const connections = await Promise.all(
      Array.from({ length: 64 }, () => HttpConnection.open(sleep, VIP, 80, signal)),
    );
    try {
      for (let round = 0; round < 10; round++) {
        const answers = await Promise.all(connections.map((connection, i) => connection.get(`/${i}`, {}, signal)));
        expect(answers.map(({ status, body }) => `${status} ${JSON.parse(body).url}`)).toEqual(
          connections.map((_, i) => `200 /${i}`),
        );
      }
    } finally {
      for (const connection of connections) connection.close();
    }
  });

  it('a body of 1 GiB arrives whole in both directions, and ten leave memory flat', { timeout: 240_000 }, async () => {
    const expected = digestOf(knownBytes(GIB));
    expect(JSON.parse(await upload('/sha256', GIB))).toEqual({ length: GIB, sha256: expected });
    expect(await download(`/bytes/${GIB}`)).toBe(expected);
    const pids = ['ztunnel-a', 'ztunnel-b'].map((name) => processesOf(prefix).get(name)!);
    const first = pids.map(residentBytes);
    for (let body = 1; body < BODIES; body++) {
      expect(await download(`/bytes/${GIB}`)).toBe(expected);
      const growth = pids.map((pid, i) => residentBytes(pid) - first[i]!);
      expect(Math.max(...growth), `growth after body ${body + 1}`).toBeLessThan(FLAT_BYTES);
    }
  });

  async function send(path: string, method: string, body?: Readable): Promise<IncomingMessage> {
    const socket = await connect({ namespace: sleep, host: VIP, port: 80 });
    const agent = new Agent();
    agent.createConnection = () => socket;
    const request = httpRequest({ agent, host: VIP, path, method });
    const answer = new Promise<IncomingMessage>((resolve, reject) => {
      request.on('response', resolve);
      request.on('error', reject);
    });
    if (body === undefined) request.end();
    else await pipeline(body, request);
    return answer;
  }

  async function upload(path: string, bytes: number): Promise<string> {
    const body = Readable.from(knownBytes(bytes), { objectMode: false });
    let text = '';
    for await (const chunk of await send(path, 'POST', body)) text += chunk;
    return text;
  }

  async function download(path: string): Promise<string> {
    const hash = createHash('sha256');
    for await (const chunk of await send(path, 'GET')) hash.update(chunk);
    return hash.digest('hex');
  }
});

function digestOf(chunks: Iterable<Buffer>): string {
  const hash = createHash('sha256');
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex');
}

function residentBytes(pid: number): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  return Number(kibibytes) * 1024;
}
