import { constants as fs } from 'node:fs';
import { constants as os } from 'node:os';
import { describe, expect, it } from 'vitest';
import * as system from '../../src/system/index.ts';

const ours = Object.entries(system).flatMap(([name, value]) =>
  typeof value === 'number' ? [[name, value] as const] : [],
);

describe('constants', () => {
  it.each([
    ['errno', os.errno as Record<string, number>, 20],
    ['open flags', fs as unknown as Record<string, number>, 4],
  ])('agree with those that Node was compiled with: %s', (_what, theirs, least) => {
    const common = ours.filter(([name]) => name in theirs);
    expect(common.length).toBeGreaterThan(least);
    expect(Object.fromEntries(common)).toEqual(Object.fromEntries(common.map(([name]) => [name, theirs[name]])));
  });

  it('SO_DOMAIN and friends are what this kernel understands', () => {
    const { libc, AF_INET6, SOCK_STREAM, SOL_SOCKET, SO_DOMAIN } = system;
    using socket = new system.FileDescriptor(libc().socket(AF_INET6, SOCK_STREAM, 0), 'socket');
    const value = new Int32Array(1);
    expect(libc().getsockopt(socket.fd, SOL_SOCKET, SO_DOMAIN, value, new Int32Array([4]))).toBe(0);
    expect(value[0]).toBe(AF_INET6);
  });
});
