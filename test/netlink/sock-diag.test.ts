import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { FakeNetlink, listTcpSockets, messageTypeName, openNetlink, TCP_STATES } from '../../src/netlink/index.ts';
import { decodeTcpSocket, encodeListTcp } from '../../src/netlink/sock-diag.ts';
import { openConnections, readProcNetTcp } from '../../src/redirection/open-connections.ts';
import { connect, listen } from '../../src/socket/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';
import { hex } from './golden.ts';

/** `struct inet_diag_msg`: family, state, timer, retrans; ports; addresses; the rest, with inode 4711 at its end. */
const answer = (family: string, ports: string, source: string, destination: string) =>
  hex(`${family}010000 ${ports} ${source.padEnd(32, '0')} ${destination.padEnd(32, '0')}
    00000000 ffffffff ffffffff 00000000 00000000 00000000 00000000 67120000`);

describe('encodeListTcp', () => {
  it('is TCPDIAG_GETSOCK with struct inet_diag_req (linux/inet_diag.h)', () => {
    const request = encodeListTcp(['ESTABLISHED', 'LISTEN', 'NEW_SYN_RECV']);
    // Length 76, TCPDIAG_GETSOCK, NLM_F_DUMP; family and lengths; no socket in particular; states 1, 10 and 12.
    expect(request.toString('hex', 0, 8)).toBe('4c00000012000003');
    expect(request.toString('hex', 16)).toBe(`00000000 ${'00'.repeat(48)} 02140000 00000000`.replaceAll(' ', ''));
  });
});

describe('decodeTcpSocket', () => {
  it('reads both families, and v4-mapped as IPv4', () => {
    expect(decodeTcpSocket(answer('02', 'd4310050', '0a010002', '0a010001'))).toEqual({
      state: TCP_STATES.ESTABLISHED,
      local: { ip: '10.1.0.2', port: 54321 },
      remote: { ip: '10.1.0.1', port: 80 },
      inode: 4711,
    });
    const v6 = answer('0a', '0050d431', 'fd000001000000000000000000000002', 'fd000001000000000000000000000001');
    expect(decodeTcpSocket(v6)).toMatchObject({ local: { ip: 'fd00:1::2' }, remote: { ip: 'fd00:1::1' } });
    const mapped = answer('0a', '0050d431', '00000000000000000000ffff0a010002', '00000000000000000000ffff0a010001');
    expect(decodeTcpSocket(mapped)).toMatchObject({ local: { ip: '10.1.0.2' }, remote: { ip: '10.1.0.1' } });
  });

  it('refuses what is too short', () => {
    expect(() => decodeTcpSocket(Buffer.alloc(71))).toThrow(expect.objectContaining({ code: 'ERR_NETLINK_MALFORMED' }));
  });
});

describe('listTcpSockets', () => {
  it('names itself where the kernel has no CONFIG_INET_DIAG', () => {
    const netlink = new FakeNetlink(() => 2);
    expect(() => listTcpSockets(netlink, ['ESTABLISHED'])).toThrow(
      expect.objectContaining({ code: 'ENOENT', op: 'sockDiag.listTcp' }),
    );
    const willing = new FakeNetlink();
    expect(listTcpSockets(willing, ['ESTABLISHED'])).toEqual([]);
    expect(willing.requests.map(({ type }) => messageTypeName(type, 'sock-diag'))).toEqual(['TCPDIAG_GETSOCK']);
  });
});

describeRequiring('sockets of the kernel', { root: true, tools: ['ip', 'ss'] }, () => {
  it('are those of ss and of /proc/net/tcp, and those of no other namespace', async () => {
    await withNamespaces(['sockets', 'others'], async (...namespaces) => {
      const open: { destroy(): unknown }[] = [];
      try {
        for (const namespace of namespaces) {
          runIn(namespace, 'ip', 'link', 'set', 'lo', 'up');
          // Dual-stack, so that one end of the IPv4 connection is a v4-mapped one.
          const server = await listen({ namespace, host: '::', port: 7000 });
          open.push({ destroy: () => server.close() });
          for (const host of ['127.0.0.1', '::1']) {
            const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve));
            open.push(await connect({ namespace, host, port: 7000 }), await accepted);
          }
        }
        const [namespace] = namespaces;
        using netlink = openNetlink({ family: 'sock-diag', namespace: namespace! });
        const text = (ip: string, port: number) => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);
        const lines = (sockets: ReturnType<typeof openConnections>) =>
          sockets.map(({ local, remote }) => `${text(local.ip, local.port)} ${text(remote.ip, remote.port)}`).sort();
        const ss = runIn(namespace!, 'ss', '-Htn', 'state', 'established')
          .trim()
          .split('\n')
          .map((line) =>
            line
              .split(/\s+/)
              .slice(2, 4)
              .join(' ')
              .replaceAll(/\[::ffff:([\d.]+)\]/g, '$1'),
          );
        expect(ss).toHaveLength(4);
        expect(lines(listTcpSockets(netlink, ['ESTABLISHED']))).toEqual(ss.sort());
        expect(lines(openConnections(namespace!))).toEqual(ss);
        expect(lines(readProcNetTcp(namespace!))).toEqual(ss);
        expect(listTcpSockets(netlink, ['LISTEN']).map(({ local }) => local.port)).toEqual([7000]);
      } finally {
        for (const one of open) one.destroy();
      }
    });
  });
});
