import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { type HboneStream, relay } from '../../src/hbone/index.ts';
import { listening, type Pair, pair } from './mesh.ts';

async function sockets(): Promise<[near: Socket, far: Socket]> {
  const server = createServer({ allowHalfOpen: true });
  const port = await listening(server);
  const far = connect({ port, host: '127.0.0.1', allowHalfOpen: true }).on('error', () => {});
  const [near] = (await once(server, 'connection')) as [Socket];
  server.close();
  return [near, far];
}

async function streams(mesh: Pair): Promise<[client: HboneStream, server: HboneStream]> {
  const accepted = Promise.withResolvers<HboneStream>();
  mesh.server.once('tunnel', (request) => accepted.resolve(request.accept()));
  return [await mesh.open(), await accepted.promise];
}

describe('relay', () => {
  it('tells how much went through, when both directions have ended', async () => {
    await using mesh = await pair();
    const [client, server] = await streams(mesh);
    const [near, far] = await sockets();
    const relayed = relay(near, client);
    far.end('12345');
    expect(await text(server)).toBe('12345');
    server.end('12345678');
    expect(await text(far)).toBe('12345678');
    expect(await relayed).toEqual({ bytesToTunnel: 5, bytesFromTunnel: 8 });
    expect([near.destroyed, client.destroyed]).toEqual([true, true]);
  });

  it('a reset of the socket: fails with the cause, and resets the stream with CONNECT_ERROR', async () => {
    await using mesh = await pair();
    const [client, server] = await streams(mesh);
    const [near, far] = await sockets();
    const failed = expect(relay(near, client)).rejects.toMatchObject({
      code: 'ERR_HBONE_STREAM_CLOSED',
      cause: { code: 'ECONNRESET' },
    });
    const reset = once(server, 'error');
    far.resetAndDestroy();
    await failed;
    expect((await reset)[0]).toMatchObject({ errorCode: 10 });
  });

  it('a reset of the stream: fails with it, and resets the socket', async () => {
    await using mesh = await pair();
    const [client, server] = await streams(mesh);
    const [near, far] = await sockets();
    const failed = expect(relay(near, client)).rejects.toMatchObject({ code: 'ERR_HBONE_STREAM_RESET', errorCode: 8 });
    far.resume();
    server.destroy();
    await failed;
    await expect(once(far, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('one that is destroyed already takes the other with it', async () => {
    await using mesh = await pair();
    const [client, server] = await streams(mesh);
    const [near, far] = await sockets();
    server.on('error', () => {});
    client.destroy();
    far.resume();
    await expect(relay(near, client)).rejects.toMatchObject({ code: 'ERR_HBONE_STREAM_CLOSED' });
    await expect(once(far, 'end')).rejects.toMatchObject({ code: 'ECONNRESET' });
    const [next, nextFar] = await streams(mesh);
    const reset = once(nextFar, 'error');
    await expect(relay(near, next)).rejects.toMatchObject({ code: 'ERR_HBONE_STREAM_CLOSED' });
    expect((await reset)[0]).toMatchObject({ code: 'ERR_HBONE_STREAM_RESET' });
  });
});
