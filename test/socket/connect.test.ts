import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { accepted, loadRules, withLab } from './lab.ts';

describe('connect', () => {
  it('gives a net.Socket that carries bytes both ways and keeps its half open', async () => {
    const server = await listen({ host: '::1', port: 0, allowHalfOpen: true });
    const { port } = server.address() as { port: number };
    server.once('connection', async (socket) => {
      const chunks: Buffer[] = [];
      for await (const chunk of socket) chunks.push(chunk);
      socket.end(Buffer.concat(chunks).reverse());
    });
    const client = await connect({ host: '::1', port, allowHalfOpen: true });
    client.end('abc');
    const chunks: Buffer[] = [];
    for await (const chunk of client) chunks.push(chunk);
    expect(Buffer.concat(chunks).toString()).toBe('cba');
    server.close();
  });

  it('loses nothing that arrives before somebody listens', async () => {
    const server = createServer((socket) => socket.end('early')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = await connect({ host: '127.0.0.1', port: (server.address() as { port: number }).port });
    await new Promise((later) => setTimeout(later, 50));
    expect(String((await once(client, 'data'))[0])).toBe('early');
    client.destroy();
    server.close();
  });

  it('binds the source address', async () => {
    const server = await listen({ host: '127.0.0.1', port: 0 });
    const arriving = accepted(server);
    const { port } = server.address() as { port: number };
    const client = await connect({ host: '127.0.0.1', port, source: { ip: '127.0.0.5' } });
    const socket = await arriving;
    expect(socket.remoteAddress).toBe('127.0.0.5');
    expect(client.localAddress).toBe('127.0.0.5');
    client.destroy();
    socket.destroy();
    server.close();
  });

  it('spreads connections over listeners that share a port', async () => {
    const first = await listen({ host: '127.0.0.1', port: 0, reusePort: true });
    const { port } = first.address() as { port: number };
    const second = await listen({ host: '127.0.0.1', port, reusePort: true });
    const counts = [0, 0];
    first.on('connection', (socket) => counts[0]!++ && socket);
    second.on('connection', (socket) => counts[1]!++ && socket);
    const clients = await Promise.all(Array.from({ length: 64 }, () => connect({ host: '127.0.0.1', port })));
    await expect.poll(() => counts[0]! + counts[1]!).toBe(64);
    expect(Math.min(...counts)).toBeGreaterThan(0);
    for (const client of clients) client.destroy();
    first.close();
    second.close();
  });

  it('says that nobody listens, as the system call that failed', async () => {
    const server = await listen({ host: '127.0.0.1', port: 0 });
    const { port } = server.address() as { port: number };
    await new Promise((closed) => server.close(closed));
    const refused = () => connect({ host: '127.0.0.1', port });
    await expect(refused()).rejects.toThrow(
      expect.objectContaining({
        name: 'SystemError',
        code: 'ECONNREFUSED',
        errno: 111,
        syscall: 'connect',
        message: `socket.connect: connect 127.0.0.1:${port} failed with ECONNREFUSED`,
      }),
    );
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 50; i++) await refused().catch(() => {});
    // Sockets of earlier tests may still be closing, so not to the last one.
    expect(readdirSync('/proc/self/fd').length).toBeLessThan(before + 25);
  });

  it('refuses bad input and an aborted signal', async () => {
    await expect(connect({ host: 'example.com', port: 80 })).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_IP_ADDRESS', field: 'host' }),
    );
    await expect(connect({ host: '127.0.0.1', port: 80, timeoutMs: 0 })).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_SOCKET_INVALID', field: 'timeoutMs' }),
    );
    const reason = new Error('changed my mind');
    await expect(connect({ host: '127.0.0.1', port: 80, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it('a signal aborted after the handshake does nothing', async () => {
    const server = await listen({ host: '127.0.0.1', port: 0 });
    const abort = new AbortController();
    const { port } = server.address() as { port: number };
    const client = await connect({ host: '127.0.0.1', port, signal: abort.signal });
    abort.abort();
    expect(client.destroyed).toBe(false);
    expect(client.listenerCount('error')).toBe(0);
    client.destroy();
    server.close();
  });
});

describeRequiring('connect into a black hole', { root: true, tools: ['ip', 'nft', 'ss'] }, () => {
  const drop = 'table inet lab { chain input { type filter hook input priority 0; tcp dport 80 drop; }; }';

  it('gives up after timeoutMs', () =>
    withLab(async (lab) => {
      loadRules(lab.proxy, drop);
      await expect(connect({ namespace: lab.client, host: '10.77.1.2', port: 80, timeoutMs: 150 })).rejects.toThrow(
        expect.objectContaining({
          code: 'ERR_SOCKET_TIMEOUT',
          message: 'socket.connect: 10.77.1.2:80 did not answer within 150 ms',
        }),
      );
      expect(runIn(lab.client, 'ss', '-tanH')).toBe('');
    }));

  it('gives up when aborted, with the reason', () =>
    withLab(async (lab) => {
      loadRules(lab.proxy, drop);
      const abort = new AbortController();
      const reason = new Error('enough');
      const attempt = connect({ namespace: lab.client, host: 'fd77:1::2', port: 80, signal: abort.signal });
      setTimeout(() => abort.abort(reason), 50);
      await expect(attempt).rejects.toBe(reason);
      expect(runIn(lab.client, 'ss', '-tanH')).toBe('');
    }));
});
