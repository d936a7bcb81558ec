import { afterEach, beforeEach, expect, it } from 'vitest';
import { libc, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET } from '../../src/system/index.ts';
import { Joined, Mesh } from './mesh.ts';
import { receiveNow } from './sockets.ts';

const SIBLINGS = 50;
const ROUNDS = 10;

let mesh: Mesh;
beforeEach(() => {
  mesh = new Mesh();
});
afterEach(() => mesh[Symbol.dispose]());

it(`a stream that fills the tunnel whenever there is room does not starve ${SIBLINGS} that have a word to say`, () => {
  // As behind a slow wire: a little goes out each turn, the ring is full nearly always, and the window never used up.
  libc().setsockopt(mesh.listener.fd, SOL_SOCKET, SO_RCVBUF, Int32Array.of(32 << 10), 4);
  const { tunnel } = mesh.client();
  libc().setsockopt(tunnel.fd, SOL_SOCKET, SO_SNDBUF, Int32Array.of(32 << 10), 4);
  mesh.until(() => tunnel.state === 'open');
  const [greedy, ...siblings] = Array.from({ length: SIBLINGS + 1 }, () => new Joined(mesh)) as [Joined, ...Joined[]];
  for (const each of [greedy, ...siblings]) {
    each.attach(false);
    tunnel.open(each.stream, '127.0.0.1:80', []);
  }
  mesh.until(() => mesh.inbound.length === SIBLINGS + 1);
  const [drain, ...readers] = mesh.inbound as [Joined, ...Joined[]];
  const chunk = Buffer.alloc(64 << 10, 7);
  const flood = () => {
    while (libc().sendData(greedy.app, chunk, chunk.length, 0) === chunk.length);
    while (Buffer.isBuffer(receiveNow(drain.app, 1 << 20)));
  };
  let full = 0;
  mesh.until(() => {
    flood();
    if (tunnel.room() === 0) full++;
    return full > 100;
  });
  for (let round = 0; round < ROUNDS; round++) {
    const before = greedy.stream.bytesToTunnel;
    for (const each of siblings) each.write('a word');
    const heard = new Set<Joined>();
    mesh.until(() => {
      flood();
      for (const each of readers) if (`${receiveNow(each.app)}` === 'a word') heard.add(each);
      return heard.size === SIBLINGS;
    });
    // Nobody waits for more than what fits into the ring, a few times over.
    expect(greedy.stream.bytesToTunnel - before).toBeLessThan(8 << 20);
  }
  tunnel.close();
});
