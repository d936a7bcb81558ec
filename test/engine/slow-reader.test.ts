import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { libc, SO_RCVBUF, SOL_SOCKET } from '../../src/system/index.ts';
import { Joined, Mesh } from './mesh.ts';
import { receiveNow } from './sockets.ts';

const MIB = 1 << 20;
const WINDOW = MIB;
const SIBLINGS = 50;
const EACH = 2 * MIB;

let mesh: Mesh;
beforeEach(() => {
  mesh = new Mesh({ clientHttp2: { initialWindowBytes: WINDOW } });
});
afterEach(() => mesh[Symbol.dispose]());

describe('a reader that does not read (RFC 9113 section 5.2)', () => {
  it(`costs its own stream one window, while ${SIBLINGS} siblings of the same tunnel move ${EACH / MIB} MiB each`, () => {
    const { tunnel } = mesh.client();
    mesh.until(() => tunnel.state === 'open');
    const slow = new Joined(mesh, { smallBuffers: true });
    libc().setsockopt(slow.app, SOL_SOCKET, SO_RCVBUF, Int32Array.of(16_384), 4);
    const siblings = Array.from({ length: SIBLINGS }, () => new Joined(mesh));
    for (const each of [slow, ...siblings]) {
      each.attach(false);
      tunnel.open(each.stream, '127.0.0.1:80', []);
    }
    mesh.until(() => mesh.inbound.length === SIBLINGS + 1);

    const chunk = Buffer.alloc(64 << 10, 7);
    const send = (joined: Joined) => {
      while (libc().sendData(joined.app, chunk, chunk.length, 0) === chunk.length);
    };
    const [slowSource, ...sources] = mesh.inbound as [Joined, ...Joined[]];
    // The slow one first, until no more of it comes.
    let before = -1;
    let quiet = 0;
    mesh.until(() => {
      send(slowSource);
      quiet = slow.stream.bytesFromTunnel === before ? quiet + 1 : 0;
      before = slow.stream.bytesFromTunnel;
      return before > 0 && quiet > 20;
    });
    const held = slow.stream.bytesFromTunnel;
    // Beside the window only what the kernel took on the way to the application.
    expect(held).toBeLessThan(WINDOW + 256 * 1024);

    const moved = new Map(siblings.map((each) => [each, 0]));
    mesh.until(() => {
      send(slowSource);
      for (const each of sources) libc().sendData(each.app, chunk, chunk.length, 0);
      let done = true;
      for (const [each, bytes] of moved) {
        const got = receiveNow(each.app, 256 << 10);
        const total = bytes + (Buffer.isBuffer(got) ? got.length : 0);
        moved.set(each, total);
        if (total < EACH) done = false;
      }
      return done;
    }, 20_000);
    expect(slow.stream.bytesFromTunnel).toBe(held);
    expect(slow.closed).toBe(false);
    // And is served when it wakes up.
    expect(slow.read(held + MIB).length).toBeGreaterThanOrEqual(held + MIB);
    tunnel.close();
  });
});
