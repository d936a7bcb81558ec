import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import {
  connect,
  listen,
  localAddress,
  openListener,
  originalDestination,
  peerAddress,
} from '../../src/socket/index.ts';
import { describeRequiring } from '../support/require.ts';
import { accepted, loadRules, withLab } from './lab.ts';

describeRequiring('originalDestination after REDIRECT', { root: true, tools: ['ip', 'nft'] }, () => {
  const redirect = `
    table inet lab {
      chain prerouting { type nat hook prerouting priority dstnat; iifname "inside" tcp dport 80 redirect to :15006; }
    }`;

  it.each([
    { family: 'IPv4', listener: '0.0.0.0', target: '203.0.113.10', local: '10.77.1.2' },
    { family: 'IPv4 on a dual-stack listener', listener: '::', target: '203.0.113.10', local: '10.77.1.2' },
    { family: 'IPv6', listener: '::', target: '2001:db8::10', local: 'fd77:1::2' },
  ])('is read from connection tracking: $family', ({ listener, target, local }) =>
    withLab(async (lab) => {
      loadRules(lab.proxy, redirect);
      const server = lab.own(await listen({ namespace: lab.proxy, host: listener, port: 15006 }));
      const arriving = accepted(server);
      lab.own(await connect({ namespace: lab.client, host: target, port: 80 }));
      const socket = lab.own(await arriving);
      expect(localAddress(socket)).toEqual({ ip: local, port: 15006 });
      expect(originalDestination(socket)).toEqual({ ip: target, port: 80 });
    }),
  );

  it.each(['10.77.1.2', 'fd77:1::2'])('is the local address of a tracked connection that nobody rewrote: %s', (ip) =>
    withLab(async (lab) => {
      loadRules(lab.proxy, redirect);
      const server = lab.own(await listen({ namespace: lab.proxy, host: '::', port: 15008 }));
      const arriving = accepted(server);
      lab.own(await connect({ namespace: lab.client, host: ip, port: 15008 }));
      expect(originalDestination(lab.own(await arriving))).toEqual({ ip, port: 15008 });
    }),
  );
});

describe('addresses of a socket', () => {
  it('without connection tracking, the original destination is the local address', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const arriving = accepted(server);
    const client = await connect({ host: '127.0.0.1', port });
    const socket = await arriving;
    expect(originalDestination(socket)).toEqual({ ip: '127.0.0.1', port });
    expect(peerAddress(socket)).toEqual({ ip: '127.0.0.1', port: client.localPort });
    expect(peerAddress(client)).toEqual(localAddress(socket));
    client.destroy();
    socket.destroy();
    server.close();
  });

  it('takes a number and its owner', () => {
    using listener = openListener({ host: '::1', port: 0 });
    expect(localAddress(listener)).toEqual(localAddress(listener.fd));
    expect(localAddress(listener).ip).toBe('::1');
    expect(() => peerAddress(listener)).toThrow(expect.objectContaining({ code: 'ENOTCONN', syscall: 'getpeername' }));
  });

  it('refuses what has no descriptor, and passes on what the kernel says', () => {
    const closed = expect.objectContaining({ code: 'ERR_SOCKET_CLOSED' });
    expect(() => originalDestination(new Socket())).toThrow(closed);
    expect(() => localAddress(new PassThrough() as unknown as Socket)).toThrow(closed);
    expect(() => originalDestination(1_000_000)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });
});
