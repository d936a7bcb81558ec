import { once } from 'node:events';
import { expect, it } from 'vitest';
import { connect, listen, localAddress, originalDestination, peerAddress } from '../../src/socket/index.ts';
import { describeRequiring } from '../support/require.ts';
import { accepted, deliverMarkedLocally, loadRules, withLab } from './lab.ts';

const tproxy = `
  table inet lab {
    chain prerouting {
      type filter hook prerouting priority mangle;
      socket transparent 1 meta mark set 0x400 accept
      iifname "inside" meta l4proto tcp meta nfproto ipv4 tproxy ip to 127.0.0.1:15001 meta mark set 0x400 accept
      iifname "inside" meta l4proto tcp meta nfproto ipv6 tproxy ip6 to [::1]:15001 meta mark set 0x400 accept
    }
  }`;

describeRequiring('TPROXY', { root: true, tools: ['ip', 'nft'] }, () => {
  it.each([
    { family: 'IPv4', listener: '0.0.0.0', target: '203.0.113.10', client: '10.77.1.1' },
    { family: 'IPv4 on a dual-stack listener', listener: '::', target: '203.0.113.10', client: '10.77.1.1' },
    { family: 'IPv6', listener: '::', target: '2001:db8::10', client: 'fd77:1::1' },
  ])('a transparent listener gets a connection to somebody else, and knows to whom: $family', (row) =>
    withLab(async (lab) => {
      deliverMarkedLocally(lab.proxy);
      loadRules(lab.proxy, tproxy);
      const server = lab.own(
        await listen({ namespace: lab.proxy, host: row.listener, port: 15001, transparent: true }),
      );
      const arriving = accepted(server);
      const client = lab.own(await connect({ namespace: lab.client, host: row.target, port: 80 }));
      const socket = lab.own(await arriving);
      expect(originalDestination(socket)).toEqual({ ip: row.target, port: 80 });
      expect(localAddress(socket)).toEqual({ ip: row.target, port: 80 });
      expect(peerAddress(socket)).toEqual({ ip: row.client, port: client.localPort });
      socket.end('from the proxy');
      expect(String((await once(client, 'data'))[0])).toBe('from the proxy');
    }),
  );

  it('a listener that is not transparent gets nothing (node mode trap 7)', () =>
    withLab(async (lab) => {
      deliverMarkedLocally(lab.proxy);
      loadRules(lab.proxy, tproxy);
      const server = lab.own(await listen({ namespace: lab.proxy, host: '::', port: 15001 }));
      let arrived = false;
      server.on('connection', () => {
        arrived = true;
      });
      await expect(connect({ namespace: lab.client, host: '203.0.113.10', port: 80, timeoutMs: 300 })).rejects.toThrow(
        expect.objectContaining({ code: 'ERR_SOCKET_TIMEOUT' }),
      );
      expect(arrived).toBe(false);
    }));
});

describeRequiring('a spoofed source', { root: true, tools: ['ip', 'nft'] }, () => {
  it.each([
    { family: 'IPv4', target: '10.77.2.2', source: '10.77.1.1' },
    { family: 'IPv6', target: 'fd77:2::2', source: 'fd77:1::1' },
  ])('arrives at the server, and data comes back: $family', ({ target, source }) =>
    withLab(async (lab) => {
      deliverMarkedLocally(lab.proxy);
      loadRules(lab.proxy, tproxy);
      const server = lab.own(await listen({ namespace: lab.server, host: '::', port: 80 }));
      const arriving = accepted(server);
      const options = { namespace: lab.proxy, host: target, port: 80, transparent: true };
      const upstream = lab.own(await connect({ ...options, source: { ip: source, port: 40_123 } }));
      const socket = lab.own(await arriving);
      expect(peerAddress(socket)).toEqual({ ip: source, port: 40_123 });
      socket.write('hello');
      expect(String((await once(upstream, 'data'))[0])).toBe('hello');
    }),
  );

  it('needs transparent: an address that is not ours cannot be bound otherwise', () =>
    withLab(async (lab) => {
      const options = { namespace: lab.proxy, host: '10.77.2.2', port: 80, source: { ip: '10.77.1.1' } };
      await expect(connect(options)).rejects.toThrow(
        expect.objectContaining({ code: 'EADDRNOTAVAIL', syscall: 'bind', op: 'socket.connect' }),
      );
    }));
});
