import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { accepted } from './lab.ts';

describe('listen', () => {
  it('gives a listening net.Server', async () => {
    const server = await listen({ host: '127.0.0.1', port: 0 });
    expect(server.listening).toBe(true);
    expect(server.address()).toMatchObject({ address: '127.0.0.1', family: 'IPv4' });
    server.close();
    await once(server, 'close');
  });

  it('leaves no descriptor once closed', async () => {
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 50; i++) {
      const server = await listen({ host: '127.0.0.1', port: 0 });
      await new Promise((closed) => server.close(closed));
    }
    expect(readdirSync('/proc/self/fd').length).toBeLessThan(before + 25);
  });

  it('rejects with the system call that failed', async () => {
    const server = await listen({ host: '127.0.0.1', port: 0 });
    const { port } = server.address() as { port: number };
    await expect(listen({ host: '127.0.0.1', port })).rejects.toThrow(
      expect.objectContaining({ name: 'SystemError', code: 'EADDRINUSE' }),
    );
    server.close();
  });

  it('is closed by its signal, before and after', async () => {
    const reason = new Error('never mind');
    await expect(listen({ host: '::1', port: 0, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const abort = new AbortController();
    const server = await listen({ host: '::1', port: 0, signal: abort.signal });
    abort.abort();
    await once(server, 'close');
    expect(server.listening).toBe(false);
  });

  it('passes pauseOnConnect on', async () => {
    const server = await listen({ host: '127.0.0.1', port: 0, pauseOnConnect: true });
    const arriving = accepted(server);
    const client = await connect({ host: '127.0.0.1', port: (server.address() as { port: number }).port });
    const socket = await arriving;
    expect(socket.isPaused()).toBe(true);
    client.destroy();
    socket.destroy();
    server.close();
  });
});

describeRequiring('listen in a namespace', { root: true, tools: ['ip', 'ss'] }, () => {
  it('keeps the backlog that was asked for', () =>
    withNamespaces(['a'], async (a) => {
      const server = await listen({ namespace: a, host: '::', port: 15_008, backlog: 9 });
      expect(runIn(a, 'ss', '-ltnH')).toMatch(/LISTEN +0 +9 +\*:15008/);
      server.close();
    }));

  it('serves clients of that namespace', () =>
    withNamespaces(['a'], async (a) => {
      runIn(a, 'ip', 'link', 'set', 'lo', 'up');
      const server = await listen({ namespace: a, host: '127.0.0.1', port: 80 });
      server.on('connection', (socket) => socket.end('inside'));
      const client = await connect({ namespace: a, host: '127.0.0.1', port: 80 });
      expect(String((await once(client, 'data'))[0])).toBe('inside');
      client.destroy();
      server.close();
    }));
});
