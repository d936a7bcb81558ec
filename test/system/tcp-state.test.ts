import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { F_DUPFD_CLOEXEC, FileDescriptor, libc, O_CLOEXEC, tcpClosed } from '../../src/system/index.ts';

const fdOf = (socket: unknown) => (socket as { _handle: { fd: number } })._handle.fd;

describe('tcpClosed', () => {
  it('is false from connect to the end of both directions, true after a reset, and true for what is no TCP socket', async () => {
    const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true });
    const [accepted] = await once(server, 'connection');
    await once(client, 'connect');
    client.on('error', () => {});
    accepted.on('error', () => {});
    expect([tcpClosed(fdOf(client)), tcpClosed(fdOf(accepted))]).toEqual([false, false]);
    client.end();
    await once(accepted.resume(), 'end');
    expect([tcpClosed(fdOf(client)), tcpClosed(fdOf(accepted))]).toEqual([false, false]);

    // A duplicate, since node closes its own at once when the reset comes.
    using duplicate = new FileDescriptor(libc().fcntl(fdOf(client), F_DUPFD_CLOEXEC, 0), 'duplicate');
    accepted.resetAndDestroy();
    await new Promise((resolve) => client.resume().once('close', resolve));
    expect(tcpClosed(duplicate.fd)).toBe(true);
    server.close();

    const ends = new Int32Array(2);
    libc().pipe2(ends, O_CLOEXEC);
    using reader = new FileDescriptor(ends[0]!, 'reader');
    using _writer = new FileDescriptor(ends[1]!, 'writer');
    expect(tcpClosed(reader.fd)).toBe(true);
  });
});
